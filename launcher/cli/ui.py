"""What every verb shares: the two consoles, errors as people read them, progress bars."""

import json
import os
import sys
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from launcher.errors import LaunchError, ProblemsError

#: Results go to standard output, everything that is said about the work to standard error.
#: Without a terminal, tables are not cut to 80 columns: whoever reads a file or a pipe wants all of it.
out = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
err = Console(stderr=True, highlight=False)


def print_error(error: LaunchError) -> None:
    """What happened, all problems, why likely, what to do."""
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
    err.print(f"[dim]{escape(text)}[/]", soft_wrap=True)


def print_json(value: object) -> None:
    """A result for programs, on standard output."""
    out.print_json(json.dumps(value, default=str), indent=2) if out.is_terminal else print(
        json.dumps(value, default=str, indent=2, ensure_ascii=False)
    )


def language() -> str:
    """``zh`` for readers of Chinese, by LAUNCH_LANG or the locale; otherwise ``en``."""
    chosen = next((os.environ[name] for name in _LOCALE if os.environ.get(name)), "en")
    return "zh" if chosen.lower().startswith("zh") else "en"


_LOCALE = ("LAUNCH_LANG", "LC_ALL", "LC_MESSAGES", "LANG")


class _Amount(ProgressColumn):
    """Bytes with speed for downloads, a count for everything else."""

    def __init__(self) -> None:
        super().__init__()
        self._bytes, self._speed = DownloadColumn(), TransferSpeedColumn()
        self._count = MofNCompleteColumn()

    def render(self, task: Task) -> Text:
        if task.fields.get("unit") != "bytes":
            return self._count.render(task) if task.total else Text("")
        return Text.assemble(self._bytes.render(task), "  ", self._speed.render(task))


class TerminalProgress:
    """launcher.progress.Progress on a terminal; plain lines where there is none."""

    def __init__(self) -> None:
        self._bars = Progress(
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            _Amount(),
            TimeRemainingColumn(compact=True),
            console=err,
            disable=not err.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "TerminalProgress":
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def start(self, task: str, *, total: float | None, unit: str = "steps") -> None:
        """See launcher.progress.Progress.start."""
        self._tasks[task] = self._bars.add_task(escape(task), total=total, unit=unit)
        if self._bars.disable:
            err.print(f"{escape(task)} …", soft_wrap=True)

    def advance(self, task: str, amount: float) -> None:
        """See launcher.progress.Progress.advance."""
        self._bars.advance(self._tasks[task], amount)

    def finish(self, task: str) -> None:
        """See launcher.progress.Progress.finish."""
        identity = self._tasks[task]
        total = next(item.total for item in self._bars.tasks if item.id == identity)
        self._bars.update(identity, total=total or 1, completed=total or 1)
        if self._bars.disable:
            err.print(f"{escape(task)}: done", soft_wrap=True)

    def say(self, line: str) -> None:
        """See launcher.progress.Progress.say."""
        err.print(escape(line), soft_wrap=True)
