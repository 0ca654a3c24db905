"""A repaired copy of a data set: one ``.jsonl`` for each file, and a log of all that is not as it was."""

import codecs
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from launcher.data import files as names
from launcher.data import streams
from launcher.data.blocks import TOO_LONG
from launcher.data.model import Findings, Rules
from launcher.data.quick import content
from launcher.data.repair import repair
from launcher.data.rows import BLANK, parsed
from launcher.data.scan import digest
from launcher.data.seen import Seen
from launcher.data.write import new_folder
from launcher.errors import DataError
from launcher.progress import Progress

LOG = "fix.log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """What became of the rows.

    Attributes:
        remaining: errors that the copy still has, which no repair of single rows can mend.
    """

    folder: Path
    kept: int
    changed: int
    left_out: int
    remaining: int = 0

    def summary(self) -> str:
        """One line for people."""
        return (
            f"{self.folder}: {self.kept} rows, {self.changed} of them changed, {self.left_out} left out; "
            f"{LOG} says which"
        )


def fix(given: tuple[Path, ...], rules: Rules, out: Path, *, progress: Progress) -> Fixed:
    """Write the repaired copy.

    Args:
        out: a folder that is not there yet, or is empty.

    Raises:
        OutputError: it holds something.
        DataError: a path that is not there or is no data, or a file that cannot be read to its end.
    """
    findings = Findings(20)
    paths = names.expand(given, rules, findings, for_run=False)
    wrong = [str(each) for group in findings.groups.values() if group.error for each in group.shown]
    if wrong or not paths:  # a copy without them would look as if it were whole
        raise DataError("these cannot be repaired", wrong or ["there is no file"])
    counts = {"kept": 0, "changed": 0, "left_out": 0}
    progress.start("repairing", total=sum(path.stat().st_size for path in paths), unit="bytes")
    with new_folder(out) as folder, (folder / LOG).open("w", encoding="utf-8") as log, Seen() as seen:
        for path, name in zip(paths, targets(paths), strict=True):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if names.kind_of(path) == "table":
                shutil.copyfile(path, target)
                continue
            with target.open("wb") as stream:
                for line, said in _fixed(path, rules, seen, counts):
                    if line is not None:
                        stream.write(line + b"\n")
                    log.writelines(f"{path}:{text}\n" for text in said)
            progress.advance("repairing", path.stat().st_size)
    progress.finish("repairing")
    return Fixed(folder=out, **counts)


def targets(paths: Sequence[Path]) -> list[Path]:
    """Names of the copies: as the files', with the ending that trainers read; never one twice."""
    found: list[Path] = []
    for path in paths:
        bare = path.name.removesuffix(".gz").removesuffix(".zst")
        name = path.name if names.kind_of(path) == "table" else f"{Path(bare).stem}.jsonl"
        choices = [Path(name), Path(f"{path.parent.name}_{name}")]
        choices += [Path(f"{number}_{name}") for number in range(2, len(paths) + 2)]
        if path.parent.name == "qrels":
            choices.insert(0, Path("qrels") / name)
        found.append(next(choice for choice in choices if choice not in found))
    return found


def lines_of(path: Path) -> Iterator[bytes | None]:
    """The lines of any file that the check reads, None for one that is too long; of arrays and parquet
    one line per record.

    Raises:
        DataError: it cannot be read.
    """
    with streams.reading(path):
        for share in streams.shares(path):
            yield from [None] if share is None else share.removesuffix(b"\n").split(b"\n")


def packed(row: Any) -> bytes:
    """A row as one line of JSON."""
    try:
        return msgspec.json.encode(row)
    except (UnicodeEncodeError, OverflowError):
        return json.dumps(row).encode()


def _fixed(
    path: Path, rules: Rules, seen: Seen, counts: dict[str, int]
) -> Iterator[tuple[bytes | None, list[str]]]:
    """Each line as it is to be written, None when it is left out, with what the log says about it."""
    for number, line in enumerate(lines_of(path), start=1):
        said: list[str] = []
        if line is None:
            counts["left_out"] += 1
            yield None, [f"{number}: line-long: {TOO_LONG}", f"{number}: left out"]
            continue
        if number == 1 and line.startswith(codecs.BOM_UTF8):
            line = line.removeprefix(codecs.BOM_UTF8)
            said.append("1: bom: removed")
        if not line.strip(BLANK):
            yield None, [*said, f"{number}: blank-line: dropped"]
            continue
        row, issues = parsed(line)
        said += [f"{number}: {issue.rule}: {issue}" for issue in issues]
        mended = None
        if row is not None and not any(issue.rule == "number-range" for issue in issues):
            mended, changes = repair(row, rules)
            said += [f"{number}: {each.issue.rule}: {each.issue}: {each.done}" for each in changes]
            if mended is not None and not _first(mended, rules, seen):
                mended = None
                said.append(f"{number}: row-repeated: dropped")
        if mended is None:
            counts["left_out"] += 1
            yield None, [*said, f"{number}: left out"]
            continue
        counts["kept"] += 1
        counts["changed"] += bool(said)
        yield (packed(mended) if mended is not row or issues else line.strip(BLANK)), said


def _first(row: dict[str, Any], rules: Rules, seen: Seen) -> bool:
    return seen.first(digest(content(row, rules)))
