"""What every verb shares: the two consoles, errors as people read them, progress.

rich is imported when the first thing is drawn: a run is on its way before that.
"""

import json
import os
import sys
from types import TracebackType
from typing import TYPE_CHECKING

import rich_click as click

from launcher import finite
from launcher.errors import LaunchError, ProblemsError
from launcher.texts import duration as duration

if TYPE_CHECKING:
    from rich.console import Console

    from launcher.cli.bars import Bars

    #: Results go to standard output, everything that is said about the work to standard error.
    out: Console
    err: Console


def __getattr__(name: str) -> "Console":
    """``out`` and ``err``, made at their first use."""
    if name not in ("out", "err"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from rich.console import Console

    # Without a terminal, tables are not cut to 80 columns: who reads a file or a pipe wants all of it.
    width = None if sys.stdout.isatty() else 200
    made = Console(highlight=False, width=width) if name == "out" else Console(stderr=True, highlight=False)
    globals()[name] = made
    return made


def print_error(error: LaunchError) -> None:
    """What happened, all problems, why likely, what to do."""
    from rich.markup import escape

    err = sys.modules[__name__].err
    err.print(f"[bold red]{error.title} error[/]: {escape(error.message)}", soft_wrap=True)
    if isinstance(error, ProblemsError):
        for problem in error.problems:
            err.print(f"  [red]-[/] {escape(problem)}", soft_wrap=True)
    if error.why:
        err.print(f"[yellow]why[/]:  {escape(error.why)}", soft_wrap=True)
    if error.hint:
        err.print(f"[green]do[/]:   {escape(error.hint)}", soft_wrap=True)


def note(text: str) -> None:
    """One line that a reader may want to know, on standard error."""
    click.secho(text, dim=True, err=True)


def where(image: str | None) -> str:
    """What a plan runs in, as people call it."""
    return f"image {image}" if image else "embedded environment"


def print_json(value: object) -> None:
    """A result for programs, on standard output."""
    click.echo(json.dumps(finite.plain(value), default=str, indent=2, ensure_ascii=False, allow_nan=False))


def language() -> str:
    """``zh`` for readers of Chinese, by LAUNCH_LANG or the locale; otherwise ``en``."""
    chosen = next((os.environ[name] for name in _LOCALE if os.environ.get(name)), "en")
    return "zh" if chosen.lower().startswith("zh") else "en"


_LOCALE = ("LAUNCH_LANG", "LC_ALL", "LC_MESSAGES", "LANG")


class TerminalProgress:
    """launcher.progress.Progress for a terminal; it draws nothing, and costs nothing, until a task begins."""

    def __init__(self) -> None:
        self._bars: Bars | None = None

    def __enter__(self) -> "TerminalProgress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.__exit__(kind, value, traceback)

    def _drawn(self) -> "Bars":
        if self._bars is None:
            from launcher.cli.bars import Bars

            self._bars = Bars().__enter__()
        return self._bars

    def start(self, task: str, *, total: float | None, unit: str = "steps") -> None:
        """See launcher.progress.Progress.start."""
        self._drawn().start(task, total=total, unit=unit)

    def advance(self, task: str, amount: float) -> None:
        """See launcher.progress.Progress.advance."""
        self._drawn().advance(task, amount)

    def finish(self, task: str) -> None:
        """See launcher.progress.Progress.finish."""
        self._drawn().finish(task)

    def say(self, line: str) -> None:
        """See launcher.progress.Progress.say."""
        self._drawn().say(line)
