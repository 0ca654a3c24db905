"""What was seen of one start, beside its record: how its pods ended, and how far their logs were brought.

Pods go, and their logs with them: when the run is stopped, when a node is lost, when somebody cleans up. What
was seen of them stays here. Only who holds the ledger writes; whoever comes after a killed launcher finds out
from the log itself what was written after the last note.
"""

import fcntl
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from launcher import paths
from launcher.engines.kubernetes.reading import End
from launcher.plan import Folders, Start

_VERSION = 1

#: What the lines of several nodes begin with.
_NODE = re.compile(rb"\[node(\d+)\] ")


@dataclass(slots=True, kw_only=True)
class Cursor:
    """How far a pod's log was brought.

    Attributes:
        newest: time of its newest line, as the cluster writes it; empty: nothing yet.
        seen: how often each line of the last seconds was brought, by its time and text.
    """

    newest: str = ""
    seen: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Noted:
    """The ledger's content.

    Attributes:
        size: of the log when this was noted, in bytes; what lies behind it was written later.
        cursors: by node.
        ends: by node.
        stopped: the run was asked to end.
        failed: why it never began: the error's class, and its texts.
    """

    size: int = 0
    cursors: dict[str, Cursor] = field(default_factory=dict)
    ends: dict[str, End] = field(default_factory=dict)
    stopped: bool = False
    failed: tuple[str, ...] = ()


def prefix(node: int, nodes: int) -> bytes:
    """What a node's lines begin with in the log; nothing where there is one."""
    return f"[node{node}] ".encode() if nodes > 1 else b""


class Ledger:
    """The file of one start.

    Args:
        folders: of the run.
        start: which one.
    """

    def __init__(self, folders: Folders, start: Start) -> None:
        self._file = folders.run / "attempts" / f"{start.attempt}.kubernetes"

    def read(self) -> Noted:
        """What was noted; nothing when there is none, or it is damaged."""
        found = Noted()
        broken = (OSError, ValueError, TypeError, KeyError, AttributeError)
        with suppress(*broken), paths.open_plain(self._file) as stream:
            found = _parsed(json.load(stream))
        found.stopped = self.stopped()
        return found

    def write(self, noted: Noted) -> None:
        """Note it; on a full disk what was noted before stays."""
        text = json.dumps({"version": _VERSION, **asdict(noted)}) + "\n"
        with suppress(OSError):
            paths.write_atomic(self._file, text)

    def stop(self) -> None:
        """Note that the run was asked to end: in a file of its own, whoever holds the ledger."""
        with suppress(OSError):
            self._file.with_suffix(".kubernetes-stopped").touch()

    def stopped(self) -> bool:
        """The run was asked to end."""
        return self._file.with_suffix(".kubernetes-stopped").exists()

    @contextmanager
    def held(self, *, wait: bool) -> Iterator[bool]:
        """Be the only one who writes; gives whether that is so.

        Args:
            wait: until whoever has it gives it up.
        """
        self._file.parent.mkdir(exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._file.with_suffix(".kubernetes-lock"), flags, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(descriptor)
            yield False
            return
        try:
            yield True
        finally:
            os.close(descriptor)


def _parsed(raw: Mapping[str, Any]) -> Noted:
    if raw["version"] != _VERSION:
        raise ValueError(raw["version"])
    return Noted(
        size=int(raw["size"]),
        cursors={node: Cursor(**cursor) for node, cursor in raw["cursors"].items()},
        ends={node: End(**end) for node, end in raw["ends"].items()},
        failed=tuple(raw["failed"]),
    )


def unnoted(log: Path, size: int) -> Counter[int]:
    """How many lines of each node the log has behind what was noted."""
    with log.open("rb") as stream:
        stream.seek(size)
        lines = stream.read().split(b"\n")[:-1]
    found = (_NODE.match(line) for line in lines)
    return Counter(0 if match is None else int(match[1]) for match in found)
