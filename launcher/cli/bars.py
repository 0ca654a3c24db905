"""launcher.progress.Progress with rich: one bar per task; plain lines where there is no terminal."""

from types import TracebackType

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

from launcher.cli import ui


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


class Bars:
    """launcher.progress.Progress on a terminal; plain lines where there is none."""

    def __init__(self) -> None:
        self._bars = Progress(
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            _Amount(),
            TimeRemainingColumn(compact=True),
            console=ui.err,
            disable=not ui.err.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "Bars":
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
            ui.err.print(f"{escape(task)} …", soft_wrap=True)

    def advance(self, task: str, amount: float) -> None:
        """See launcher.progress.Progress.advance."""
        self._bars.advance(self._tasks[task], amount)

    def finish(self, task: str) -> None:
        """See launcher.progress.Progress.finish."""
        identity = self._tasks[task]
        total = next(item.total for item in self._bars.tasks if item.id == identity)
        self._bars.update(identity, total=total or 1, completed=total or 1)
        if self._bars.disable:
            ui.err.print(f"{escape(task)}: done", soft_wrap=True)

    def say(self, line: str) -> None:
        """See launcher.progress.Progress.say."""
        ui.err.print(escape(line), soft_wrap=True)
