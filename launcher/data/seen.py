"""A set of digests that lives on the disk: which rows or texts occurred before, in constant memory."""

import sqlite3
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self


class Seen:
    """Remembers digests and a number for each; a context manager."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="launch-data-")
        self._database = sqlite3.connect(Path(self._folder.name) / "seen", isolation_level=None)
        for line in (
            "PRAGMA journal_mode = OFF",
            "PRAGMA synchronous = OFF",
            "PRAGMA cache_size = -65536",
            "CREATE TABLE seen (digest BLOB PRIMARY KEY, number INTEGER) WITHOUT ROWID",
            "BEGIN",
        ):
            self._database.execute(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._database.close()
        self._folder.cleanup()

    def first(self, digest: bytes) -> bool:
        """Whether this digest was not there before."""
        done = self._database.execute("INSERT OR IGNORE INTO seen VALUES (?, 0)", (digest,))
        return done.rowcount == 1

    def number(self, digest: bytes, number: int) -> int:
        """The number that this digest came with first."""
        self._database.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (digest, number))
        (first,) = self._database.execute("SELECT number FROM seen WHERE digest = ?", (digest,)).fetchone()
        return int(first)
