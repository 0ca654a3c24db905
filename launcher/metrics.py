"""What a trainer reported: ``metrics.jsonl``, read while it grows or afterwards; pure but for the reading.

The events are written by ``recipes/runtime`` (schema there and in docs/runs.md); a reader passes over what it
does not know.
"""

import json
import os
from pathlib import Path
from typing import Any

Event = dict[str, Any]


class Reader:
    """Reads a file of events while it grows; complete lines only.

    Args:
        file: ``metrics.jsonl`` of a run; it need not exist yet.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._offset = 0
        self.events: list[Event] = []

    def new(self) -> list[Event]:
        """The events since the last call; an unreadable line is left out."""
        if not self._file.is_file():
            return []
        with self._file.open("rb") as stream:
            stream.seek(self._offset)
            block = stream.read()
        complete = block[: block.rfind(b"\n") + 1]
        self._offset += len(complete)
        fresh = [event for line in complete.splitlines() if (event := _event(line)) is not None]
        self.events += fresh
        return fresh


def read(file: Path) -> list[Event]:
    """All events of a run; none when it reported nothing."""
    return Reader(file).new()


#: Bytes at a file's beginning and end in which its first and last events are.
_ENDS = 32 * 1024


def latest(file: Path) -> Event:
    """The newest value of every key that was reported, without reading all of a long file."""
    if not file.is_file():
        return {}
    with file.open("rb") as stream:
        block = stream.read(_ENDS)
        end = stream.seek(0, os.SEEK_END)
        if end > _ENDS:
            stream.seek(max(_ENDS, end - _ENDS))
            block += stream.read()
    found: Event = {}
    for line in block.splitlines():
        found |= _event(line) or {}
    return found


def _event(line: bytes) -> Event | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def world_problem(events: list[Event], planned: int) -> str:
    """What is wrong with the world that the trainer saw; empty when it is the planned one.

    Every rank writes a ``begin`` event with the world size it saw, and an ``end`` event with its steps.
    """
    begun = [event for event in events if event.get("event") == "begin"]
    seen = sorted({int(event.get("world_size", 0)) for event in begun})
    ranks = sorted(int(event.get("rank", 0)) for event in begun)
    if not begun:
        return "the trainer never began: no process reported a start of training"
    if seen != [planned]:
        return f"the trainer saw world size {', '.join(map(str, seen))}; {planned} was planned"
    if ranks != list(range(planned)):
        return f"ranks {ranks} trained; 0 to {planned - 1} were planned"
    if not steps(events):
        return "the trainer ended without a single optimiser step: nothing was trained"
    return ""


def steps(events: list[Event]) -> int:
    """Optimiser steps that were done when the training ended."""
    return max((int(event.get("step", 0)) for event in events if event.get("event") == "end"), default=0)


#: What every event has, beside its own keys.
_ENVELOPE = frozenset(("schema", "event", "rank", "time"))


def runtime(events: list[Event]) -> dict[str, Any] | None:
    """What the ``runtime`` event says ran beside the trainer; None without one."""
    said = _last(events, "runtime")
    return None if said is None else {key: value for key, value in said.items() if key not in _ENVELOPE}


def buckets(events: list[Event]) -> list[Any] | None:
    """The ``buckets`` event's table; None for rows that are not grouped by length."""
    table = (_last(events, "buckets") or {}).get("buckets")
    return table if isinstance(table, list) else None


def _last(events: list[Event], kind: str) -> dict[str, Any] | None:
    return next((event for event in reversed(events) if event.get("event") == kind), None)


def final_numbers(events: list[Event]) -> dict[str, float]:
    """The last loss that was logged, and what the trainer summed up at its end (``train_loss``, …)."""
    numbers: dict[str, float] = {}
    for event in events:
        if event.get("event") == "step":
            numbers |= {
                key: value for key, value in event.items() if key == "loss" or key.startswith("train_")
            }
    return numbers
