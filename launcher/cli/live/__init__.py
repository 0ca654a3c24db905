"""A run as it is watched: a bar with its numbers on a terminal, one line per report otherwise."""

import sys
import threading
import time
from types import TracebackType
from typing import Any

import rich_click as click

from launcher import metrics
from launcher.cli.live.screen import Screen
from launcher.cli.live.watched import Shown, Watched
from launcher.texts import duration

#: Without a terminal, two progress lines are at least this many seconds apart. What is older than that when
#: it arrives is history: of a run that has gone on for hours only what is new is told.
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
        self._watched, self._lock = Watched(), threading.Lock()
        self._screen = Screen(title, self._shown) if sys.stderr.isatty() else None
        self._printed = 0.0
        self._untold = False

    def __enter__(self) -> "LiveView":
        if self._screen is not None:
            self._screen.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            self._watched.close()
        if self._screen is not None:
            self._screen.close()
        elif self._untold:
            self._tell()

    def line(self, text: str) -> None:
        """See launcher.progress.RunView.line."""
        if self._output:
            self._say(text)

    def event(self, event: dict[str, Any]) -> None:
        """See launcher.progress.RunView.event."""
        with self._lock:
            self._watched.take(event)
        if event.get("event") == "buckets" and (table := metrics.buckets([event])):
            self._say(_buckets(table))
        elif event.get("event") == "step" and "loss" in event and self._screen is None:
            self._untold = True
            written = metrics.finite(event, "time") or 0.0
            waited = time.monotonic() - self._printed > _QUIET_SECONDS
            if self._watched.done or (waited and time.time() - written < _QUIET_SECONDS):
                self._tell()

    def notice(self, text: str) -> None:
        """See launcher.progress.RunView.notice."""
        self._say(text)

    def stopping(self, *, grace: float) -> None:
        """See launcher.progress.RunView.stopping."""
        self._say(f"stopping; killed in {grace:g} s, or at once with another Ctrl-C")

    def _shown(self) -> Shown:
        with self._lock:
            return self._watched.shown()

    def _tell(self) -> None:
        self._printed, self._untold = time.monotonic(), False
        click.echo(plain(self._shown()), err=True)

    def _say(self, text: str) -> None:
        if self._screen is not None:
            self._screen.say(text)
        else:
            click.echo(text, err=True)


def plain(shown: Shown) -> str:
    """One moment of a run in one line."""
    parts = [f"step {shown.step}/{shown.total}" if shown.total else f"step {shown.step}"]
    parts += [f"epoch {shown.epoch}"] if shown.epoch else []
    parts += map(str, shown.figures)
    parts += [f"left {duration(int(shown.left))}"] if shown.left is not None else []
    return "  ".join(parts)


def _buckets(table: list[Any]) -> str:
    """The batch size of each length, in one line; the log has all of them."""
    sizes = [
        f"{one.get('passage_max_len')}: {one.get('batch_size')}" for one in table if isinstance(one, dict)
    ]
    shown = list(dict.fromkeys(sizes))[:_BUCKETS]
    return f"batch size by passage length: {', '.join(shown)}{', …' if len(set(sizes)) > _BUCKETS else ''}"
