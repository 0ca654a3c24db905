"""The output of a run's pods, brought into its log line by line: none twice, none lost, each pod's in order.

A log is asked for with the time of each line. After a break it is asked for again from a second before its
newest line on, and what was brought already is left out: by time and text, as often as it was there. (The two
streams of a program may be noted a little out of their order, so that the newest time alone says too little.)
"""

import hashlib
import os
import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from launcher.engines.kubernetes import ledger, objects, reading
from launcher.engines.kubernetes.api import Api
from launcher.engines.kubernetes.ledger import Cursor, Noted
from launcher.errors import ClusterError, EngineGoneError

#: Seconds before the newest line from which on a log is read again.
_BACK = timedelta(seconds=1)

#: Seconds between two looks at a log that has no more at the moment.
_PAUSE = 0.5

#: A line of a node's log: its number, the time, the text.
Line = tuple[int, str, bytes]


class Writer:
    """Puts lines of several nodes into the log, and knows what it has.

    Args:
        log: the file.
        begins: where this start's output begins in it, in bytes.
        nodes: of the run.
        noted: what is known from before; it is kept up to date.
    """

    def __init__(self, log: Path, begins: int, nodes: int, noted: Noted) -> None:
        # No link is followed: the record is the recipe's to write, and the file would be anybody's.
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
        self._file = os.fdopen(os.open(log, flags, 0o644), "ab", buffering=0)
        self._nodes, self._noted = nodes, noted
        noted.size = max(noted.size, begins)
        _cut_torn(log, noted.size)
        self._behind = ledger.unnoted(log, noted.size)
        self._cursors = {node: _copied(cursor) for node, cursor in noted.cursors.items()}

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def take(self, line: Line) -> str | None:
        """Write a line; gives it as the log has it, or None when the log had it already."""
        node, at, text = line
        _move(self._cursors.setdefault(str(node), Cursor()), at, text)
        if self._behind[node]:  # a launcher that was killed has written it, and not come to its note
            self._behind[node] -= 1
            return None
        whole = ledger.prefix(node, self._nodes) + text + b"\n"
        written = 0
        while written < len(whole):
            written += self._file.write(whole[written:])
        return whole[:-1].decode(errors="replace")

    def settle(self) -> None:
        """Note the log's length and how far that is: when no line of before is left out any more."""
        if not +self._behind:
            self._noted.size = os.fstat(self._file.fileno()).st_size
            self._noted.cursors = {node: _copied(cursor) for node, cursor in self._cursors.items()}


def _cut_torn(log: Path, after: int) -> None:
    """Remove the beginning of a line that a full disk, or the end of its writer, has left."""
    with log.open("r+b") as stream:
        stream.seek(after)
        rest = stream.read()
        whole = rest[: rest.rfind(b"\n") + 1]
        if len(whole) < len(rest):
            stream.truncate(after + len(whole))


def _copied(cursor: Cursor) -> Cursor:
    return Cursor(newest=cursor.newest, seen=dict(cursor.seen))


def _move(cursor: Cursor, at: str, text: bytes) -> None:
    before, cursor.newest = cursor.newest, max(cursor.newest, at, key=_sortable)
    if before[:19] != cursor.newest[:19]:  # what lies further back is not read again
        oldest = _since(cursor.newest)[:19]
        cursor.seen = {key: count for key, count in cursor.seen.items() if key[:19] >= oldest}
    key = _key(at, text)
    cursor.seen[key] = cursor.seen.get(key, 0) + 1


def _key(at: str, text: bytes) -> str:
    return f"{at} {hashlib.sha256(text).hexdigest()[:16]}"


def _sortable(at: str) -> tuple[str, str]:
    """A time with any number of digits behind the second: 05Z, 05.1Z and 05.123456789Z."""
    second, _, rest = at.removesuffix("Z").partition(".")
    return second, rest.ljust(9, "0")


def _since(newest: str) -> str:
    """The whole second from which on a log is read again."""
    second = datetime.fromisoformat(f"{newest[:19]}+00:00") - _BACK
    return second.strftime("%Y-%m-%dT%H:%M:%SZ")


class Reader:
    """Brings one pod's log, across breaks.

    Args:
        api: the cluster.
        pod: whose log.
        cursor: how far it was brought before.
        follow: go on until the pod has ended.
        over: nobody reads the lines any more.
    """

    def __init__(
        self,
        api: Api,
        pod: reading.Manifest,
        cursor: Cursor,
        *,
        follow: bool,
        over: threading.Event | None = None,
    ) -> None:
        self._api, self._follow, self._over = api, follow, over or threading.Event()
        head = pod["metadata"]
        self._path = objects.path("Pod", head["namespace"], head["name"]) + "/log"
        self._container = str(reading.container(pod)["name"])
        self._node = reading.number(pod)
        # Its own copy: the writer's is another thread's, and behind it.
        self._cursor = _copied(cursor)
        self.ended = threading.Event()

    def lines(self) -> Iterator[Line]:
        """All lines that were not brought before."""
        last = not self._follow
        while not self._over.is_set():
            over = last or self.ended.is_set()
            try:
                yield from self._fresh(follow=not over)
            except ClusterError as error:
                if error.status == 404 or (error.status == 400 and over):  # it is gone; it never began
                    return
                if error.status != 400:
                    raise
            except EngineGoneError:
                # A break. That nobody answers any more is found out by whoever watches the pods.
                if not self._follow:
                    raise
                over = self._over.wait(_PAUSE)
            if over:
                return
            self.ended.wait(_PAUSE)

    def _fresh(self, *, follow: bool) -> Iterator[Line]:
        query = {"container": self._container, "timestamps": "true", "follow": str(follow).lower()}
        known = Counter[str]()
        if self._cursor.newest:
            query["sinceTime"] = _since(self._cursor.newest)
            known.update(self._cursor.seen)
        for raw in self._api.lines(self._path, query):
            time, _, text = raw.partition(b" ")
            at = time.decode(errors="replace")
            if not _is_time(at):  # the cluster's own word, e.g. that it cannot read the log just now
                continue
            key = _key(at, text)
            if known[key]:
                known[key] -= 1
                continue
            _move(self._cursor, at, text)
            yield self._node, at, text


def _is_time(text: str) -> bool:
    return len(text) >= 20 and text.endswith("Z") and text[4] == text[7] == "-" and text[10] == "T"


def in_background(work: Callable[[], Iterator[Any]], found: "queue.Queue[Any]", name: str) -> None:
    """Put what an iterator gives into a queue, and behind it ``(name, None or what broke)``."""

    def run() -> None:
        broken: BaseException | None = None
        try:
            for item in work():
                found.put(item)
        except BaseException as error:  # noqa: BLE001 - raised again by whoever reads the queue
            broken = error
        found.put((name, broken))

    threading.Thread(target=run, daemon=True).start()
