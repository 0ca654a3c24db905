"""``launch runs resume RUN``."""

import sys
from pathlib import Path

import rich_click as click

from launcher.cli import ui, variables, watching


@click.command()
@click.argument("run", metavar="RUN")
@click.option("--max-restarts", type=click.IntRange(0), default=0, help="How often to go on after a crash.")
@click.option("--env", multiple=True, metavar="K=V|K", help="The secrets that the plan names.")
@click.option("--env-file", type=click.Path(path_type=Path), multiple=True, help="A file of them.")
@click.option("--detach", is_flag=True, help="Go on in the background, and print the run's folder.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--show-output", is_flag=True, help="Show the recipe's own output, not only its progress.")
def command(
    run: str,
    max_restarts: int,
    env: tuple[str, ...],
    env_file: tuple[Path, ...],
    detach: bool,
    as_json: bool,
    show_output: bool,
) -> None:
    """Go on with a run that has failed or was stopped, from its last complete checkpoint.

    The same plan, the same image, the same record; optimiser, schedule and order of the data go on.
    """
    from launcher import runs
    from launcher.app import runs as seen

    given = variables.read(env, env_file)
    for note in given.notes:
        ui.note(note)
    with ui.TerminalProgress() as progress:
        begun = seen.resume(runs.find(run), given.all, say=ui.note, progress=progress)
    ui.note(f"going on from {begun.start.checkpoint}")
    if detach:
        watching.detach(begun, restarts=max_restarts)
    else:
        sys.exit(watching.watch(begun, as_json=as_json, show_output=show_output, restarts=max_restarts))
