"""Columns of a file and of a data set, as the trainer's reader sees them: what it decides from the beginning.

Measured with datasets 5.0.1 and pyarrow 26: it reads 10 MiB, decides which columns there are and what each
holds, and casts the rest to that; files are then put together, which needs the same kinds in all of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from launcher.data.model import Issue
from launcher.data.values import MOST_COLUMNS, SPEAKING

#: Columns of a format in which a trainer expects text.
TEXTS = {
    "embedder": ("query", "pos[]", "neg[]"),
    "reranker": ("query", "pos[]", "neg[]"),
    "plain": ("text",),
}

#: Columns whose values are judged row by row.
_JUDGED = frozenset("query pos neg pos_scores neg_scores prompt text title messages batch_size".split())

_NAMES = {
    "text": "a text",
    "time": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true/false",
    "list": "a list",
    "object": "an object",
}

#: What becomes of a later kind when the beginning has another: these pairs are cast without a loss.
_CAST = {("float", "int"), ("text", "int"), ("text", "float"), ("text", "bool"), ("text", "time")}
_CAST |= {("bool", "int"), ("bool", "float")}


class FileColumns:
    """Which kinds the columns of one file have, and on which line each came first.

    Attributes:
        unread: a line of the beginning was too long to be read, so that nothing follows from the others.
    """

    def __init__(self) -> None:
        self.head: dict[tuple[str, str], int] = {}
        self.late: dict[tuple[str, str], int] = {}
        self.first: dict[str, str] = {}
        self.unread = False

    def add(self, found: Mapping[tuple[str, str], int], lines: int, *, late: bool) -> None:
        """Columns of a part, which begins after ``lines`` lines."""
        mine = self.late if late else self.head
        for column, line in found.items():
            if column not in mine and len(mine) < MOST_COLUMNS:
                mine[column] = lines + line

    def kinds(self) -> dict[str, set[str]]:
        """Column -> the kinds of the beginning, without null; of whole and other numbers the latter."""
        found: dict[str, set[str]] = {}
        for name, kind in self.head:
            found.setdefault(name, set()).update({kind} - {"null"})
        for kinds in found.values():
            if "float" in kinds:
                kinds.discard("int")
            if "text" in kinds:
                kinds.discard("time")
        return found


def judge(
    columns: Mapping[Path, FileColumns], texts: Sequence[str], *, scores: bool, speaking: bool
) -> Iterator[tuple[Path, Issue, int]]:
    """What the columns of all files are judged to be: path, issue, line.

    Args:
        texts: columns that must be texts; that others hold what they should is judged row by row.
        scores: whether the trainer keeps the columns of teacher scores; otherwise it drops them first.
        speaking: whether it reads the first row's type and batch_size.
    """
    first: dict[str, tuple[Path, str]] = {}
    for path, file in columns.items():
        kinds = file.kinds()
        for name in texts:
            if kinds.get(name) == {"time"}:
                text = "only dates in the first 10 MiB, which become dates and are no texts any more"
                yield path, Issue("text-as-time", name, text), 0
        yield from _late(path, file, kinds)
        for name in SPEAKING if speaking else ():
            wanted = "text" if name == "type" else "int"
            if kinds.get(name) and file.first.get(name, "null") != wanted:
                text = f"{_name(wanted)} in other rows, and not in the first one, which speaks for all"
                yield path, Issue("first-row", name, text), 0
        for name, mine in kinds.items():
            if len(mine) > 1 and name.removesuffix("[]") not in _JUDGED:
                line = max(line for (column, kind), line in file.head.items() if column == name)
                yield path, Issue("column-mixed", name, " and ".join(map(_name, sorted(mine)))), line
        for name, mine in kinds.items():
            dropped = name.removesuffix("[]") in ("pos_scores", "neg_scores") and not scores
            if len(mine) != 1 or dropped:
                continue
            (own,) = mine
            before_path, before = first.setdefault(name, (path, own))
            if before != own:
                text = f"{_name(own)}, and in {before_path} {_name(before)}"
                yield path, Issue("column-files", name, text), file.head.get((name, own), 0)


def _late(path: Path, file: FileColumns, kinds: Mapping[str, set[str]]) -> Iterator[tuple[Path, Issue, int]]:
    told: set[str] = set()
    for (name, kind), line in sorted(file.late.items(), key=lambda item: item[1]):
        parent = name.rpartition("[]")[0] if name.endswith("[]") else name.rpartition(".")[0]
        if kind == "null" or name in told or parent in told:
            continue
        before = kinds.get(name, set())
        if kind in before or len(before) > 1 or any((each, kind) in _CAST for each in before):
            continue
        told.add(name)
        what = " and ".join(map(_name, sorted(before))) or "not there, or null or empty"
        yield path, Issue("column-late", name, f"{_name(kind)} here, and {what} in the first 10 MiB"), line


def _name(kind: str) -> str:
    return _NAMES[kind]
