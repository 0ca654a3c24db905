"""``launch sweep RECIPE``: every combination of some values, one run after the other."""

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from launcher import paths, recipe, texts
from launcher.cli import run, ui, variables, watching
from launcher.errors import EngineGoneError, GridError, LaunchError, UsageError
from launcher.recipe import Recipe

if TYPE_CHECKING:
    from launcher.app.sweep import Sweep

_PANEL = "Sweep options"

#: Options of a run that a sweep has not: its results lie in the records, and it stays with its terminal.
_WITHOUT = ("output", "detach", "dry_run", "max_restarts")


def _options() -> list[click.Parameter]:
    def option(*names: str, help: str, **more: Any) -> click.RichOption:
        return click.RichOption(names, help=help, panel=_PANEL, **more)

    return [
        option(
            "--grid",
            multiple=True,
            metavar="NAME=V1,V2",
            help='Values of a parameter, or of target, model, nproc, gpus; "a,b" is one. Repeatable.',
        ),
        option(
            "--repeat",
            type=click.IntRange(1),
            default=1,
            help="Runs of each variant; the seed is counted up, so that they spread.",
        ),
        option("--fail-fast", is_flag=True, help="End with the first variant that is refused or fails."),
        option("--dry-run", is_flag=True, help="Print the variants and what is refused; start nothing."),
        *(each for each in run.launcher_options() if each.name not in _WITHOUT),
    ]


class _Recipes(run.Recipes):
    """The recipes, as variants of them are tried."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a recipe."""
        found = recipe.load(recipe.find(cmd_name, paths.recipes()))
        language = ui.language()

        def callback(**options: Any) -> None:
            _sweep(found, options, made.raw)

        made = run.RecipeCommand(
            name=cmd_name,
            params=[*_options(), *(run.recipe_option(item, language) for item in found.parameters)],
            callback=callback,
            help=run.recipe_help(found, language),
            short_help=found.summary.in_language(language),
            context_settings={"help_option_names": ["-h", "--help"]},
        )
        return made


@click.command(
    cls=_Recipes,
    invoke_without_command=True,
    subcommand_metavar="RECIPE --grid NAME=V1,V2 [OPTIONS] [-- TRAINER ARGUMENTS]",
)
@click.option("--continue", "folder", metavar="DIR", help="Run what is missing of a sweep: its folder or id.")
@click.option("--env", multiple=True, metavar="K=V|K", help="With --continue: the secrets that it needs.")
@click.option("--env-file", type=click.Path(path_type=Path), multiple=True, help="With --continue.")
@click.option("--fail-fast", is_flag=True, help="With --continue: end with the first variant that fails.")
@click.option("--show-output", is_flag=True, help="With --continue: show the recipe's own output.")
@click.option("--json", "as_json", is_flag=True, help="With --continue: print the results as JSON.")
@click.pass_context
def command(
    context: click.Context,
    folder: str | None,
    env: tuple[str, ...],
    env_file: tuple[Path, ...],
    fail_fast: bool,
    show_output: bool,
    as_json: bool,
) -> None:
    """Run a recipe with every combination of some values, each as a run with its own record.

    All variants are planned and judged before the first one starts; what would be refused is said then, and
    left out. One that fails does not end the others; Ctrl-C ends the run and the sweep, and --continue runs
    what is missing. At the end the runs are compared.

    Exit code 0 when every variant ran well, otherwise that of the first one that did not, also one that was
    refused; 73 when its end is not known.
    """
    if context.invoked_subcommand is not None:
        if folder or env or env_file or fail_fast or show_output or as_json:
            raise UsageError("a recipe's options follow its name", hint="launch sweep RECIPE --grid …")
        return
    if folder is None:
        click.echo(context.get_help())
        return
    from launcher.app import sweep

    given = variables.read(env, env_file)
    for note in given.notes:
        ui.note(note)
    _go(sweep.find(folder), given.all, fail_fast=fail_fast, as_json=as_json, show_output=show_output)


def _sweep(found: Recipe, options: dict[str, Any], arguments: tuple[str, ...]) -> None:
    """Judge every variant, then run what is left."""
    from launcher import sweep as grids
    from launcher.app import sweep

    seed = options.get(grids.SEED)
    names = {parameter.name for parameter in found.parameters}
    given = [name for name in (*grids.OPTIONS, *names) if options.get(name) is not None]
    variants = grids.variants(found, options["grid"], given=given, repeat=options["repeat"], seed=seed)

    def request(variant: grids.Variant) -> Any:
        return run.request_of(found, {**options, "output": None, **dict(variant.values)}, arguments)

    with ui.TerminalProgress() as progress:
        judged = list(sweep.judge(variants, request, progress))
    said: set[str] = set()
    for each in judged:
        notes = [note for note in (each.planned.notes if each.planned else ()) if note not in said]
        said.update(notes)
        for note in notes:
            ui.note(note)
    refused = [f"{each.variant.name}: {sweep.reason(each.error)}" for each in judged if each.error]
    for line in refused:
        ui.err.print(f"[bold red]refused[/] {line}", markup=True, soft_wrap=True)
    if options["dry_run"]:
        _print_dry_run(judged, as_json=options["as_json"])
        return
    if refused and options["fail_fast"]:
        raise GridError("variants would be refused: nothing was started", refused)
    folder = sweep.create(found.name, judged)
    ui.note(f"{len(judged) - len(refused)} of {len(judged)} variants, record in {folder}")
    _go(
        folder,
        variables.read(options["env"], options["env_file"]).secrets,
        fail_fast=options["fail_fast"],
        as_json=options["as_json"],
        show_output=options["show_output"],
    )


def _go(folder: Path, secrets: dict[str, str], *, fail_fast: bool, as_json: bool, show_output: bool) -> None:
    """Run what is missing, then show what came of it."""
    from launcher.app import sweep

    codes: dict[int, int] = {}
    with sweep.lock(folder):
        stopped = _run_missing(folder, secrets, codes, fail_fast=fail_fast, show_output=show_output)
        found = sweep.load(folder)
        lines = sweep.table(folder, found)
    if as_json:
        ui.print_json({"schema": 1, "sweep": folder.name, "folder": folder, "variants": lines})
    else:
        _print(found, lines)
    sys.exit(stopped or sweep.exit_code(lines, codes))


def _run_missing(
    folder: Path, secrets: dict[str, str], codes: dict[int, int], *, fail_fast: bool, show_output: bool
) -> int:
    """The exit code of what was stopped by a signal; 0: nothing was.

    Args:
        codes: gets the codes of errors, by the variant's position: no record has them.
    """
    from launcher import runs
    from launcher.app import sweep

    found = sweep.load(folder)
    todo = sweep.missing(folder, found)
    if todo:
        sweep.refuse_company(folder, found)
    for count, position in enumerate(todo, start=1):
        ui.note(f"variant {count} of {len(todo)}: {found.entries[position].name}")
        stopped = gone = False
        try:
            with ui.TerminalProgress() as progress:
                found, begun = sweep.begin(folder, found, position, secrets, progress)
            ended = watching.watch(begun, as_json=False, show_output=show_output)
            error = str((runs.load(begun.place.run).result or {}).get("error", ""))
            stopped = error.startswith(texts.STOPPED_BY + "SIG")
        except LaunchError as refused:
            ui.print_error(refused)
            ended = codes[position] = refused.exit_code
            # It may still run: another training beside it would share its device.
            gone = isinstance(refused, EngineGoneError)
        except KeyboardInterrupt:  # between two runs
            ended, stopped = 130, True
        if stopped or gone or (ended and fail_fast):
            left = len(todo) - count
            ui.note(f"{left} not run; launch sweep --continue {folder} runs what is missing")
            return ended if stopped else 0
    return 0


def _print(found: "Sweep", lines: list[dict[str, Any]]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("variant", overflow="fold")
    for name in ("state", "steps", "loss", "train loss", "time"):
        table.add_column(name, justify="left" if name == "state" else "right", no_wrap=True)
    table.add_column("run", overflow="fold")
    for line in lines:
        table.add_row(
            escape(line["name"]),
            line["state"],
            "" if line["steps"] is None else str(line["steps"]),
            *("" if line[key] is None else f"{line[key]:.6g}" for key in ("loss", "train_loss")),
            "" if line["seconds"] is None else ui.duration(line["seconds"]),
            escape(line["run"] or line["why"]),
        )
    ui.out.print(table)
    done = [line["run"] for line in lines if line["state"] == "done"]
    if len(done) > 1:
        _compare(done)


def _compare(names: list[str]) -> None:
    """Hand the good runs to ``launch runs compare``."""
    from launcher.cli import runs

    ui.note(f"launch runs compare {' '.join(names)}")
    try:
        importlib.import_module(runs.VERBS["compare"][0]).command.main(names, standalone_mode=False)
    except LaunchError as error:  # the sweep's exit code is that of its runs
        ui.print_error(error)


def _print_dry_run(judged: list[Any], *, as_json: bool) -> None:
    from launcher.app import sweep

    lines = [
        {
            "name": each.variant.name,
            "values": dict(each.variant.values),
            "refused": sweep.reason(each.error) if each.error else "",
        }
        for each in judged
    ]
    if as_json:
        ui.print_json({"schema": 1, "variants": lines})
        return
    for line in lines:
        click.echo(f"{line['name']}{': refused: ' if line['refused'] else ''}{line['refused']}")
