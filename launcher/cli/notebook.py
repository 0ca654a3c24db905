"""``launch notebook TARGET``: JupyterLab for a browser of this machine."""

import tempfile
from pathlib import Path
from typing import Any

import rich_click as click

from launcher import settings
from launcher.cli import sessions, ui
from launcher.errors import UsageError


@click.command()
@click.argument("target", metavar="TARGET")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="Where the notebooks lie, writable; default: the working folder.",
)
@click.option("--port", metavar="N|auto", default="auto", help="Port of 127.0.0.1; auto: 8888 or a free one.")
@sessions.options
def command(target: str, folder: Path, port: str, **given: Any) -> None:
    """Serve JupyterLab from the image (or environment) of TARGET until Ctrl-C, with its kernel.

    It is reached from this machine alone, with the token of the printed address. In its container the network
    is off, the data is read-only, and only the notebooks' folder is writable.
    """
    from launcher.app import notebook, session

    if not folder.is_dir():
        raise UsageError(f"--folder {folder}: there is no such folder")
    asked = sessions.request("notebook", target, folder, given)
    number = _port(port)
    with ui.TerminalProgress() as progress:
        made = session.make("notebook", asked, settings.load(), dry_run=given["dry_run"], progress=progress)
    for note in made.planned.notes:
        ui.note(note)
    if given["dry_run"]:
        parent = Path(tempfile.gettempdir()) / "SESSION"
        click.echo(f"# {parent} stands for the session's own folder, with the configuration and the token")
        click.echo(notebook.printed(made, parent))
        return
    listener = notebook.listen(number)
    ui.note(f"starting JupyterLab ({ui.where(made.planned.plan.image)}), notebooks in {folder.absolute()}")
    notebook.serve(made, listener, grace=settings.load().stop_grace.value, ready=_say)
    ui.note("stopped")


def _say(serving: Any) -> None:
    click.echo(serving.url)
    ui.note("Ctrl-C stops it; the address is a key to everything in it")


def _port(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise UsageError(f"--port takes a number up to 65535 or auto, not {text!r}")
    return int(text)
