"""Rows that occur twice, in bounded memory: 64-bit keys on disk, looked through in passes, then confirmed.

Two different rows share a key with a probability of 2^-64; among n rows some pair does with less than
n^2 / 2^65: 3e-8 for a million rows, 3e-4 for a hundred million. What shares a key is read again and
compared by a 128-bit digest of all that is trained on, so that no row is reported that is not repeated.
"""

import tempfile
from array import array
from collections.abc import Iterator
from itertools import compress
from typing import IO, Self

#: Keys that a pass holds in memory, about 100 bytes each.
PASS = 1_500_000

#: Rows with a key of another row that are read again; beyond it the rest is not counted.
MOST = 200_000

_BLOCK = 1 << 16


class Keys:
    """The keys of all rows, in order; a context manager."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self.rows = 0
        self._some: set[int] = set()
        self._zeros = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *about: object) -> None:
        self._file.close()

    def add(self, keys: "array[int]") -> None:
        """The keys of the next rows; 0 for a row that is compared with none."""
        self._file.write(keys.tobytes())
        self.rows += len(keys)
        if self.rows <= PASS:  # while others still read: most data has no repeated rows
            self._some.update(keys)
            self._zeros += keys.count(0)

    def repeated(self) -> list[int]:
        """Numbers (from 0) of rows that have a key of another row, the first :data:`MOST` of them."""
        if self.rows <= PASS and len(self._some) == self.rows - max(0, self._zeros - 1):
            return []
        self._some.clear()
        twice: set[int] = set()
        passes = -(-self.rows // PASS)
        for number in range(passes):
            seen: set[int] = set()
            for block in self._blocks():
                mine = block if passes == 1 else [each for each in block if each % passes == number]
                fresh = set(mine)
                twice |= seen & fresh
                if len(fresh) < len(mine):
                    within: set[int] = set()
                    twice.update(each for each in mine if each in within or within.add(each))  # type: ignore[func-returns-value]
                seen |= fresh
                if len(twice) > MOST:
                    break
        twice.discard(0)
        return self._rows_with(twice) if twice else []

    def _rows_with(self, keys: set[int]) -> list[int]:
        found: list[int] = []
        base = 0
        for block in self._blocks():
            if not keys.isdisjoint(block):
                found += compress(range(base, base + len(block)), [each in keys for each in block])
            base += len(block)
            if len(found) > MOST:
                break
        return found[:MOST]

    def _blocks(self) -> Iterator["array[int]"]:
        self._file.seek(0)
        while data := self._file.read(_BLOCK * 8):
            yield array("q", data)
