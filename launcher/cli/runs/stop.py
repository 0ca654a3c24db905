"""``launch runs stop RUN…``."""

import rich_click as click

from launcher import settings
from launcher.cli import ui


@click.command()
@click.argument("names", metavar="RUN...", nargs=-1, required=True)
@click.option("--grace", type=click.FloatRange(0), help="Seconds between SIGTERM and SIGKILL.")
def command(names: tuple[str, ...], grace: float | None) -> None:
    """End runs, wherever they were started, and complete their records."""
    from launcher import runs
    from launcher.app import runs as seen

    seconds = settings.load().stop_grace.value if grace is None else grace
    for name in names:
        found = seen.stop(runs.find(name), grace=seconds)
        ui.note(f"{found.folder.name}: {found.why or found.state}")
