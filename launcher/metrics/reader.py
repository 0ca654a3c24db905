"""``metrics.jsonl``, read while it grows or afterwards."""

import json
import os
from pathlib import Path
from typing import Any

from launcher import paths

Event = dict[str, Any]


class Reader:
    """Reads a file of events while it grows; complete lines only, and through no link.

    Args:
        file: ``metrics.jsonl`` of a run; it need not exist yet.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._offset = 0
        self.events: list[Event] = []

    def new(self) -> list[Event]:
        """The events since the last call; an unreadable line is left out."""
        try:
            with paths.open_plain(self._file) as stream:
                stream.seek(self._offset)
                block = stream.read()
        except OSError:
            return []
        complete = block[: block.rfind(b"\n") + 1]
        self._offset += len(complete)
        fresh = [event for line in complete.splitlines() if (event := _event(line)) is not None]
        self.events += fresh
        return fresh


def read(file: Path) -> list[Event]:
    """All events of a run; none when it reported nothing."""
    return Reader(file).new()


#: Bytes at a file's beginning and end in which its first and last events are: all ranks have begun, and
#: have reported a step.
_ENDS = 64 * 1024


def latest(file: Path) -> Event:
    """The newest value of every key that was reported, without reading all of a long file."""
    try:
        with paths.open_plain(file) as stream:
            block = stream.read(_ENDS)
            end = stream.seek(0, os.SEEK_END)
            if end > _ENDS:
                stream.seek(max(_ENDS, end - _ENDS))
                block += stream.read()
    except OSError:
        return {}
    found: Event = {}
    for line in block.splitlines():
        found |= _event(line) or {}
    return found


def _event(line: bytes) -> Event | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) else None
