"""``launch shell TARGET``: a shell that sees what a run sees."""

import sys
import tempfile
from pathlib import Path
from typing import Any

import rich_click as click

from launcher import settings
from launcher.cli import sessions, ui


@click.command()
@click.argument("target", metavar="TARGET")
@click.argument("command_", metavar="[-- COMMAND…]", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Writable folder, the working one; default: one that goes.",
)
@sessions.options
def command(target: str, command_: tuple[str, ...], output: Path | None, **given: Any) -> None:
    """Open a shell in the image (or environment) of TARGET, as a run would find it.

    Mounts, user, devices, limits and variables are those of a run: DATA, MODEL and OUTPUT say where things
    are, the network is off, and only the output and HOME are writable. What follows -- is run instead of a
    shell, also without a terminal. The container goes when it ends; the exit code is its own.
    """
    from launcher.app import session, shell

    asked = sessions.request("shell", target, output, given)
    with ui.TerminalProgress() as progress:
        made = session.make("shell", asked, settings.load(), dry_run=given["dry_run"], progress=progress)
    for note in made.planned.notes:
        ui.note(note)
    if given["dry_run"]:
        parent = Path(tempfile.gettempdir()) / "SESSION"
        click.echo(f"# {parent} stands for the session's own folder")
        click.echo(shell.printed(made, command_, parent))
        return
    if output is None and not command_:
        ui.note(
            f"{ui.where(made.planned.plan.image)}; the working folder goes with the shell, --output DIR stays"
        )
    sys.exit(shell.run(made, command_))
