"""``metrics.jsonl`` and the files of other nodes beside it, read while they grow or afterwards."""

import heapq
import json
import os
import re
from pathlib import Path

from launcher import paths
from launcher.metrics.events import Event, finite

#: The name of another node's file; the first node's has no number.
_OF_A_NODE = re.compile(r"metrics\.(\d+)\.jsonl", re.ASCII)


def files(folder: Path) -> list[Path]:
    """The files of events of a run's record: ``metrics.jsonl``, then ``metrics.K.jsonl`` of nodes K > 0.

    The first one need not exist yet.
    """
    found = []
    try:
        for name in os.listdir(folder):  # noqa: PTH208 - twice as fast as pathlib, and called often
            if (match := _OF_A_NODE.fullmatch(name)) is not None:
                found.append((int(match[1]), name))
    except OSError:
        pass
    return [folder / "metrics.jsonl", *(folder / name for _, name in sorted(found))]


class Reader:
    """Reads a run's events while they come; complete lines only, and through no link.

    Args:
        file: ``metrics.jsonl`` of a run; it need not exist yet. Those of other nodes are read with it.
    """

    def __init__(self, file: Path) -> None:
        self._folder = file.parent
        self._offsets: dict[Path, int] = {}
        self.events: list[Event] = []

    def new(self) -> list[Event]:
        """The events since the last call; an unreadable line is left out.

        Those of several nodes are in the order of their times, as far as the nodes' clocks agree; those of
        one node are always in the order in which it wrote them.
        """
        by_node = [each for file in files(self._folder) if (each := self._fresh(file))]
        fresh = by_node[0] if len(by_node) == 1 else list(heapq.merge(*by_node, key=_time))
        self.events += fresh
        return fresh

    def _fresh(self, file: Path) -> list[Event]:
        offset = self._offsets.get(file, 0)
        try:
            with paths.open_plain(file) as stream:
                stream.seek(offset)
                block = stream.read()
        except OSError:
            return []
        complete = block[: block.rfind(b"\n") + 1]
        self._offsets[file] = offset + len(complete)
        return [event for line in complete.splitlines() if (event := _event(line)) is not None]


def _time(event: Event) -> float:
    return finite(event, "time") or 0.0


def read(file: Path) -> list[Event]:
    """All events of a run; none when it reported nothing."""
    return Reader(file).new()


#: Bytes at a file's beginning and end in which its first and last events are: all ranks have begun, and
#: have reported a step.
_ENDS = 64 * 1024


def latest(file: Path) -> Event:
    """The newest value of every key that was reported, without reading all of a long file.

    Of several nodes the first one's count, as its rank 0 reports what all share.
    """
    found: Event = {}
    for each in reversed(files(file.parent)):
        found |= _latest(each)
    return found


def _latest(file: Path) -> Event:
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
