"""What the parts of the data layer hand to each other: frozen values."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from launcher.data.rules import RULES


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """One file of a data set as it was when it was checked.

    Attributes:
        sha256: empty when nobody asked for it.
        size: bytes.
        rows: lines that are not blank; records of files without lines.
    """

    path: Path
    sha256: str
    size: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What one run asks of its rows.

    Attributes:
        format: one of ``launcher.data.rules.FORMATS``.
        scores: every row must carry teacher scores (distillation is on).
        unified: all heads of BGE-M3 are trained together, which rules out folders without
            in-batch negatives.
        same_dataset: batches come from one file each, which reads a file's type and batch_size.
        group_size: passages per query in a step, one of them right; 0: unknown, and not judged.
        reference: column that the reward ``exact`` compares answers with; empty: none is needed.
        trained: a trainer loads the rows with datasets, which makes columns of them; False: a tool reads
            them line by line, and no scores, prompts or batch sizes.
    """

    format: str
    scores: bool = False
    unified: bool = False
    same_dataset: bool = True
    group_size: int = 0
    reference: str = ""
    trained: bool = True


class Issue(NamedTuple):
    """What a rule says about a row.

    Attributes:
        field: as people find it: ``neg[1]``; empty when it is about the line.
        text: what is wrong with it.
    """

    rule: str
    field: str
    text: str

    def __str__(self) -> str:
        return f"{self.field}: {self.text}" if self.field else self.text


class Finding(NamedTuple):
    """What a rule says about a place.

    Attributes:
        line: from 1; of files without lines the record; 0: about the file.
    """

    path: Path
    line: int
    issue: Issue

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.issue}" if self.line else f"{self.path}: {self.issue}"


@dataclass(slots=True, kw_only=True)
class Group:
    """All findings of a rule: how many, and the first ones."""

    rule: str
    count: int = 0
    shown: list[Finding] = field(default_factory=list)

    @property
    def error(self) -> bool:
        """True when the trainer would stop, or learn something wrong."""
        return RULES[self.rule].severity == "error"


class Findings:
    """Counts everything, keeps the first findings of each rule.

    Args:
        limit: findings of a rule that are kept.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.groups: dict[str, Group] = {}
        self.places: dict[Path, int] = {}

    def place(self, path: Path) -> None:
        """A file takes its place in the order of the command line."""
        self.places.setdefault(path, len(self.places))

    def add(self, path: Path, line: int, issue: Issue, *, count: int = 1) -> None:
        """One finding, or ``count`` of which this is the first."""
        self.place(path)
        group = self.groups.setdefault(issue.rule, Group(rule=issue.rule))
        group.count += count
        if len(group.shown) < self.limit:
            group.shown.append(Finding(path, line, issue))
