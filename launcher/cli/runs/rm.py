"""``launch runs rm RUN…``."""

import rich_click as click

from launcher.cli import ui
from launcher.errors import UsageError


@click.command()
@click.argument("names", metavar="RUN...", nargs=-1, required=True)
@click.option("--force", is_flag=True, help="Also records whose state cannot be found out.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def command(names: tuple[str, ...], force: bool, yes: bool) -> None:
    """Delete records, with the results that lie in them; an --output elsewhere stays."""
    import sys

    from launcher import runs
    from launcher.app import runs as seen

    folders = [runs.find(name) for name in names]
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("nobody is there to ask", hint="--yes deletes without asking")
        for folder in folders:
            ui.note(f"{folder}: {'with its result' if (folder / 'output').is_dir() else 'the record'}")
        click.confirm(f"delete {len(folders)} run{'s' if len(folders) > 1 else ''}?", abort=True)
    for folder in folders:
        seen.remove(folder, force=force)
        ui.note(f"deleted {folder.name}")
