"""Whether two runs came out equal: their curves step by step, their files bit by bit."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from launcher import metrics

#: What a step reports that follows from the weights and the data alone; times and speeds do not.
_CURVES = ("loss", "grad_norm", "learning_rate", "train_loss", "reward")

Curve = dict[int, dict[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file of the result: sha256 in the first run and in this one; empty: it is not there."""

    name: str
    was: str
    now: str

    @property
    def equal(self) -> bool:
        """The same to the bit."""
        return self.was == self.now


@dataclass(frozen=True, slots=True, kw_only=True)
class Equality:
    """Two runs beside each other.

    Attributes:
        steps: that both reported.
        was_steps, now_steps: that each reported.
        first: the first step that differs; None: none does.
        relative: the largest relative difference of a number of a step, 0..2, and its name.
        files: of the results; None: the first run's are not known.
    """

    steps: int
    was_steps: int
    now_steps: int
    first: int | None
    relative: tuple[float, str]
    files: tuple[File, ...] | None

    @property
    def curve(self) -> bool:
        """The curves are equal to the bit."""
        return self.first is None and self.was_steps == self.now_steps

    @property
    def equal(self) -> bool:
        """Everything that could be compared is equal, and something could."""
        compared = self.steps > 0 or bool(self.files)
        return compared and self.curve and all(file.equal for file in self.files or ())

    def __str__(self) -> str:
        if not self.steps and not self.files:
            return "nothing to compare: neither steps nor files of the first run are known"
        if self.equal:
            files = ", ".join(f"{file.name} sha256 {file.now}" for file in self.files or ())
            known = files or "the first run's files are not known"
            return f"equal to the bit: {', '.join(filter(None, (self._counted(), known)))}"
        said = [self._of_curve(), *(_of_file(file) for file in self.files or () if not file.equal)]
        same = [file.name for file in self.files or () if file.equal]
        said += [f"equal: {', '.join(same)}"] if same else []
        return "not equal: " + "; ".join(filter(None, said))

    def _counted(self) -> str:
        return f"{self.steps} steps" if self.steps else ""

    def _of_curve(self) -> str:
        if self.was_steps != self.now_steps:
            return f"the first run reported {self.was_steps} steps, this one {self.now_steps}"
        if self.first is None:
            return f"the curve is equal ({self._counted()})" if self.steps else ""
        relative, name = self.relative
        return f"the curve differs from step {self.first} on, {name} by {relative:.3g} (relative, the most)"


def _of_file(file: File) -> str:
    if not file.now:
        return f"{file.name} is not in this result"
    if not file.was:
        return f"{file.name} is new"
    return f"{file.name} differs (sha256 {file.was[:12]}, now {file.now[:12]})"


def curve(events: Iterable[Mapping[str, Any]]) -> Curve:
    """What each step reported; what a later start of the run did again counts, not what it replaced."""
    found: Curve = {}
    for event in metrics.current(dict(each) for each in events):
        if event.get("event") == "step" and isinstance(event.get("step"), int):
            numbers = {name: float(event[name]) for name in _CURVES if _is_number(event.get(name))}
            if numbers:
                found.setdefault(event["step"], {}).update(numbers)
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def judge(
    was: Iterable[Mapping[str, Any]],
    now: Iterable[Mapping[str, Any]],
    was_files: Mapping[str, str] | None,
    now_files: Mapping[str, str],
) -> Equality:
    """Compare two runs.

    Args:
        was, now: the events of metrics.jsonl.
        was_files, now_files: sha256 of each file of the result; None: nobody knows any more.
    """
    before, after = curve(was), curve(now)
    shared = sorted(before.keys() & after.keys())
    differing = [step for step in shared if not _same(before[step], after[step])]
    apart = (
        (_relative(before[step][name], after[step][name]), name)
        for step in shared
        for name in before[step].keys() & after[step].keys()
    )
    files = None
    if was_files is not None:
        names = sorted(was_files.keys() | now_files.keys())
        files = tuple(
            File(name=name, was=was_files.get(name, ""), now=now_files.get(name, "")) for name in names
        )
    return Equality(
        steps=len(shared),
        was_steps=len(before),
        now_steps=len(after),
        first=differing[0] if differing else None,
        relative=max(apart, default=(0.0, "")) if differing else (0.0, ""),
        files=files,
    )


def _same(a: Mapping[str, float], b: Mapping[str, float]) -> bool:
    return a.keys() == b.keys() and all(
        a[name] == b[name] or (math.isnan(a[name]) and math.isnan(b[name])) for name in a
    )


def _relative(a: float, b: float) -> float:
    """|a - b| by the larger of the two; 0 for equal ones, infinite where only one is no finite number."""
    if a == b or (math.isnan(a) and math.isnan(b)):
        return 0.0
    if not (math.isfinite(a) and math.isfinite(b)):
        return math.inf
    return abs(a - b) / max(abs(a), abs(b))
