"""Rows made right where that needs no judgement; everything else is left out, and both are logged."""

from collections.abc import Callable
from itertools import dropwhile
from typing import Any, NamedTuple

from launcher.data.model import Issue, Rules
from launcher.data.rows import NULL_JUDGED, judge_row
from launcher.data.rules import RULES

#: Repairs may follow from each other: a text becomes a list, loses its NUL, and is empty without it.
_ROUNDS = 4


class Change(NamedTuple):
    """What was done to a row."""

    issue: Issue
    done: str


def repair(row: dict[str, Any], rules: Rules) -> tuple[dict[str, Any] | None, list[Change]]:
    """A repaired copy of a row, or None when it has to be left out, and what was done.

    A row without errors and without anything to repair comes back as it is.
    """
    changes: list[Change] = []
    for _ in range(_ROUNDS):
        issues = list(judge_row(row, rules))
        mended = [issue for issue in issues if issue.rule in _REPAIRS]
        if not mended:
            break
        row = {**row}
        dropped: dict[str, set[int]] = {}
        for issue in mended:
            _REPAIRS[issue.rule](row, issue, dropped)
            changes.append(Change(issue, RULES[issue.rule].repair))
        for field, positions in dropped.items():
            _drop(row, field, positions)
    left = [issue for issue in judge_row(row, rules) if RULES[issue.rule].severity == "error"]
    if left:
        return None, [*changes, *(Change(issue, "row left out") for issue in left)]
    return row, changes


def _drop(row: dict[str, Any], field: str, positions: set[int]) -> None:
    """Texts leave a list together with their scores."""
    texts, scores = row[field], row.get(f"{field}_scores")
    if isinstance(scores, list) and len(scores) == len(texts):
        row[f"{field}_scores"] = [each for at, each in enumerate(scores) if at not in positions]
    row[field] = [each for at, each in enumerate(texts) if at not in positions]


def _into_list(row: dict[str, Any], issue: Issue, dropped: dict[str, set[int]]) -> None:
    if isinstance(row[issue.field], str):
        row[issue.field] = [row[issue.field]]


def _drop_text(row: dict[str, Any], issue: Issue, dropped: dict[str, set[int]]) -> None:
    field, _, position = issue.field.removesuffix("]").partition("[")
    dropped.setdefault(field, set()).add(int(position))


def _without(character: str) -> Callable[[dict[str, Any], Issue, dict[str, set[int]]], None]:
    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace(character, "")
        if isinstance(value, list):
            return [clean(item) for item in value]
        return {key: clean(item) for key, item in value.items()} if isinstance(value, dict) else value

    def mend(row: dict[str, Any], issue: Issue, dropped: dict[str, set[int]]) -> None:
        row.update(clean(row))

    return mend


def _without_leading_nulls(row: dict[str, Any], issue: Issue, dropped: dict[str, set[int]]) -> None:
    def clean(value: Any) -> Any:
        if isinstance(value, list):
            return [clean(item) for item in dropwhile(lambda item: item is None, value)]
        return {key: clean(item) for key, item in value.items()} if isinstance(value, dict) else value

    for name, value in row.items():
        own = name in NULL_JUDGED and isinstance(value, list)
        row[name] = [clean(item) for item in value] if own else clean(value)


_REPAIRS: dict[str, Callable[[dict[str, Any], Issue, dict[str, set[int]]], None]] = {
    "pos-string": _into_list,
    "neg-string": _into_list,
    "text-null": _drop_text,
    "text-type": _drop_text,
    "text-empty": _drop_text,
    "pos-in-neg": _drop_text,
    "text-repeated": _drop_text,
    "nul": _without("\0"),
    "list-null-first": _without_leading_nulls,
    "bom-inside": _without("\ufeff"),
}
