"""Single events: their numbers, their attempts, and what a later attempt did again."""

from collections.abc import Iterable
from typing import Any

Event = dict[str, Any]

#: What every event has, beside its own keys.
ENVELOPE = frozenset(("schema", "event", "rank", "time", "attempt"))

#: What is done again by an attempt that continues from an earlier step.
_REPEATED = ("step", "usage", "checkpoint")

#: Nothing that is measured here comes near it, and sums of what is below stay finite.
_LARGEST = 1e100


def number(event: Event, key: str) -> float | None:
    """A number of an event, NaN and infinity included, as diverged trainings log them; None for all else."""
    value = event.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def finite(event: Event, key: str) -> float | None:
    """A number that can be drawn and added up; None for all else."""
    value = number(event, key)
    return value if value is not None and abs(value) < _LARGEST else None


def whole(event: Event, key: str) -> int | None:
    """A whole number of an event; None for all else."""
    value = finite(event, key)
    return int(value) if value is not None and value.is_integer() else None


def numbers(event: Event) -> dict[str, float]:
    """All numbers of an event, without its envelope."""
    found = {key: number(event, key) for key in event if key not in ENVELOPE}
    return {key: value for key, value in found.items() if value is not None}


def of_kind(events: Iterable[Event], kind: str) -> list[Event]:
    """The events of one kind, in their order."""
    return [event for event in events if isinstance(event, dict) and event.get("event") == kind]


def attempt(event: Event) -> int:
    """Which attempt wrote it: 1 unless it says so."""
    return max(1, whole(event, "attempt") or 1)


def attempts(events: Iterable[Event]) -> list[int]:
    """The numbers of all attempts that reported something, in their order."""
    return sorted({attempt(event) for event in events if isinstance(event, dict)})


def of_attempt(events: Iterable[Event], number: int) -> list[Event]:
    """What one attempt reported."""
    return [event for event in events if isinstance(event, dict) and attempt(event) == number]


def since(events: Iterable[Event], number: int) -> list[Event]:
    """What an attempt reported, and those after it: the site's scheduler starts a run again by itself."""
    return [event for event in events if isinstance(event, dict) and attempt(event) >= number]


def current(events: Iterable[Event]) -> list[Event]:
    """The events without those that a later attempt did again.

    An attempt whose training began behind step s replaces the steps, usages and checkpoints that earlier
    attempts reported beyond s. One that never began to train replaces nothing.
    """
    known = [event for event in events if isinstance(event, dict)]
    begun: dict[int, int] = {}
    for event in of_kind(known, "begin"):
        begun.setdefault(attempt(event), whole(event, "step") or 0)
    return [event for event in known if not _replaced(event, begun)]


def _replaced(event: Event, begun: dict[int, int]) -> bool:
    if event.get("event") not in _REPEATED:
        return False
    own, step = attempt(event), number(event, "step")
    return step is not None and any(later > own and step > start for later, start in begun.items())
