"""Train and dev without a leak: rows that share a query or a right answer stay on one side.

Two passes. The first joins rows that share a text (union-find by row number, 16 bytes a row; the texts'
digests are on the disk). The second sends each group to a side by a number that its own smallest digest and
the seed give, so that the order of files does not matter. Groups larger than dev itself are for train.
"""

from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from launcher.data.blocks import TOO_LONG
from launcher.data.dialogues import asked
from launcher.data.fixing import lines_of, targets
from launcher.data.rows import BLANK, parsed
from launcher.data.scan import digest
from launcher.data.seen import Seen
from launcher.data.write import new_folder
from launcher.errors import DataError
from launcher.progress import Progress

#: Steps in which the share of dev is found.
_STEPS = 1 << 16

#: Formats whose every row has a text that others may share.
_PAIRS = ("embedder", "reranker")

_HINT = "launch data check finds all, --fix repairs them"


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """How many rows went where, and in how many groups."""

    folder: Path
    train: int
    dev: int
    groups: int
    largest: int


def split(
    files: Sequence[Path], out: Path, *, share: float, seed: int, format_: str, progress: Progress
) -> Split:
    """Divide rows into ``out/train`` and ``out/dev``; of one file into ``train.jsonl`` and ``dev.jsonl``.

    Args:
        share: of the rows that go to dev, between 0 and 1; about, because groups are not divided.

    Raises:
        OutputError: the folder holds something.
        DataError: rows that cannot be read, or one side would be empty.
    """
    progress.start("joining rows", total=None)
    groups = _joined(files, format_)
    progress.finish("joining rows")
    progress.start("writing", total=None)
    counts = {"train": 0, "dev": 0}
    with new_folder(out) as folder:
        row, below = 0, groups.threshold(share, seed)
        for path, name in zip(files, targets(files), strict=True):
            with ExitStack() as stack:
                streams = {}
                for side in counts:
                    target = folder / f"{side}.jsonl" if len(files) == 1 else folder / side / name
                    target.parent.mkdir(exist_ok=True)
                    streams[side] = stack.enter_context(target.open("wb"))
                for _, line, _ in _rows(path):
                    side = "dev" if groups.chance(row, seed) < below else "train"
                    streams[side].write(line + b"\n")
                    counts[side] += 1
                    row += 1
        largest = groups.largest()
        if not all(counts.values()):
            raise DataError(
                f"all {row} rows would go to one side",
                [f"the largest group has {largest} rows: they share a query or a right answer"],
                hint="another --seed or --dev; or a text that is right for most rows is in the way",
            )
    progress.finish("writing")
    return Split(folder=out, **counts, groups=groups.count(), largest=largest)


class _Groups:
    """Rows that belong together, by number."""

    def __init__(self) -> None:
        self._parent, self._mark = array("q"), array("Q")
        self._large: set[int] = set()

    def add(self, mark: int) -> int:
        """A new row with its own 64-bit mark; its number."""
        self._parent.append(len(self._parent))
        self._mark.append(mark)
        return len(self._parent) - 1

    def join(self, one: int, other: int) -> None:
        """Two rows stay together; the group keeps its smallest mark."""
        first, second = sorted((self._root(one), self._root(other)))
        self._parent[second] = first
        self._mark[first] = min(self._mark[first], self._mark[second])

    def chance(self, row: int, seed: int) -> float:
        """A number from 0 to 1 that the row's whole group has."""
        root = self._root(row)
        if root in self._large:
            return 1.0
        mark = self._mark[root]
        drawn = blake2b(f"{seed} {mark}".encode(), digest_size=8).digest()
        return int.from_bytes(drawn, "big") / (1 << 64)

    def threshold(self, share: float, seed: int) -> float:
        """The number below which groups are for dev, so that about ``share`` of the rows are.

        Groups that are larger than that are made train's.
        """
        sizes, room = self._sizes(), share * len(self._parent)
        rows = array("q", bytes(8 * _STEPS))
        for root, size in enumerate(sizes):
            if size > max(1, room):
                self._large.add(root)
            elif size:
                rows[min(_STEPS - 1, int(self.chance(root, seed) * _STEPS))] += size
        filled = best = 0
        for step, here in enumerate(rows, start=1):
            if here and filled and abs(room - filled - here) >= abs(room - filled):
                break
            filled, best = filled + here, step if here else best
        return best / _STEPS

    def count(self) -> int:
        """Of groups."""
        return sum(parent == row for row, parent in enumerate(self._parent))

    def largest(self) -> int:
        """Rows of the largest group."""
        return max(self._sizes(), default=0)

    def _sizes(self) -> "array[int]":
        """Rows of each group, at its root's number."""
        sizes = array("q", bytes(8 * len(self._parent)))
        for row in range(len(self._parent)):
            sizes[self._root(row)] += 1
        return sizes

    def _root(self, row: int) -> int:
        parent = self._parent
        while parent[row] != row:
            parent[row] = row = parent[parent[row]]
        return row


def _joined(files: Sequence[Path], format_: str) -> _Groups:
    groups = _Groups()
    with Seen() as seen:
        for path in files:
            for number, _, row in _rows(path):
                marks = [_digest(text) for text in _texts(row, format_)]
                if not marks and format_ in _PAIRS:
                    raise DataError(f"{path}:{number}: no text that rows could share", ["query or pos"])
                marks = marks or [digest(row)]  # of other formats a row may share nothing but itself
                mine = groups.add(min(int.from_bytes(mark[:8], "big") for mark in marks))
                for mark in marks:
                    before = seen.number(mark, mine)
                    if before != mine:
                        groups.join(before, mine)
    return groups


def _rows(path: Path) -> Iterator[tuple[int, bytes, dict[str, Any]]]:
    for number, line in enumerate(lines_of(path), start=1):
        if line is None:
            raise DataError(f"{path}:{number}: {TOO_LONG}", [], hint=_HINT)
        line = line.removeprefix(b"\xef\xbb\xbf").strip(BLANK)
        if not line:
            continue
        row, issues = parsed(line)
        if row is None:
            raise DataError(f"{path}:{number}: {issues[0]}", [], hint=_HINT)
        yield number, line, row


def _texts(row: dict[str, Any], format_: str) -> Iterator[str]:
    """What must not be on both sides: queries and right answers; of dialogues what is asked; whole texts."""
    if format_ == "sft" or (format_ == "llm" and "text" not in row):
        found: list[Any] = [asked(row)]
    else:
        values = (row.get("query"), row.get("pos"), row.get("text"))
        found = [text for value in values for text in (value if isinstance(value, list) else [value])]
    yield from (text for text in found if isinstance(text, str) and text.strip())


def _digest(text: str) -> bytes:
    """Of a text without regard to case and spaces, by which copies differ most often."""
    return blake2b(" ".join(text.casefold().split()).encode(errors="replace"), digest_size=16).digest()
