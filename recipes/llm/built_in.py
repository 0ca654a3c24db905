"""The rewards that are built in: the form of an answer, and whether its result is right; no libraries."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

#: An answer of thinking and result, each once; the built-in pattern of ``format``.
_THINK_ANSWER = r"\s*<think>{0}</think>\s*<answer>{0}</answer>\s*".format(r"(?:(?!</?(?:think|answer)>).)*")

_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d*)?")

#: What a function gives: a number for each answer, None where it has nothing to say.
Scores = Sequence[float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the built-in functions are told.

    Attributes:
        format_pattern: regular expression that a whole answer has to match; empty: <think>…</think> and then
            <answer>…</answer>.
        answer_pattern: regular expression that finds the result in an answer, its first group, at its last
            match; empty: what is in the last <answer>…</answer>, otherwise all that follows </think>.
        answer_column: column with the right result: a text, a number, or a list of them.
    """

    format_pattern: str = ""
    answer_pattern: str = ""
    answer_column: str = "answer"


def said(dialogue: Any) -> str:
    """A text, or what the last message says."""
    if isinstance(dialogue, str):
        return dialogue
    return str(dialogue[-1].get("content") or "") if dialogue else ""


def _format(settings: Settings) -> Callable[..., Scores]:
    """1 for an answer of the wanted form, 0 for every other one."""
    pattern = re.compile(settings.format_pattern or _THINK_ANSWER, re.DOTALL)

    def judge(completions: list[Any], **_: Any) -> Scores:
        return [float(pattern.fullmatch(said(each)) is not None) for each in completions]

    return judge


def _exact(settings: Settings) -> Callable[..., Scores]:
    """1 for the right result, 0 for every other one."""
    pattern = re.compile(settings.answer_pattern, re.DOTALL) if settings.answer_pattern else None

    def judge(completions: list[Any], **columns: Any) -> Scores:
        references = columns.get(settings.answer_column)
        if references is None:
            raise ValueError(f"the rows have no column {settings.answer_column!r} (--answer-column)")
        return [
            float(right(answer_in(said(each), pattern), reference))
            for each, reference in zip(completions, references, strict=True)
        ]

    return judge


def answer_in(text: str, pattern: re.Pattern[str] | None) -> str | None:
    """The result in an answer; None: there is none."""
    if pattern is not None:
        matches = [*pattern.finditer(text)]
        return (matches[-1].group(1 if pattern.groups else 0) or "") if matches else None
    tagged = _ANSWER.findall(text)
    return str(tagged[-1]) if tagged else text.rpartition("</think>")[2]


def right(answer: str | None, reference: object) -> bool:
    """Whether an answer says the same as a reference, or one of them.

    Case, outer punctuation and the width of spaces do not count; numbers are compared as such (``1,000`` is
    ``1000.0``). Of a reference with ``####`` what follows counts, as in the data set GSM8K.
    """
    if answer is None:
        return False
    if isinstance(reference, list):
        return any(right(answer, each) for each in reference)
    if reference is None or isinstance(reference, bool):
        return False
    wanted = _plain(str(reference).rpartition("####")[2])
    return wanted != "" and _plain(answer) == wanted


def _plain(text: str) -> str | Decimal:
    """A number as such; of other texts what they have in common."""
    bare = text.strip().strip("$").rstrip(".").strip()
    if _NUMBER.fullmatch(bare) and any(letter.isdecimal() for letter in bare):
        return Decimal(bare.replace(",", ""))
    return " ".join(text.casefold().split()).strip(".!?。！？\"'")


#: Name -> a function that makes the reward by the settings.
BUILT_IN: dict[str, Callable[[Settings], Callable[..., Scores]]] = {"format": _format, "exact": _exact}
