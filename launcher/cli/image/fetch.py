"""``launch image fetch``: download a target's files, into the cache or into a folder to carry."""

from pathlib import Path

import rich_click as click
from rich.filesize import decimal

from launcher.cli import ui
from launcher.cli.image import options
from launcher.errors import UsageError


@click.command()
@click.argument("targets", nargs=-1, required=True)
@options.without
@click.option("--jobs", type=click.IntRange(1, 64), default=8, show_default=True, help="Downloads at once.")
@click.option(
    "--to",
    type=click.Path(file_okay=False, resolve_path=True, path_type=Path),
    metavar="DIR",
    help="Also make DIR/TARGET, a folder that `launch image build --from DIR` takes without network.",
)
@click.option(
    "--system", is_flag=True, help="With --to: the base's own packages too, by its own apt; needs an engine."
)
@options.base
@options.secrets
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    targets: tuple[str, ...],
    without: tuple[str, ...],
    jobs: int,
    to: Path | None,
    system: bool,
    base: str | None,
    secrets: tuple[str, ...],
    as_json: bool,
) -> None:
    """Download all files of TARGETS into the cache, each verified by its hash.

    Indexes, mirrors, proxies and certificates are those of uv and pip. An interrupted download goes on
    where it stopped; a file that cannot be reached may be put into the cache's folder wheels/ by hand.
    """
    from launcher.app import locks

    if system and to is None:
        raise UsageError("--system needs --to DIR", hint="the cache holds no system packages")
    if secrets and not system:
        raise UsageError("--secret needs --system", hint="only the system packages are fetched with secrets")
    with ui.TerminalProgress() as progress:
        if to is None:
            views = locks.bring(targets, without=without, jobs=jobs, progress=progress)
        else:
            views = locks.carry(
                targets,
                to=to,
                base=base,
                without=without,
                system=system,
                secrets=secrets,
                jobs=jobs,
                progress=progress,
            )
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
