"""``launch fit RECIPE``: will a training fit into memory, what takes how much, and what would help."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from launcher import paths, recipe, settings
from launcher.cli import ui
from launcher.cli.run import parse_nproc, recipe_option, repeated
from launcher.recipe import Recipe

if TYPE_CHECKING:
    from launcher.app.fit import Fitting
    from launcher.fit import Estimate
    from launcher.plan import RunPlan
    from launcher.progress import RunView

_LAUNCHER = "Launcher options"

_COLOURS = {"fits": "green", "tight": "yellow", "does not fit": "red", "unknown": "cyan"}

#: Cells of the picture.
_WIDTH = 60


def _options() -> list[click.Parameter]:
    """What every recipe shares."""

    def option(*names: str, help: str, **more: Any) -> click.RichOption:
        return click.RichOption(names, help=help, panel=_LAUNCHER, **more)

    return [
        option("--model", metavar="ID_OR_PATH", help="Model to start from; only its config.json is read."),
        option("--target", metavar="auto|cpu|cuda|cuda-vllm|xpu", help="The accelerator's environment."),
        option(
            "--gpu",
            metavar="NAME|SIZE",
            help="a10g, b60, h200, … or a memory such as 24GB; without it, this machine's.",
        ),
        option(
            "--data",
            type=click.Path(path_type=Path),
            multiple=True,
            help="Texts that are shorter than the lengths allow bound the estimate.",
        ),
        option(
            "--nproc", metavar="N|auto", help="Processes, one device each; auto: one per accelerator here."
        ),
        option(
            "--probe", is_flag=True, help="Run two steps at full length, and correct the estimate by them."
        ),
        option(
            "--engine",
            type=click.Choice(["auto", "docker", "podman", "venv"]),
            help="With --probe: container or embedded environment.",
        ),
        option("--json", "as_json", is_flag=True, help="Print the figures as JSON."),
    ]


class _FitCommand(click.RichCommand):
    """One recipe."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Let ``--data a b`` be two."""
        return super().parse_args(ctx, list(repeated("--data", args)))


class _Recipes(click.RichGroup):
    """The recipes whose memory is counted, as subcommands; any path to a recipe works too."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The recipes that ship, and either train or run a language model."""
        shipped = (recipe.load(path) for path in recipe.catalogue(paths.recipes()))
        return [found.name for found in shipped if found.launch == "torchrun" or found.fit]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a recipe."""
        found = recipe.load(recipe.find(cmd_name, paths.recipes()))
        language = ui.language()

        def callback(**options: Any) -> None:
            _fit(found, options)

        return _FitCommand(
            name=cmd_name,
            params=[*_options(), *(recipe_option(item, language) for item in found.parameters)],
            callback=callback,
            help=f"{found.summary.in_language(language)}: will it fit into memory?",
            short_help=found.summary.in_language(language),
            context_settings={"help_option_names": ["-h", "--help"]},
        )


@click.command(cls=_Recipes, invoke_without_command=True, subcommand_metavar="RECIPE [OPTIONS]")
@click.pass_context
def command(context: click.Context) -> None:
    """Say whether a training, or a language model, fits into memory, before anything is loaded.

    Exit code 0: it fits, it is tight, or nobody knows; 79: it does not fit. What is counted, and how far the
    figures can be trusted: docs/fit.md.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _fit(found: Recipe, options: dict[str, Any]) -> None:
    from launcher.app import fit
    from launcher.errors import OutOfMemoryError

    request = fit.Request(
        recipe=str(found.path),
        target=options["target"],
        model=options["model"],
        gpu=options["gpu"],
        data=options["data"],
        nproc=parse_nproc(options["nproc"]),
        engine=options["engine"],
        parameters={p.name: options[p.name] for p in found.parameters if options[p.name] is not None},
    )
    fitting = fit.judge(request, settings.load())
    if options["probe"]:
        fitting = _probed(fitting)
    if options["as_json"]:
        ui.print_json(_as_data(fitting))
    else:
        _print(fitting)
    if fitting.estimate.verdict == "does not fit":
        sys.exit(OutOfMemoryError.exit_code)


def _probed(fitting: "Fitting") -> "Fitting":
    """Measure, then judge again."""
    from launcher.app import fit

    with ui.TerminalProgress() as progress:
        fit.measure(fitting, settings.load(), progress=progress, watch=_watch)
    return fit.judge(fitting.request, settings.load())


@contextmanager
def _watch(plan: "RunPlan") -> "Iterator[RunView]":
    from launcher.cli.live import LiveView

    ui.note(f"probe: {plan.recipe} on {plan.target} ({ui.where(plan.image)})")
    with LiveView(plan.recipe, output=False) as view:
        yield view


def _print(fitting: "Fitting") -> None:
    """Verdict, picture, parts, limits, changes."""
    from rich.markup import escape

    from launcher.app.fit import gib

    for note in fitting.notes:
        ui.note(note)
    estimate, step = fitting.estimate, fitting.setup
    colour = _COLOURS[estimate.verdict]
    memory = "unknown memory" if estimate.memory is None else f"{gib(estimate.memory)} GiB"
    ui.out.print(
        f"[bold {colour}]{estimate.verdict}[/]: about [bold]{gib(estimate.total)} GiB[/] on "
        f"{escape(fitting.where)} ({memory}), most at the {estimate.moment}",
        soft_wrap=True,
    )
    lengths = f"{step.query_length}+{step.passage_length}" if step.query_length else f"{step.passage_length}"
    group = f"group {step.group}, " if step.group > 1 else ""
    size = f"batch {step.batch}, {group}{lengths} tokens, {step.precision}"
    answers = f"; {lengths} tokens" if step.generated else ""
    trained = f", {estimate.trained:,} trained; a step of {size}" if step.trains else answers
    ui.out.print(
        f"{escape(fitting.model)}: {estimate.parameters:,} parameters{trained}, "
        f"on {step.world} device{'s' if step.world > 1 else ''}",
        soft_wrap=True,
    )
    _picture(estimate)
    _limits(fitting)
    _changes(fitting)


def _picture(estimate: "Estimate") -> None:
    """One bar per part, on the scale of the device or of the total."""
    from rich.table import Table

    from launcher.app.fit import gib

    whole = max(estimate.total, estimate.memory or 0)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column("part")
    table.add_column("GiB", justify="right")
    table.add_column("bar")
    for part in sorted(estimate.parts, key=lambda part: -part.bytes):
        table.add_row(part.name, gib(part.bytes, 2), _bar(part.bytes / whole, "blue"))
    colour = _COLOURS[estimate.verdict]
    table.add_row("[bold]all[/]", f"[bold]{gib(estimate.total, 2)}[/]", _bar(estimate.total / whole, colour))
    if estimate.memory is not None:
        table.add_row("device", gib(estimate.memory, 2), _bar(estimate.memory / whole, "bright_black"))
    ui.out.print(table)


def _bar(share: float, colour: str) -> str:
    """A part's share of the picture's width; what is there shows at least a sliver."""
    eighths = max(1, round(share * _WIDTH * 8))
    return f"[{colour}]{'█' * (eighths // 8)}{' ▏▎▍▌▋▊▉'[eighths % 8].strip()}[/]"


def _limits(fitting: "Fitting") -> None:
    """What is not known, or not used by this recipe, is not said."""
    advised = fitting.advice
    sizes = (("per_device_train_batch_size", advised.batch), (advised.length_name, advised.length))
    known = [f"--{name.replace('_', '-')} {size or 'none'}" for name, size in sizes if size is not None]
    if known:
        ui.out.print(f"largest that fits, all else equal: {'; '.join(known)}", soft_wrap=True)


def _changes(fitting: "Fitting") -> None:
    """What would make it smaller, the cheapest first; and the one to take."""
    from rich.table import Table

    from launcher.app.fit import gib

    advised = fitting.advice
    if fitting.estimate.verdict in ("fits", "unknown") and not fitting.advice.changes:
        return
    if fitting.estimate.verdict != "fits":
        table = Table(title="what would help", title_justify="left", box=None, pad_edge=False)
        for title in ("option", "GiB", "then", "price"):
            table.add_column(title, justify="right" if title == "GiB" else "left")
        for change in advised.changes:
            verdict = change.estimate.verdict
            table.add_row(
                change.options,
                gib(change.estimate.total),
                f"[{_COLOURS[verdict]}]{verdict}[/]",
                change.price,
            )
        ui.out.print(table)
    if advised.cheapest is not None:
        ui.out.print(f"[green]do[/]: {advised.cheapest.options}   ({advised.cheapest.price})", soft_wrap=True)
    elif fitting.estimate.verdict in ("tight", "does not fit"):
        ui.out.print("[red]nothing that this recipe has makes it fit[/]: a smaller model, or a larger device")


def _as_data(fitting: "Fitting") -> dict[str, object]:
    """Schema 1; sizes in bytes, of one device."""
    from dataclasses import asdict

    from launcher.fit.advice import as_data

    estimate, advised = fitting.estimate, fitting.advice
    return {
        "schema": 1,
        "recipe": fitting.recipe.name,
        "model": fitting.model,
        "target": fitting.target,
        "device": fitting.where,
        "memory": estimate.memory,
        "verdict": estimate.verdict,
        "bytes": round(estimate.total),
        "moment": estimate.moment,
        "parts": {part.name: round(part.bytes) for part in estimate.parts},
        "parameters": estimate.parameters,
        "trained": estimate.trained,
        "setup": asdict(fitting.setup),
        "largest": {"per_device_train_batch_size": advised.batch, advised.length_name: advised.length},
        "cheapest": as_data(advised.cheapest) if advised.cheapest else None,
        "changes": [as_data(change) for change in advised.changes],
        "probe": {"before": estimate.probe.before, "peak": estimate.probe.peak, "when": estimate.probe.when}
        if estimate.probe
        else None,
        "notes": list(fitting.notes),
    }
