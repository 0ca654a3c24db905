"""A part of a file, judged: what one process does, and what it hands back."""

import codecs
import gc
import io
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from launcher.data.blocks import TOO_LONG, blocks
from launcher.data.model import Issue, Rules
from launcher.data.quick import Columns, Quick, content, key, quick
from launcher.data.rows import BLANK, judge_judgement, judge_row, parsed
from launcher.data.values import MOST_COLUMNS, SPEAKING, columns

#: By this much of a file the trainer's reader (datasets) decides what a column holds.
HEAD = 10 << 20

_CUT = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Lines of a file.

    Attributes:
        start, end: bytes; a line belongs to the part in which it begins.
        lines: the lines, of files that have to be decompressed or taken apart; None: read the file.
        unread: instead of lines there is one that is too long.
        table: BEIR's judgements, not JSON.
    """

    path: Path
    start: int
    end: int
    lines: bytes | None = None
    table: bool = False
    unread: bool = False

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """A stream whose position is that of the file."""
        if self.lines is not None:
            yield io.BytesIO(self.lines)
        else:
            with self.path.open("rb", buffering=1 << 16) as stream:
                yield stream

    def blocks(self, stream: BinaryIO) -> Iterator[bytes | None]:
        """See :func:`launcher.data.blocks.blocks`."""
        if self.unread:
            return iter([None])
        if self.lines is None:
            return blocks(stream, self.start, self.end)
        return blocks(stream, 0, len(self.lines))


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A part, and how to judge it.

    Attributes:
        known: columns of the beginning of the file; None: judge every line with care.
        limit: findings of a rule that are kept.
        keys: whether rows get keys, by which repeated ones are found.
        every: each so many rows one is kept for the profile; 0: none.
    """

    part: Part
    rules: Rules
    known: Columns | None = None
    limit: int = 20
    keys: bool = True
    every: int = 0


@dataclass(slots=True, kw_only=True)
class Scanned:
    """What was found in a part.

    Attributes:
        lines, rows: all lines, and those that are not blank.
        issues: rule -> (how many, the first ones with their line in the part).
        keys: one 64-bit key per row, 0 where there is nothing to compare.
        columns: (column, kind) -> the first line that has it.
        first: of the file's first row, the kinds of the columns that speak for all rows.
        scored: rows with teacher scores, rows without, and the first line of the rarer kind.
        sample: rows for the profile, as values.
    """

    lines: int = 0
    rows: int = 0
    issues: dict[str, tuple[int, list[tuple[int, Issue]]]] = field(default_factory=dict)
    keys: "array[int]" = field(default_factory=lambda: array("q"))
    columns: dict[tuple[str, str], int] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)
    scored: dict[bool, tuple[int, int]] = field(default_factory=dict)
    sample: list[dict[str, Any]] = field(default_factory=list)


def scan(job: Job) -> Scanned:
    """Judge a part.

    Raises:
        OSError: the file cannot be read.
    """
    scanner = _Scanner(job)
    paused = gc.isenabled()
    gc.disable()  # rows are trees: counting references frees them, and looking for cycles doubles the time
    try:
        with job.part.opened() as stream:
            for block in job.part.blocks(stream):
                scanner.block(block)
    finally:
        if paused:
            gc.enable()
    return scanner.found


class _Scanner:
    def __init__(self, job: Job) -> None:
        self._job, self._rules = job, job.rules
        self._quick: Quick | None = None if job.known is None else quick(job.known, job.rules)
        self.found = Scanned()
        self._next = job.every // 2  # in the middle of each stretch

    def block(self, block: bytes | None) -> None:
        """Judge whole lines; None stands for one that is too long."""
        found = self.found
        if block is None:
            found.lines += 1
            found.rows += 1
            found.keys.append(0)
            self._say(Issue("line-long", "", TOO_LONG))
            return
        if not self._pass(block):
            first = self._job.part.start == 0 and not found.lines
            lines = block.split(b"\n")
            if block.endswith(b"\n"):
                lines.pop()
            for line in lines:
                found.lines += 1
                if first:
                    line, first = self._without_mark(line), False
                if not self._pass(line, lines=0):
                    self._line(line)

    def _pass(self, block: bytes, lines: int = 1) -> bool:
        """Whether there is nothing to say about a block (with ``lines=0``: a line that was counted)."""
        if self._quick is None or not block:
            return False
        rows = self._quick.rows(block)
        judged = self._quick.keys(rows, block) if rows else None
        if not rows or judged is None:
            return False
        keys, scored = judged
        found = self.found
        self._keep(rows)
        first = found.lines + lines  # a line that was counted already is its own first
        if scored:
            self._count(True, scored, first + _position(rows, scored, True))
        if scored < len(rows):
            self._count(False, len(rows) - scored, first + _position(rows, scored, False))
        if lines:
            found.lines += len(rows)
        found.rows += len(rows)
        if self._job.keys:
            found.keys.extend(keys)
        return True

    def _without_mark(self, line: bytes) -> bytes:
        if line.startswith(codecs.BOM_UTF8):
            self._say(Issue("bom", "", "a byte order mark at the beginning"))
        return line.removeprefix(codecs.BOM_UTF8)

    def _line(self, line: bytes) -> None:
        found, rules = self.found, self._rules
        if not line.strip(BLANK):
            if not self._job.part.table:
                self._say(Issue("blank-line", "", "a blank line"))
            return
        found.rows += 1
        if self._job.part.table:
            header = self._job.part.start == 0 and found.rows == 1
            found.keys.append(0)
            for issue in judge_judgement(line, header=header):
                self._say(issue)
            return
        row, issues = parsed(line)
        found.keys.append(key(row, rules) if row is not None and self._job.keys else 0)
        for issue in issues:
            self._say(issue)
        if row is None:
            return
        for issue in judge_row(row, rules):
            self._say(issue)
        if found.rows == 1 and self._job.part.start == 0:
            found.first = {name: kind for name, kind in columns(row) if name in SPEAKING}
        for column in columns(row):
            if column not in found.columns and len(found.columns) < MOST_COLUMNS:
                found.columns[column] = found.lines
        if rules.format in ("embedder", "reranker"):
            scores = (row.get("pos_scores"), row.get("neg_scores"))
            self._count(all(score is not None for score in scores), 1, found.lines)
        if self._job.every and found.rows > self._next:
            self._next += self._job.every
            found.sample.append(_shortened(row))

    def _keep(self, rows: Any) -> None:
        every, seen = self._job.every, self.found.rows
        while every and self._next < seen + len(rows):
            self.found.sample.append(_shortened(msgspec.structs.asdict(rows[self._next - seen])))
            self._next += every

    def _say(self, issue: Issue) -> None:
        count, shown = self.found.issues.setdefault(issue.rule, (0, []))
        if len(shown) < self._job.limit:
            shown.append((self.found.lines, issue))
        self.found.issues[issue.rule] = (count + 1, shown)

    def _count(self, scored: bool, rows: int, line: int) -> None:
        count, first = self.found.scored.get(scored, (0, line))
        self.found.scored[scored] = (count + rows, first)


def _position(rows: Any, scored: int, wanted: bool) -> int:
    """Where the first row with scores, or without, is among rows of which ``scored`` have them."""
    if scored == (len(rows) if wanted else 0):
        return 0
    have = (row.pos_scores is not None and row.neg_scores is not None for row in rows)
    return next(position for position, each in enumerate(have) if each == wanted)


def _shortened(row: dict[str, Any]) -> dict[str, Any]:
    """A row for the profile: no text longer than what any model reads."""

    def cut(value: Any) -> Any:
        if isinstance(value, str):
            return value[:_CUT]
        return [cut(item) for item in value[:100]] if isinstance(value, list) else value

    return {name: cut(value) for name, value in row.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Rows of a part that may be repetitions, by their number in the part."""

    part: Part
    rules: Rules
    rows: tuple[int, ...]


def look(job: Look) -> list[tuple[int, int, bytes]]:
    """The rows' number, line and 128-bit digest of what they hold: equal when the rows are."""
    wanted, found = set(job.rows), []
    line_number = row_number = 0
    with job.part.opened() as stream:
        for block in job.part.blocks(stream):
            lines = [b"null"] if block is None else block.removesuffix(b"\n").split(b"\n")
            for line in lines:
                line_number += 1
                if not line.strip(BLANK):
                    continue
                if row_number in wanted:
                    row, _ = parsed(line.removeprefix(codecs.BOM_UTF8))
                    found.append((row_number, line_number, digest(content(row, job.rules))))
                row_number += 1
    return found


def digest(value: Any) -> bytes:
    """128 bits of a value: no two are equal by chance (2 to the power of -64 after four billion rows)."""
    return blake2b(msgspec.json.encode(value, order="sorted"), digest_size=16).digest()
