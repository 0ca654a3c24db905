"""``launch export RECIPE --to KIND DIR``: the request of a run as files to keep, and to submit without us."""

from pathlib import Path
from typing import Any

import rich_click as click

from launcher import paths, recipe, settings
from launcher.cli import ui
from launcher.cli.run import RecipeCommand, Recipes, launcher_options, recipe_option, request_of
from launcher.errors import UsageError
from launcher.recipe import Recipe

#: Of `launch run`, what says nothing about the request itself.
_OF_A_START = ("max_restarts", "detach", "dry_run", "show_output")

_KINDS = ("slurm", "kubernetes", "compose", "script")


def _options() -> list[click.Parameter]:
    """Those of a run, and where the files go."""
    to = click.RichOption(
        ("--to",),
        type=(click.Choice(_KINDS), click.Path(path_type=Path)),
        required=True,
        metavar="slurm|kubernetes|compose|script DIR",
        help="What the files are for, and their folder; must be empty or new.",
        panel="Launcher options",
    )
    return [to, *(each for each in launcher_options() if each.name not in _OF_A_START)]


class _Recipes(Recipes):
    """The catalogue as subcommands; any path to a recipe works too."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a recipe."""
        found = recipe.load(recipe.find(cmd_name, paths.recipes()))
        language = ui.language()

        def callback(**options: Any) -> None:
            _export(found, options, made.raw)

        made = RecipeCommand(
            name=cmd_name,
            params=[*_options(), *(recipe_option(item, language) for item in found.parameters)],
            callback=callback,
            help=f"{found.summary.in_language(language)}: its request as files. "
            "What follows -- goes to the trainer as it is.",
            short_help=found.summary.in_language(language),
            context_settings={"help_option_names": ["-h", "--help"]},
        )
        return made


@click.command(
    cls=_Recipes,
    invoke_without_command=True,
    subcommand_metavar="RECIPE --to KIND DIR [OPTIONS] [-- TRAINER ARGUMENTS]",
)
@click.pass_context
def command(context: click.Context) -> None:
    """Write the request of a run as files to keep in git, and to submit without the launcher.

    The options are those of launch run, and so is the planning, as with --dry-run: nothing is started or
    fetched. A README beside the files says what must be there, how to start the run, see, stop and resume it.
    No file holds the value of a secret.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _export(found: Recipe, options: dict[str, Any], arguments: tuple[str, ...]) -> None:
    """Plan, then write."""
    from dataclasses import replace

    from launcher.app import handover, preflight
    from launcher.app import plan as planning

    kind, folder = options["to"]
    if found.data and not options["data"]:
        raise UsageError(f"{found.name} needs --data PATH", why=found.data.help.en)
    if options["hostfile"] is not None:
        raise UsageError(
            "--hostfile goes with launch run",
            why="a scheduler has its own list of machines, and a script is started by hand on each",
            hint=f"--nodes N; launch run {found.name} --hostfile … --dry-run prints what it starts",
        )
    nodes = options["nodes"]
    options = {**options, "engine": handover.engine_for(kind, options["engine"])}
    if kind == "script":  # started by hand on each machine: no scheduler is needed
        options["nodes"] = 1
    request = replace(request_of(found, options, arguments), nodes=nodes)
    with ui.TerminalProgress() as progress:
        planned = planning.make(request, settings.load(), dry_run=True, progress=progress)
    for note in (*planned.notes, *preflight.ready(planned, dry_run=True)):
        ui.note(note)
    content = handover.files(planned, kind)
    handover.write(folder, content)
    if options["as_json"]:
        ui.print_json({"schema": 1, "to": kind, "folder": folder.absolute(), "files": sorted(content)})
    else:
        click.echo("\n".join(str(folder / name) for name in sorted(content)))
