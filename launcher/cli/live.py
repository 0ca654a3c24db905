"""A run as it is watched: one bar on a terminal, one line per report otherwise."""

import time
from types import TracebackType
from typing import Any

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

from launcher.cli.ui import err

#: Without a terminal, two progress lines are at least this many seconds apart.
_QUIET_SECONDS = 5.0


class LiveView:
    """launcher.progress.RunView with rich.

    Args:
        title: what runs, for the bar.
        output: show the recipe's own lines too.
    """

    def __init__(self, title: str, *, output: bool) -> None:
        self._output = output
        self._bars = Progress(
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=err,
            disable=not err.is_terminal,
        )
        self._task = self._bars.add_task(escape(title), total=None, numbers="starting")
        self._first: tuple[int, float] | None = None
        self._total = 0
        self._printed = 0.0

    def __enter__(self) -> "LiveView":
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bars.stop()

    def line(self, text: str) -> None:
        """See launcher.progress.RunView.line."""
        if self._output:
            err.print(escape(text), soft_wrap=True)

    def event(self, event: dict[str, Any]) -> None:
        """See launcher.progress.RunView.event."""
        kind = event.get("event")
        if kind == "begin" and event.get("rank") == 0:
            self._total = int(event.get("max_steps", 0))
            self._first = (0, float(event["time"]))
            self._bars.update(self._task, total=self._total, numbers="training")
        elif kind == "step" and "loss" in event:
            self._step(event)
        elif kind == "end" and event.get("rank") == 0:
            self._bars.update(self._task, completed=int(event.get("step", 0)))

    def _step(self, event: dict[str, Any]) -> None:
        step, now = int(event["step"]), float(event["time"])
        base, since = self._first or (0, now)
        pace = (now - since) / max(1, step - base)
        numbers = f"loss {event['loss']:.4g}  lr {event.get('learning_rate', 0):.2g}  {pace:.2f} s/it"
        self._bars.update(self._task, completed=step, numbers=numbers)
        if self._bars.disable and (time.monotonic() - self._printed > _QUIET_SECONDS or step == self._total):
            self._printed = time.monotonic()
            left = time.strftime("%H:%M:%S", time.gmtime(pace * max(0, self._total - step)))
            err.print(f"step {step}/{self._total}  {numbers}  left {left}", soft_wrap=True)

    def stopping(self, *, grace: float) -> None:
        """See launcher.progress.RunView.stopping."""
        err.print(f"stopping; killed in {grace:g} s, or at once with another Ctrl-C")
