"""A run as it is watched: one bar on a terminal, one line per report otherwise."""

import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

import rich_click as click

from launcher import metrics

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

#: Without a terminal, two progress lines are at least this many seconds apart.
_QUIET_SECONDS = 5.0

#: Lengths with their batch sizes that fit into one line.
_BUCKETS = 12


class LiveView:
    """launcher.progress.RunView for people.

    Args:
        title: what runs, for the bar.
        output: show the recipe's own lines too.
    """

    def __init__(self, title: str, *, output: bool) -> None:
        self._output = output
        self._bar = _Bar(title) if sys.stderr.isatty() else None
        self._began = 0.0
        self._total = 0
        self._printed = 0.0

    def __enter__(self) -> "LiveView":
        if self._bar is not None:
            self._bar.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def line(self, text: str) -> None:
        """See launcher.progress.RunView.line."""
        if self._output:
            self._say(text)

    def event(self, event: dict[str, Any]) -> None:
        """See launcher.progress.RunView.event."""
        kind, first_rank = event.get("event"), event.get("rank") == 0
        if kind == "begin" and first_rank:
            self._began, self._total = float(event.get("time", 0)), int(event.get("max_steps", 0))
            if self._bar is not None:
                self._bar.update(0, self._total, "training")
        elif kind == "buckets" and metrics.buckets([event]):
            self._say(_buckets(metrics.buckets([event]) or []))
        elif kind == "step" and "loss" in event:
            self._step(event)
        elif kind == "end" and first_rank and self._bar is not None:
            self._bar.update(int(event.get("step", 0)), self._total, "saving")

    def _step(self, event: dict[str, Any]) -> None:
        step = int(event["step"])
        pace = (float(event["time"]) - self._began) / max(1, step)
        numbers = f"loss {event['loss']:.4g}  lr {event.get('learning_rate', 0):.2g}  {pace:.2f} s/it"
        if self._bar is not None:
            self._bar.update(step, self._total, numbers)
        elif time.monotonic() - self._printed > _QUIET_SECONDS or step == self._total:
            self._printed = time.monotonic()
            left = time.strftime("%H:%M:%S", time.gmtime(pace * max(0, self._total - step)))
            click.echo(f"step {step}/{self._total}  {numbers}  left {left}", err=True)

    def notice(self, text: str) -> None:
        """See launcher.progress.RunView.notice."""
        self._say(text)

    def stopping(self, *, grace: float) -> None:
        """See launcher.progress.RunView.stopping."""
        self._say(f"stopping; killed in {grace:g} s, or at once with another Ctrl-C")

    def _say(self, text: str) -> None:
        if self._bar is not None:
            self._bar.say(text)
        else:
            click.echo(text, err=True)


def _buckets(table: list[Any]) -> str:
    """The batch size of each length, in one line; the log has all of them."""
    sizes = [
        f"{one.get('passage_max_len')}: {one.get('batch_size')}" for one in table if isinstance(one, dict)
    ]
    shown = list(dict.fromkeys(sizes))[:_BUCKETS]
    return f"batch size by passage length: {', '.join(shown)}{', …' if len(set(sizes)) > _BUCKETS else ''}"


class _Bar:
    """A rich bar; rich is imported in the background, while the engine starts the run."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._thread = threading.Thread(target=self._make, daemon=True)
        self._bars: Progress | None = None
        self._task: TaskID | None = None

    def _make(self) -> None:
        from rich.markup import escape
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        from launcher.cli import ui

        bars = Progress(
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=ui.err,
        )
        self._task = bars.add_task(escape(self._title), total=None, numbers="starting")
        bars.start()
        self._bars = bars

    def open(self) -> None:
        """Begin to draw."""
        self._thread.start()

    def close(self) -> None:
        """Draw for the last time."""
        self._drawn().stop()

    def update(self, step: int, total: int, numbers: str) -> None:
        """Show how far the run is."""
        bars = self._drawn()
        if self._task is not None:
            bars.update(self._task, completed=step, total=total or None, numbers=numbers)

    def say(self, text: str) -> None:
        """One line above the bar."""
        self._drawn().console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _drawn(self) -> "Progress":
        self._thread.join()
        if self._bars is None:
            raise RuntimeError("the progress display could not be made")
        return self._bars
