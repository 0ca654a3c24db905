"""How runs stand, for pages that must not wait: engines are asked in the background, and may be silent."""

import math
import threading
import time
from pathlib import Path

from launcher.app import report
from launcher.comparison import State

#: Seconds between an engine's answer about a run and the next question.
EVERY = 3.0


class Standings:
    """The last known word on each run that has not ended; one thread per run, while its engine is asked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[Path, tuple[State, str]] = {}
        self._due: dict[Path, float] = {}

    def of(self, folder: Path) -> tuple[State, str]:
        """What is known now of a run without a result; its engine is asked again if it is time to."""
        with self._lock:
            if time.monotonic() >= self._due.get(folder, 0.0):
                threading.Thread(target=self._ask, args=(folder,), daemon=True).start()
                self._due[folder] = math.inf  # until it has answered
            return self._known.get(folder, ("open", "its engine has not answered yet"))

    def _ask(self, folder: Path) -> None:
        try:
            found = report.standing(folder, None)
        except Exception as error:  # noqa: BLE001 - whatever it was, the run is asked about again
            found = ("open", f"its engine cannot be asked: {error}")
        with self._lock:
            self._known[folder], self._due[folder] = found, time.monotonic() + EVERY
            # Its result says so from now on; should the run be resumed, this is not news.
            if found[0] != "open":
                del self._known[folder]
