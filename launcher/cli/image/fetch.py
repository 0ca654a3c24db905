"""``launch image fetch``: download a target's files into the cache."""

import rich_click as click
from rich.filesize import decimal

from launcher.cli import ui
from launcher.cli.image import options


@click.command()
@click.argument("targets", nargs=-1, required=True)
@options.without
@click.option("--jobs", type=click.IntRange(1, 64), default=8, show_default=True, help="Downloads at once.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(targets: tuple[str, ...], without: tuple[str, ...], jobs: int, as_json: bool) -> None:
    """Download all files of TARGETS into the cache, each verified by its hash.

    Indexes, mirrors, proxies and certificates are those of uv and pip. An interrupted download goes on
    where it stopped; a file that cannot be reached may be put into the cache's folder wheels/ by hand.
    """
    from launcher.app import locks

    with ui.TerminalProgress() as progress:
        views = locks.bring(targets, without=without, jobs=jobs, progress=progress)
    if as_json:
        result = [
            {"target": view.target, "folder": str(view.folder), "files": view.files, "bytes": view.bytes}
            for view in views
        ]
        ui.print_json({"schema": 1, "views": result})
        return
    for view in views:
        ui.out.print(
            f"{view.target}: {view.files} files, {decimal(view.bytes)}, {view.folder}", soft_wrap=True
        )
