"""``launch runs report``: runs as one HTML file."""

from collections.abc import Sequence
from pathlib import Path

import rich_click as click
from rich.filesize import decimal
from rich.markup import escape

from launcher.cli import ui
from launcher.report import Story


@click.command()
@click.argument("names", metavar="RUN…", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="The file; nothing is overwritten.",
)
@click.option("--force", is_flag=True, help="Replace the file when it is there.")
def command(names: tuple[str, ...], output: Path, force: bool) -> None:
    """Write RUN… as one HTML file that needs no network: curves, figures, parameters, versions, log.

    Several runs are drawn over each other and compared. RUN is an id, a part of exactly one, the folder of a
    record, or `last`. The page holds the end of the log, and so whatever the recipe printed: read it before
    you pass it on. Secrets are in it by name only, as in the record.
    """
    from launcher.app import report

    path = report.place_of(output, force=force)
    write(report.gather(names), path)


def write(stories: Sequence[Story], path: Path, *, quiet: bool = False) -> None:
    """Write the page, and say where it is; beside a result for programs nothing is said."""
    from launcher.app import report

    size = report.write(stories, path)
    if not quiet:
        ui.out.print(f"{escape(str(path))} ({decimal(size)})", soft_wrap=True)
