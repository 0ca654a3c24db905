"""What differs between runs, and what came of it. Pure.

Figures are honest before they are complete: what was measured over fewer steps is marked and never the best,
and a loss is the best only among runs that measured the same thing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal

from launcher.comparison.facts import FOUND, GROUPS, Fact, hashed, of_run, shortened
from launcher.comparison.figures import FIGURES, Figure, from_summary, of_evaluation, text

__all__ = [
    "FIGURES",
    "GROUPS",
    "Cell",
    "Comparison",
    "Fact",
    "Figure",
    "Outcome",
    "Row",
    "Run",
    "State",
    "compare",
    "from_summary",
    "hashed",
    "letters",
    "of_evaluation",
    "of_run",
    "shortened",
    "text",
]

#: How a run stands. ``stopped``: by a signal; ``open``: it runs, or its launcher was killed.
State = Literal["done", "failed", "stopped", "open"]

#: Parameters that change what a loss measures, so that one loss says nothing about another: the number of
#: candidates that the right answer is told from, the softmax over them, and which heads and teachers count.
_MEASURE = frozenset(
    "train_group_size per_device_train_batch_size negatives_cross_device same_dataset_within_batch"
    " temperature knowledge_distillation kd_loss_type unified_finetuning use_self_distill"
    " self_distill_start_step length_bucketing".split()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One of the runs that are compared.

    Attributes:
        name: its id.
        recipe: the recipe's name.
        state: how it stands.
        said: how it ended, in a few words; empty for a run that is done.
        trains: the recipe trains a model; False: it has no steps and no losses.
        facts: what it was made of.
        figures: what was measured, by the figure's key.
    """

    name: str
    recipe: str
    state: State
    said: str
    trains: bool
    facts: tuple[Fact, ...]
    figures: tuple[tuple[str, float], ...]

    @property
    def steps(self) -> int:
        """Optimiser steps that were done; 0: none, or nobody knows."""
        return int(dict(self.figures).get("steps", 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A fact of all runs.

    Attributes:
        values: one of each run; None: it has no such thing.
        differs: not all are the same. That something is missing counts, unless nobody can know it yet, or
            another recipe has no such thing.
    """

    group: str
    name: str
    values: tuple[str | None, ...]
    differs: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A figure of one run.

    Attributes:
        value: None where it was not measured.
        ratio: to the first run's; None where one of the two is missing or zero.
        best: the best of all that can be compared.
        fewer: measured over fewer steps than another run's.
    """

    value: float | None
    ratio: float | None = None
    best: bool = False
    fewer: bool = False

    @property
    def measure(self) -> str:
        """The ratio as people read it; empty where it says nothing."""
        said = "" if self.ratio is None else f"{self.ratio:.3g}"
        return f"×{said}" if said not in ("", "1") else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A figure of all runs, in their order."""

    figure: Figure
    cells: tuple[Cell, ...]

    @property
    def differs(self) -> bool:
        """True unless every run has the same value."""
        return len({cell.value for cell in self.cells}) > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Runs side by side.

    Attributes:
        runs: as they were asked for; ratios are to the first.
        rows: every fact that one of them has, by group.
        outcomes: every figure that one of them has.
        notes: what a reader should know before believing it.
    """

    runs: tuple[Run, ...]
    rows: tuple[Row, ...]
    outcomes: tuple[Outcome, ...]
    notes: tuple[str, ...]

    @property
    def differing(self) -> tuple[Row, ...]:
        """The facts that are not the same for all."""
        return tuple(row for row in self.rows if row.differs)


def compare(runs: Sequence[Run]) -> Comparison:
    """Put runs side by side; the first is what the others are measured by."""
    rows = _rows(runs)
    measured_otherwise = _measured_otherwise(runs, rows)
    return Comparison(
        runs=tuple(runs),
        rows=rows,
        outcomes=tuple(_outcomes(runs, losses=not measured_otherwise)),
        notes=tuple(_notes(runs, measured_otherwise)),
    )


def letters(count: int) -> list[str]:
    """Short names of so many runs, for tables and legends: A, B, C, …"""
    return [chr(ord("A") + at) if at < 26 else str(at + 1) for at in range(count)]


def _rows(runs: Sequence[Run]) -> tuple[Row, ...]:
    tables = [{(fact.group, fact.name): fact.value for fact in run.facts} for run in runs]
    # A run's own facts follow each other; what only a later run has comes after them, in its group.
    keys = sorted({key: None for table in tables for key in table}, key=lambda key: GROUPS.index(key[0]))
    one_recipe = len({run.recipe for run in runs}) == 1
    found = []
    for group, name in keys:
        values = tuple(table.get((group, name)) for table in tables)
        known = {
            _plain(value)
            for run, value in zip(runs, values, strict=True)
            if value is not None or not _excused(run, group, one_recipe=one_recipe)
        }
        found.append(Row(group=group, name=name, values=values, differs=len(known) > 1))
    return tuple(found)


def _excused(run: Run, group: str, *, one_recipe: bool) -> bool:
    """Whether that a run has no such fact says nothing."""
    late = run.state == "open" and group in FOUND
    return late or (not one_recipe and group in ("parameter", "runtime"))


def _plain(value: str | None) -> float | str | None:
    """What a value is compared by: 2e-3 and 0.002 are the same number."""
    try:
        return float(value or "")
    except ValueError:
        return value


def _outcomes(runs: Sequence[Run], *, losses: bool) -> list[Outcome]:
    tables = [dict(run.figures) for run in runs]
    known = {figure.key for figure in FIGURES}
    reported = {key: None for table in tables for key in table if key not in known}
    every = (*FIGURES[:2], *map(of_evaluation, reported), *FIGURES[2:])
    most = max((run.steps for run in runs), default=0)
    one_recipe = len({run.recipe for run in runs}) == 1
    found = []
    for figure in every:
        values = [table.get(figure.key) for table in tables]
        if any(value is not None for value in values):
            fewer = [run.trains and run.steps < most and figure.unit != "steps" for run in runs]
            judged = one_recipe and (losses or not figure.loss)
            may = [
                judged and run.state == "done" and (figure.rate or not short)
                for run, short in zip(runs, fewer, strict=True)
            ]
            found.append(Outcome(figure=figure, cells=_cells(figure, values, fewer, may)))
    return found


def _cells(
    figure: Figure, values: Sequence[float | None], fewer: Sequence[bool], may: Sequence[bool]
) -> tuple[Cell, ...]:
    pick: Callable[..., float] = max if figure.better == "higher" else min
    candidates = [
        value
        for value, able in zip(values, may, strict=True)
        if able and value is not None and isfinite(value)
    ]
    # With one candidate, or the same value everywhere, there is nothing to be the best of.
    contest = figure.better and len(candidates) > 1 and len(set(candidates)) > 1
    best = pick(candidates) if contest else None
    first = values[0]
    return tuple(
        Cell(
            value=value,
            ratio=_ratio(value, first),
            best=best is not None and able and value == best,
            fewer=value is not None and short,
        )
        for value, short, able in zip(values, fewer, may, strict=True)
    )


def _ratio(value: float | None, first: float | None) -> float | None:
    if value is None or not first:
        return None
    found = value / first
    return found if isfinite(found) else None


def _measured_otherwise(runs: Sequence[Run], rows: Sequence[Row]) -> list[str]:
    """Why the losses of these runs do not measure the same thing; empty when they do."""
    if len({run.recipe for run in runs}) > 1:
        return ["recipes"]
    found = []
    for row in rows:
        measure = row.group == "parameter" and row.name in _MEASURE
        data = row.group == "data" and row.name.endswith("sha256")
        if row.differs and (measure or data or (row.group, row.name) == ("target", "processes")):
            found.append("data" if data else row.name)
    return list(dict.fromkeys(found))


def _notes(runs: Sequence[Run], measured_otherwise: Sequence[str]) -> list[str]:
    notes = []
    recipes = list(dict.fromkeys(run.recipe for run in runs))
    if len(recipes) > 1:
        notes.append(f"different recipes ({', '.join(recipes)}): no figure is the best of both")
    elif measured_otherwise and any("loss" in key for run in runs for key, _ in run.figures):
        differ = ", ".join(measured_otherwise)
        notes.append(f"losses measure different things (other {differ}): none of them is the best")
    for run in runs:
        if run.state != "done":
            notes.append(f"{run.name}: {run.said or run.state}")
        elif not run.trains:
            notes.append(f"{run.name}: {run.recipe} does not train: it has no steps")
    most = max((run.steps for run in runs), default=0)
    if any(run.trains and run.steps < most for run in runs):
        notes.append("* over fewer steps than another run: it can be the best in speed alone")
    return notes
