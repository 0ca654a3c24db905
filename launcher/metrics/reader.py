"""``metrics.jsonl``, read while it grows or afterwards."""

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
