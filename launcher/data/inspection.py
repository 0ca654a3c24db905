"""A data set, checked: files into parts, parts judged by whoever does the work, the rest put together here.

Constant memory: a part is read, judged, hashed and forgotten; what is kept is bounded by limits.
"""

import hashlib
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from launcher.data import columns as column_rules
from launcher.data import files as names
from launcher.data import streams
from launcher.data.columns import FileColumns
from launcher.data.duplicates import Keys
from launcher.data.model import DataFile, Findings, Group, Issue, Rules
from launcher.data.quick import Columns, known
from launcher.data.rows import parsed
from launcher.data.rules import LOADED, RULES
from launcher.data.scan import HEAD, Job, Look, Part, Scanned, look, scan
from launcher.data.values import columns
from launcher.errors import DataError
from launcher.progress import Progress, Silent

_In = TypeVar("_In")
_Out = TypeVar("_Out")

#: Bytes of a file that one process judges at a time.
STEP = 8 << 20

_PEEK = 256 << 10


class Work(Protocol):
    """Does jobs, in this process or in several, and hands back the results in order: ``map`` is one."""

    def __call__(self, function: Callable[[_In], _Out], jobs: Iterable[_In], /) -> Iterator[_Out]:
        """The function's results."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to look for beside the rules of the rows.

    Attributes:
        for_run: only files that a trainer reads, as a run has them; otherwise also compressed ones, parquet
            and arrays, and patterns.
        hashes: the files' sha256, which costs another read out of the page cache.
        repeated: rows that occur twice.
        sample: rows of all files together that are kept for the profile, about.
        limit: findings of a rule that are kept.
    """

    for_run: bool = False
    hashes: bool = False
    repeated: bool = True
    sample: int = 0
    limit: int = 20


@dataclass(slots=True, kw_only=True)
class Report:
    """What was found.

    Attributes:
        files: with sha256, size and rows, in the order of the command line.
        groups: findings by rule, errors first, in the order of the rules.
        places: of every path that was given or found, in the order of the command line.
        sample: rows for the profile.
    """

    rules: Rules
    files: tuple[DataFile, ...]
    groups: tuple[Group, ...]
    places: dict[Path, int]
    sample: list[dict[str, Any]] = field(default_factory=list)

    def count(self, *, errors: bool) -> int:
        """How many errors, or warnings, there are."""
        return sum(group.count for group in self.groups if group.error == errors)

    def joined(self, more: Findings) -> "Report":
        """The report with findings of rules that it does not have yet."""
        places = self.places | {path: len(self.places) + place for path, place in more.places.items()}
        merged = Findings(more.limit)
        merged.groups = {group.rule: group for group in self.groups} | more.groups
        merged.places = {**places, **self.places}
        return replace(self, groups=_ordered(merged), places=merged.places)

    @property
    def rows(self) -> int:
        """Of all files."""
        return sum(file.rows for file in self.files)


def inspect(
    given: tuple[Path, ...],
    rules: Rules,
    wanted: Wanted,
    *,
    work: Work = map,
    progress: Progress | None = None,
) -> Report:
    """Check every row of every file.

    Args:
        given: files, or folders of them; of the format retrieval also judgements (``.tsv``) and folders in
            BEIR's layout.
        work: who does the parts; ``map`` does them here, one after the other.

    Raises:
        UsageError: a library is missing that reads one of the files.
    """
    findings = Findings(wanted.limit)
    paths = names.expand(given, rules, findings, for_run=wanted.for_run)
    with Keys() as keys:
        checker = _Checker(rules, wanted, findings, keys, work, progress or Silent(), _total(paths))
        found = [checker.file(path) for path in paths]
        checker.finish()
    return Report(
        rules=rules,
        files=tuple(found),
        groups=_ordered(findings),
        places=findings.places,
        sample=checker.sample,
    )


def _ordered(findings: Findings) -> tuple[Group, ...]:
    order = {name: position for position, name in enumerate(RULES)}
    for group in findings.groups.values():
        group.shown.sort(key=lambda finding: (findings.places[finding.path], finding.line))
    return tuple(sorted(findings.groups.values(), key=lambda group: (not group.error, order[group.rule])))


def _total(paths: Sequence[Path]) -> int:
    return sum(path.stat().st_size for path in paths if path.is_file())


class _Checker:
    """Puts the parts' results together, in the files' order."""

    def __init__(
        self,
        rules: Rules,
        wanted: Wanted,
        findings: Findings,
        keys: Keys,
        work: Work,
        progress: Progress,
        total: int,
    ) -> None:
        self._rules, self._wanted, self._findings, self._keys = rules, wanted, findings, keys
        self._work, self._progress, self._total = work, progress, total
        self.sample: list[dict[str, Any]] = []
        self._parts: list[tuple[int, int, Part]] = []  # first row of all, first line of the file, part
        self._columns: dict[Path, FileColumns] = {}
        self._started = False

    def file(self, path: Path) -> DataFile:
        """Check one file."""
        if self._rules.unified and any(
            part.endswith("no_in_batch_neg") for part in (path.stem, path.parent.name)
        ):
            text = "unified fine-tuning trains on a constant loss without in-batch negatives; "
            text += "rename the file or folder, or use --unified-finetuning false"
            self._say(path, 0, "no-in-batch-unified", text)
        try:
            return self._read(path)
        except OSError as error:
            self._say(path, 0, "file-unreadable", f"cannot be read: {error.strerror or error}")
        except DataError as error:
            self._say(path, 0, "file-damaged", f"cannot be read to its end: {error.problems[0]}")
        return DataFile(path=path, sha256="", size=0, rows=0)

    def _read(self, path: Path) -> DataFile:
        before = path.stat()
        table = names.kind_of(path) == "table"
        array_ = names.kind_of(path) == "lines" and streams.is_array(path)
        if array_:
            text = f"a JSON array; one object per line: {names.conversion(path, self._rules)}"
            self._say(path, 0, "json-array", text)
        streamed = array_ or names.kind_of(path) in ("packed", "parquet")
        parts = _shares(path) if streamed else _spans(path, before.st_size, table=table)
        sha256, lines, rows = hashlib.sha256(), 0, 0
        self._columns[path] = FileColumns()
        scored: dict[bool, tuple[int, int]] = {}
        kept: list[Part] = []

        def jobs() -> Iterator[Job]:
            columns_: Columns | None = None
            for part in parts:
                if part.start == 0:
                    columns_ = None if table else _peek(part)
                    every = self._every(part, before.st_size)
                kept.append(part)
                yield Job(
                    part=part,
                    rules=self._rules,
                    known=None if part.start == 0 else columns_,
                    limit=self._wanted.limit,
                    keys=self._wanted.repeated,
                    every=every,
                )

        if before.st_size and not self._started:
            self._started = True
            self._progress.start("checking", total=self._total, unit="bytes")
        for number, found in enumerate(self._work(scan, jobs())):
            part = kept[number]
            self._take(path, part, found, lines)
            _merge(scored, found, lines)
            lines, rows = lines + found.lines, rows + found.rows
            if self._wanted.hashes:
                _feed(sha256, path, part)
            self._progress.advance("checking", 0 if streamed else part.end - part.start)
            kept[number] = _light(part)
        if streamed:
            self._progress.advance("checking", before.st_size)
        if not streamed and _identity(path.stat()) != _identity(before):
            self._say(path, 0, "file-changed", "changed while it was read")
        self._judge_scores(path, scored)
        rows = max(0, rows - table)  # without the header
        if not rows:
            self._say(path, 0, "file-empty", "no rows")
        digest = sha256.hexdigest() if self._wanted.hashes and not streamed else ""
        return DataFile(path=path, sha256=digest, size=before.st_size, rows=rows)

    def _every(self, part: Part, size: int) -> int:
        """Each so many rows one is kept, by what the rows at the beginning take."""
        if not self._wanted.sample:
            return 0
        with part.opened() as stream:
            piece = stream.read(_PEEK)
        total = max(self._total, size) * len(piece) // (len(piece) or 1)
        rows = total * max(1, piece.count(b"\n")) // max(1, len(piece))
        return max(1, rows // self._wanted.sample)

    def _take(self, path: Path, part: Part, found: Scanned, lines: int) -> None:
        for rule, (count, shown) in found.issues.items():
            for position, (line, issue) in enumerate(shown):
                extra = count - len(shown) if position == len(shown) - 1 else 0
                self._findings.add(path, lines + line, issue, count=1 + extra)
            if not shown:
                self._findings.add(path, 0, Issue(rule, "", "not shown"), count=count)
        if part.start < HEAD and "line-long" in found.issues:
            self._columns[path].unread = True
        self._columns[path].first |= found.first
        self._columns[path].add(found.columns, lines, late=part.start >= HEAD)
        room = max(0, 2 * self._wanted.sample - len(self.sample))
        self.sample += found.sample[:room]
        if self._wanted.repeated:
            self._parts.append((self._keys.rows, lines, _light(part)))
            self._keys.add(found.keys)

    def finish(self) -> None:
        """What only shows when all files were read."""
        if self._started:
            self._progress.finish("checking")
        texts = column_rules.TEXTS.get(self._rules.format, ())
        as_columns = self._rules.trained and self._rules.format in LOADED
        loaded = {path: each for path, each in self._columns.items() if as_columns and not each.unread}
        speaking = self._rules.format == "embedder" and self._rules.same_dataset
        scores = self._rules.scores
        for path, issue, line in column_rules.judge(loaded, texts, scores=scores, speaking=speaking):
            self._findings.add(path, line, issue)
        if self._wanted.repeated and (rows := self._keys.repeated()):
            self._repeated(rows)

    def _repeated(self, rows: Sequence[int]) -> None:
        first: dict[bytes, tuple[Path, int]] = {}
        places: list[tuple[Path, int]] = []  # of the looks: file, and lines before the part

        def looks() -> Iterator[Look]:
            for lines, each in self._looks(rows):
                places.append((each.part.path, lines))
                yield each

        for number, found in enumerate(self._work(look, looks())):
            path, lines = places[number]
            for _, line, digest in found:
                here = (path, lines + line)
                before = first.setdefault(digest, here)
                if before != here:
                    where = f"line {before[1]}" if before[0] == here[0] else f"{before[0]}:{before[1]}"
                    self._findings.add(*here, Issue("row-repeated", "", f"the same row as {where}"))

    def _looks(self, rows: Sequence[int]) -> Iterator[tuple[int, Look]]:
        wanted = iter(rows)
        row = next(wanted, None)
        ends = [first for first, _, _ in self._parts[1:]] + [self._keys.rows]
        again: dict[Path, Iterator[Part]] = {}
        for (first, lines, part), end in zip(self._parts, ends, strict=True):
            if part.lines is not None:  # decompressed once more: nobody could keep all of it
                part = next(again.setdefault(part.path, _shares(part.path)), part)
            mine = array("q")
            while row is not None and row < end:
                mine.append(row - first)
                row = next(wanted, None)
            if mine:
                yield lines, Look(part=part, rules=self._rules, rows=tuple(mine))

    def _judge_scores(self, path: Path, scored: dict[bool, tuple[int, int]]) -> None:
        pairs = self._rules.trained and self._rules.format in ("embedder", "reranker")
        if len(scored) == 2 and pairs and not self._rules.scores:
            (with_, first_with), (without, first_without) = scored[True], scored[False]
            line, what = (first_with, "with") if with_ <= without else (first_without, "without")
            text = f"{with_} rows with teacher scores, {without} without; the first {what} them is here"
            self._say(path, line, "scores-mixed", text)

    def _say(self, path: Path, line: int, rule: str, text: str) -> None:
        self._findings.add(path, line, Issue(rule, "", text))


def _merge(scored: dict[bool, tuple[int, int]], found: Scanned, lines: int) -> None:
    for which, (count, first) in found.scored.items():
        before, line = scored.get(which, (0, lines + first))
        scored[which] = (before + count, line)


def _identity(stat: os.stat_result) -> tuple[int, int, int]:
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


def _spans(path: Path, size: int, *, table: bool) -> Iterator[Part]:
    for start, end in names.spans(size, HEAD, STEP):
        yield Part(path=path, start=start, end=end, table=table)


def _shares(path: Path) -> Iterator[Part]:
    start = 0
    for lines in streams.shares(path):
        if lines is None:
            yield Part(path=path, start=start, end=start, lines=b"", unread=True)
        else:
            yield Part(path=path, start=start, end=start + len(lines), lines=lines)
            start += len(lines)


def _light(part: Part) -> Part:
    """A part without its lines, so that a whole file's are never held."""
    return part if part.lines is None else replace(part, lines=b"")


def _feed(sha256: "hashlib._Hash", path: Path, part: Part) -> None:
    """Hash the bytes of a part that another process has just read: they come from the page cache."""
    if part.lines is not None:
        return
    with path.open("rb", buffering=0) as stream:
        stream.seek(part.start)
        left = part.end - part.start
        while left and (piece := stream.read(min(left, 1 << 20))):
            sha256.update(piece)
            left -= len(piece)


def _peek(part: Part) -> Columns:
    """The columns of a file's first lines, each with all its kinds."""
    seen: dict[str, set[str]] = {}
    with part.opened() as stream:
        lines = stream.read(min(_PEEK, part.end)).split(b"\n")
    for line in lines[:-1]:
        row, _ = parsed(line) if line.strip() else (None, [])
        for name, kind in columns(row) if row is not None else ():
            seen.setdefault(name, set()).add(kind)
    return known(seen)
