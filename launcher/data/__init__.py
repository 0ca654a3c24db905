"""Training data, checked before anything starts: what would stop a trainer, or teach it something wrong.

Streaming: a part of a file is read, judged, hashed and forgotten; a data set is never held in memory.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launcher import paths
from launcher.data.identity import identify
from launcher.data.inspection import Report, Wanted, Work, inspect
from launcher.data.model import DataFile, Finding, Findings, Group, Issue, Rules
from launcher.data.rules import FORMATS, RULES, Rule
from launcher.errors import DataError
from launcher.progress import Progress

__all__ = [
    "FORMATS",
    "KEPT",
    "RULES",
    "SHOWN",
    "DataFile",
    "Finding",
    "Findings",
    "Group",
    "Issue",
    "Report",
    "Rule",
    "Rules",
    "Wanted",
    "check",
    "fingerprint",
    "identify",
    "inspect",
    "listed",
    "refuse",
    "size",
    "warnings",
]

#: Problems that an error lists in full; the rest is counted.
SHOWN = 20

#: Rows that the profile of a run's data looks at.
KEPT = 500


def check(
    given: tuple[Path, ...],
    rules: Rules,
    *,
    notes: list[str] | None = None,
    kept: list[Mapping[str, Any]] | None = None,
    work: Work = map,
    progress: Progress | None = None,
) -> tuple[DataFile, ...]:
    """Check every row of every file before a run.

    Args:
        given: files, or folders of ``.jsonl``/``.json`` files; of the format retrieval also judgements
            (``.tsv``) and folders in BEIR's layout.
        rules: what is required of a row.
        notes: gets a line for each warning's rule.
        kept: gets about :data:`KEPT` rows of all files, for a profile.
        work: who does the parts of a large file.

    Returns:
        The files in a stable order, with hash, size and number of rows.

    Raises:
        DataError: all errors at once, each with file, line and field (the first ones in full).
    """
    sample = 0 if kept is None else KEPT
    wanted = Wanted(for_run=True, hashes=True, sample=sample, limit=SHOWN)
    report = inspect(given, rules, wanted, work=work, progress=progress)
    refuse(report)
    if notes is not None:
        notes += warnings(report)
    if kept is not None:
        kept += report.sample
    return report.files


def refuse(report: Report) -> None:
    """Raise what stops a run.

    Raises:
        DataError: there are errors: the first ones by file and line, and how many there are.
    """
    count = report.count(errors=True)
    if not count:
        return
    shown = [finding for group in report.groups if group.error for finding in group.shown]
    shown.sort(key=lambda finding: (report.places[finding.path], finding.line))
    raise DataError(
        f"the data cannot be trained on ({count} problem{'s' if count > 1 else ''})",
        listed([str(finding) for finding in shown], count),
        why="the trainer would stop at these rows in the middle of the run, or learn from wrong text",
        hint=f"format {report.rules.format!r}: {FORMATS[report.rules.format]}",
    )


def warnings(report: Report, most: int = 3) -> list[str]:
    """A line for each of the first rules that warn, and one for the rest."""
    groups = [group for group in report.groups if not group.error]
    lines = []
    for group in groups[:most]:
        more = f", and {group.count - 1} more" if group.count > 1 else ""
        lines.append(f"data: {group.shown[0]}{more} ({group.rule})")
    if rest := groups[most:]:
        lines.append(f"data: also {', '.join(group.rule for group in rest)}: launch data check says where")
    return lines


def listed(problems: Sequence[str], count: int) -> list[str]:
    """The first :data:`SHOWN` problems, and how many more of them there are.

    Args:
        count: of all problems, those included that nobody kept.
    """
    shown = list(problems[:SHOWN])
    return shown if count <= len(shown) else [*shown, f"… and {count - len(shown)} more"]


def size(given: Sequence[Path]) -> int:
    """Bytes of files, and of what lies in folders, as far as they are there."""
    files = [item for path in given for item in (path.iterdir() if path.is_dir() else [path])]
    return sum(path.stat().st_size for path in files if path.is_file())


def fingerprint(path: Path) -> str:
    """sha256 of a file; empty when there is none."""
    if not path.is_file():
        return ""
    return paths.sha256(path)
