"""``launch runs logs RUN``."""

import sys
from pathlib import Path
from typing import Any

import rich_click as click


@click.command()
@click.argument("run", metavar="RUN")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends; Ctrl-C ends only this command.")
@click.option("-n", "--tail", "count", type=click.IntRange(0), help="Only the last lines.")
def command(run: str, follow: bool, count: int | None) -> None:
    """Print what a recipe printed, of all its starts."""
    from launcher import runs
    from launcher.app import runs as seen

    folder = runs.find(run)
    seen.catch_up(folder)
    at = _print(folder / "log.txt", count)
    if follow:
        seen.attach(folder, _Lines(), shown=at)


def _print(log: Path, count: int | None) -> int:
    """Copy a log, or its end, to standard output; returns where it ended."""
    if not log.is_file():
        return 0
    with log.open("rb") as stream:
        if count is not None:
            from collections import deque

            for line in deque(stream, count):
                sys.stdout.buffer.write(line)
        else:
            import shutil

            shutil.copyfileobj(stream, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return stream.tell()


class _Lines:
    """launcher.progress.RunView of nothing but the lines."""

    def line(self, text: str) -> None:
        """See launcher.progress.RunView.line."""
        click.echo(text)

    def event(self, event: dict[str, Any]) -> None:
        """See launcher.progress.RunView.event."""

    def notice(self, text: str) -> None:
        """See launcher.progress.RunView.notice."""
        click.echo(text, err=True)

    def stopping(self, *, grace: float) -> None:
        """See launcher.progress.RunView.stopping."""
