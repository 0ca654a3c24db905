"""``launch env TARGET``: the embedded environment, for other programs."""

import rich_click as click

from launcher import settings
from launcher.cli import ui
from launcher.errors import UsageError


@click.command()
@click.argument("target", metavar="TARGET")
@click.option(
    "--register", "name", metavar="NAME", help="Name of the Jupyter kernel; default: finetune-TARGET."
)
@click.option("--no-register", is_flag=True, help="Only make the environment.")
@click.option("--unregister", is_flag=True, help="Take the kernel away; the environment stays.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(target: str, name: str | None, no_register: bool, unregister: bool, as_json: bool) -> None:
    """Make the embedded environment of TARGET and a kernel of it for your Jupyter, and say how to enter it.

    The kernel is written below JUPYTER_DATA_DIR, or ~/.local/share/jupyter; one that the launcher did not
    write is never replaced.
    """
    from launcher.app import environments

    if no_register and (name is not None or unregister):
        raise UsageError("--no-register does not go with --register and --unregister")
    if unregister:
        gone = environments.unregister(target, name)
        if as_json:
            ui.print_json({"schema": 1, "target": target, "unregistered": gone})
        else:
            click.echo(f"removed {gone}" if gone else "there is no such kernel")
        return
    with ui.TerminalProgress() as progress:
        found = environments.ensure(target, settings.load(), progress=progress)
    for note in found.notes:
        ui.note(note)
    kernel = None if no_register else environments.register(found, name)
    if as_json:
        ui.print_json({"schema": 1, "target": target, "folder": found.folder, "kernel": kernel})
        return
    click.echo(f"folder:   {found.folder}\nactivate: {found.activate}")
    if kernel is not None:
        click.echo(f"kernel:   {kernel}")
