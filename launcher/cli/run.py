"""``launch run RECIPE``: the launcher's options, then the recipe's own, typed, from its header."""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from launcher import paths, recipe, settings
from launcher.cli import sites, ui, variables, watching
from launcher.errors import UsageError
from launcher.recipe import Parameter, Recipe

if TYPE_CHECKING:
    from launcher.app import plan as planning

_LAUNCHER = "Launcher options"


def launcher_options() -> list[click.Parameter]:
    """What every recipe shares."""

    def option(*names: str, help: str, **more: Any) -> click.RichOption:
        return click.RichOption(names, help=help, panel=_LAUNCHER, **more)

    return [
        option("--target", metavar="auto|cpu|cuda|cuda-vllm|xpu", help="The accelerator's environment."),
        option(
            "--engine",
            type=click.Choice(["auto", "docker", "podman", "venv", "slurm", "kubernetes"]),
            help="Container, embedded environment, or the site's scheduler.",
        ),
        option(
            "--data", type=click.Path(path_type=Path), multiple=True, help="File or folder; may be repeated."
        ),
        option("--model", metavar="ID_OR_PATH", help="Model to start from."),
        option(
            "--output", type=click.Path(path_type=Path), help="Folder of the result; must be empty or new."
        ),
        option(
            "--gpus",
            metavar="auto|all|0,1",
            help="GPUs; auto: CUDA_VISIBLE_DEVICES (Intel: ZE_AFFINITY_MASK), or all.",
        ),
        option("--nproc", metavar="N|auto", help="Processes on each node; auto: one per accelerator."),
        option("--nodes", type=click.IntRange(1), default=1, help="Machines that the run takes."),
        option(
            "--env",
            multiple=True,
            metavar="K=V|K",
            help="Variable for the run; K alone is a secret: of the shell, .env or keyring, unrecorded.",
        ),
        option("--env-file", type=click.Path(path_type=Path), multiple=True, help="Secrets, never recorded."),
        option("--memory", metavar="SIZE", default="", help="Limit of RAM, e.g. 16g (containers)."),
        option("--shm-size", metavar="SIZE", default="", help="Size of /dev/shm, e.g. 8g (containers)."),
        option(
            "--network",
            type=click.Choice(["none", "bridge"]),
            default="none",
            help="Network of the container.",
        ),
        option(
            "--max-restarts",
            type=click.IntRange(0),
            default=0,
            help="How often to start again, from the last complete checkpoint, after a crash.",
        ),
        option("--detach", is_flag=True, help="Start it in the background, and print its folder."),
        option(
            "--no-preflight",
            is_flag=True,
            help="Judge no rows, and start whatever memory and machine are like; recorded.",
        ),
        option("--dry-run", is_flag=True, help="Print the request and the plan; start nothing."),
        option("--json", "as_json", is_flag=True, help="Print the result (or the dry run) as JSON."),
        option("--show-output", is_flag=True, help="Show the recipe's own output, not only its progress."),
        *sites.options(),
    ]


def recipe_option(parameter: Parameter, language: str) -> click.RichOption:
    kind = "ID_OR_PATH" if parameter.type == "model" else parameter.type.upper()
    metavar = "|".join(parameter.choices) or kind
    return click.RichOption(
        (parameter.option, parameter.name),
        metavar=metavar,
        help=parameter.help.in_language(language),
        show_default=parameter.default_text() or False,
        panel="Recipe options",
    )


class RecipeCommand(click.RichCommand):
    """One recipe; what follows ``--`` is left to the trainer."""

    raw: tuple[str, ...] = ()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Cut the raw trainer arguments off before Click sees them."""
        if "--" in args:
            cut = args.index("--")
            args, self.raw = args[:cut], tuple(args[cut + 1 :])
        return super().parse_args(ctx, list(repeated("--data", args)))


def repeated(option: str, args: list[str]) -> Iterator[str]:
    """``--data a b`` as ``--data a --data b``, so that a shell's ``--data rows/*.jsonl`` works."""
    taking = False
    for position, arg in enumerate(args):
        if arg.startswith("-"):
            taking = arg == option
        elif taking and args[position - 1] != option:
            yield option
        yield arg


class Recipes(click.RichGroup):
    """The catalogue as subcommands; any path to a recipe works too."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The recipes that ship."""
        return [path.stem for path in recipe.catalogue(paths.recipes())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a recipe."""
        found = recipe.load(recipe.find(cmd_name, paths.recipes()))
        language = ui.language()

        def callback(**options: Any) -> None:
            _run(found, options, made.raw)

        made = RecipeCommand(
            name=cmd_name,
            params=[*launcher_options(), *(recipe_option(item, language) for item in found.parameters)],
            callback=callback,
            help=recipe_help(found, language),
            short_help=found.summary.in_language(language),
            context_settings={"help_option_names": ["-h", "--help"]},
        )
        return made


def recipe_help(found: Recipe, language: str) -> str:
    """What a recipe does, reads and writes, for its ``--help``."""
    lines = [f"{found.summary.in_language(language)}."]
    if found.data:
        lines.append(f"--data: {found.data.help.in_language(language)}.")
    if found.model:
        default = f" [{found.model.default}]" if found.model.default else ""
        lines.append(f"--model: {found.model.help.in_language(language)}{default}.")
    lines += [f"--output: {found.outputs.in_language(language)}.", f"Targets: {', '.join(found.targets)}."]
    return "\n\n".join([*lines, "What follows -- goes to the trainer as it is."])


@click.command(
    cls=Recipes,
    invoke_without_command=True,
    subcommand_metavar="RECIPE [OPTIONS] [-- TRAINER ARGUMENTS]",
)
@click.option(
    "--plan", type=click.Path(path_type=Path, exists=True), help="Repeat a plan, as plan.json has it."
)
@click.option("--output", type=click.Path(path_type=Path), help="With --plan: another folder for the result.")
@click.option("--env", multiple=True, metavar="K=V|K", help="With --plan: the secrets that it names.")
@click.option(
    "--env-file", type=click.Path(path_type=Path), multiple=True, help="With --plan: a file of them."
)
@click.option("--json", "as_json", is_flag=True, help="With --plan: print the result as JSON.")
@click.option(
    "--begun", hidden=True, type=click.Path(path_type=Path), help="Folder of a run that was detached."
)
@click.option("--attempt", hidden=True, type=int, default=1, help="With --begun: which start this is.")
@click.option("--checkpoint", hidden=True, default="", help="With --begun: what it goes on from.")
@click.option("--max-restarts", hidden=True, type=int, default=0, help="With --begun: as for a recipe.")
@click.pass_context
def command(
    context: click.Context,
    plan: Path | None,
    output: Path | None,
    env: tuple[str, ...],
    env_file: tuple[Path, ...],
    as_json: bool,
    begun: Path | None,
    attempt: int,
    checkpoint: str,
    max_restarts: int,
) -> None:
    """Run a recipe in the environment that matches the accelerator.

    launch run RECIPE --help shows the recipe's own options.
    """
    if context.invoked_subcommand is not None:
        if plan or begun:
            raise UsageError("--plan names the recipe already")
        if output or env or env_file or as_json:  # they would be lost without a word
            raise UsageError("a recipe's options follow its name", hint="launch run RECIPE --output DIR …")
        return
    if begun is not None:
        sys.exit(watching.go_on(begun, attempt=attempt, checkpoint=checkpoint, restarts=max_restarts))
    if plan is None:
        click.echo(context.get_help())
        return
    from launcher.app import execute, preflight
    from launcher.app import plan as planning

    given = variables.read(env, env_file)
    try:
        text = plan.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--plan {plan} cannot be read", why=str(error)) from None
    with ui.TerminalProgress() as progress:
        planned = planning.read(text, str(plan), given.all, output=output, progress=progress)
    for note in (*given.notes, *planned.notes, *preflight.ready(planned, dry_run=False)):
        ui.note(note)
    sys.exit(watching.watch(execute.begin(planned), as_json=as_json, show_output=False))


def _run(found: Recipe, options: dict[str, Any], arguments: tuple[str, ...]) -> None:
    """Plan, then print or run."""
    from launcher.app import execute, preflight
    from launcher.app import plan as planning

    request = request_of(found, options, arguments)
    with ui.TerminalProgress() as progress:
        planned = planning.make(request, settings.load(), dry_run=options["dry_run"], progress=progress)
    said = preflight.ready(planned, dry_run=options["dry_run"])
    planned = replace(planned, notes=(*planned.notes, *said))
    for note in planned.notes:
        ui.note(note)
    if options["dry_run"]:
        _print_dry_run(planned, as_json=options["as_json"])
        return
    begun, restarts = execute.begin(planned), options["max_restarts"]
    if options["detach"]:
        watching.detach(begun, restarts=restarts)
    else:
        output = options["show_output"] or found.launch == "python"
        sys.exit(watching.watch(begun, as_json=options["as_json"], show_output=output, restarts=restarts))


def request_of(found: Recipe, options: Mapping[str, Any], arguments: tuple[str, ...]) -> "planning.Request":
    """What the options of a recipe's command ask for."""
    from launcher.app import plan as planning

    given = variables.read(options["env"], options["env_file"])
    site, nodes, slots = sites.machines(options)
    return planning.Request(
        recipe=str(found.path),
        target=options["target"],
        engine=options["engine"],
        data=options["data"],
        model=options["model"],
        output=options["output"],
        nproc=slots or parse_nproc(options["nproc"]),
        gpus=options["gpus"],
        memory=options["memory"],
        shm_size=options["shm_size"],
        network=options["network"],
        parameters={p.name: options[p.name] for p in found.parameters if options[p.name] is not None},
        arguments=arguments,
        env=given.plain,
        secrets=given.secrets,
        said=given.notes,
        preflight=not options["no_preflight"],
        language=ui.language(),
        nodes=nodes,
        site=site,
    )


def parse_nproc(text: str | None) -> int | None:
    if text in (None, "auto"):
        return None
    if not str(text).isdecimal() or int(str(text)) < 1:
        raise UsageError(f"--nproc takes a number of processes or auto, not {text!r}")
    return int(str(text))


def _print_dry_run(planned: Any, *, as_json: bool) -> None:
    """The request as a line to paste, and the plan; a copy of what a start would use."""
    from launcher import plan as plans
    from launcher import process, runs

    run_id = "RUN_ID"
    place = runs.folders(run_id, planned.plan)
    line = planned.engine.render(planned.plan, place, plans.Start(run=run_id)).printed()
    folders = process.printed(["mkdir", "-p", *map(str, (place.run / "scratch", place.output, place.home))])
    text = plans.to_json(planned.plan)
    if as_json:
        ui.print_json(
            {
                "schema": 1,
                "folders": folders,
                "command": line,
                "plan": json.loads(text),
                "notes": list(planned.notes),
            }
        )
        return
    said = "# the request; RUN_ID stands for the run's own name\n"
    if names := planned.plan.secrets:
        said += (
            f"# {', '.join(names)}: of this shell; the line makes a file of them, and removes it at the end\n"
        )
    click.echo(f"{said}{folders}\n{line}\n\n# the plan\n{text}", nl=False)
