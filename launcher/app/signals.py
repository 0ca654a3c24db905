"""What Ctrl-C means while a run goes on."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Any, NoReturn

from launcher import runs
from launcher.engines.base import Handle
from launcher.progress import RunView


@contextmanager
def unwound() -> Iterator[None]:
    """SIGTERM and SIGHUP end the launcher as Ctrl-C does: what was begun is taken back. Code 128 + number.

    A launcher under nohup, whose SIGHUP is ignored, goes on.
    """

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for each in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(each) != signal.SIG_IGN:
                before[each] = signal.signal(each, leave)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Signals:
    """Ctrl-C, SIGTERM, SIGHUP end the run, not the launcher: grace first, a second signal kills at once.

    A launcher under nohup, whose SIGHUP is ignored, goes on.
    """

    def __init__(self, view: RunView, grace: float) -> None:
        self._view, self._grace = view, grace
        self._handle: Handle | None = None
        self._before: dict[int, Any] = {}
        self.received, self.at = 0, ""

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def name(self) -> str:
        """The first signal's name; empty when none came."""
        return signal.Signals(self.received).name if self.received else ""

    def attach(self, handle: Handle) -> None:
        """The run has started; a signal that came while it was being made is for it."""
        self._handle = handle
        if self.received:
            handle.stop(self._grace)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        first, self.received = not self.received, self.received or number
        self.at = self.at or runs.moment()
        if self._handle is not None:
            if first:
                self._handle.stop(self._grace)
            else:
                self._handle.kill()
        if first:
            # It may have come in the middle of a print, which Python does not begin again; or there is no
            # terminal any more.
            with suppress(RuntimeError, OSError):
                self._view.stopping(grace=self._grace)
