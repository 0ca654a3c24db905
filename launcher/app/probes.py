"""Independent questions asked at once: each in a thread of its own, all within one deadline."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from launcher.errors import LaunchError


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A probe that found nothing out, and why."""

    why: str


def reason(error: Exception) -> str:
    """What broke a probe. Texts of libraries may repeat a password that a setting of the user's holds."""
    if isinstance(error, LaunchError):
        return error.message
    own = isinstance(error, OSError) and type(error).__module__ == "builtins"
    said = str(error).strip().splitlines() if own else []
    return f"{type(error).__name__}{f': {said[0]}' if said else ''}"


def gather(probes: Mapping[str, Callable[[], object]], *, patience: float) -> dict[str, object]:
    """The results of all probes, by name; :class:`Broken` for one that raises, or that takes too long.

    The threads do not keep the process alive: a name server or a driver may answer minutes later, and no
    call to either can be broken off.

    Args:
        probes: each returns what it finds.
        patience: seconds for all of them together.
    """
    done: SimpleQueue[tuple[str, object]] = SimpleQueue()

    def ask(name: str, probe: Callable[[], object]) -> None:
        try:
            done.put((name, probe()))
        except Exception as error:  # noqa: BLE001 - a probe that breaks is a line, not the end of all others
            done.put((name, Broken(why=reason(error))))

    for name, probe in probes.items():
        threading.Thread(target=ask, args=(name, probe), name=f"probe-{name}", daemon=True).start()
    end = time.monotonic() + patience
    found: dict[str, object] = {}
    while len(found) < len(probes):
        try:
            name, result = done.get(timeout=max(0.0, end - time.monotonic()))
        except Empty:
            break
        found[name] = result
    late = Broken(why=f"no answer within {patience:g} s")
    return {name: found.get(name, late) for name in probes}
