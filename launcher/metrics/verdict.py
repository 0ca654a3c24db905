"""What the events say about a whole run: the world that trained, its steps, what ran beside the trainer."""

from typing import Any

from launcher.metrics.events import ENVELOPE, Event, attempts, numbers, of_attempt, of_kind, whole


def world_problem(events: list[Event], planned: int) -> str:
    """What is wrong with the world that the last attempt's trainer saw; empty when it is the planned one.

    Every rank writes a ``begin`` event with the world size it saw, and an ``end`` event with its steps.
    """
    last = of_attempt(events, max(attempts(events), default=1))
    begun = of_kind(last, "begin")
    seen = sorted({whole(event, "world_size") or 0 for event in begun})
    ranks = sorted(whole(event, "rank") or 0 for event in begun)
    if not begun:
        return "the trainer never began: no process reported a start of training"
    if seen != [planned]:
        return f"the trainer saw world size {', '.join(map(str, seen))}; {planned} was planned"
    if ranks != list(range(planned)):
        return f"ranks {ranks} trained; 0 to {planned - 1} were planned"
    if not steps(last):
        return "the trainer ended without a single optimiser step: nothing was trained"
    return ""


def steps(events: list[Event]) -> int:
    """Optimiser steps that were done when the training ended."""
    return max((whole(event, "step") or 0 for event in of_kind(events, "end")), default=0)


def runtime(events: list[Event]) -> dict[str, Any] | None:
    """What the ``runtime`` event says ran beside the trainer; None without one."""
    said = _last(events, "runtime")
    return None if said is None else {key: value for key, value in said.items() if key not in ENVELOPE}


def buckets(events: list[Event]) -> list[Any] | None:
    """The ``buckets`` event's table; None for rows that are not grouped by length."""
    table = (_last(events, "buckets") or {}).get("buckets")
    return table if isinstance(table, list) else None


def _last(events: list[Event], kind: str) -> Event | None:
    return next(reversed(of_kind(events, kind)), None)


def final_numbers(events: list[Event]) -> dict[str, float]:
    """The last loss that was logged, and what the trainer summed up at its end (``train_loss``, …)."""
    found: dict[str, float] = {}
    for event in of_kind(events, "step"):
        found |= {
            key: value for key, value in numbers(event).items() if key == "loss" or key.startswith("train_")
        }
    return found
