"""How long the texts of a data set are, and in which scripts, by a sample of its rows.

Rows are taken at equal distances from all files, so that each has the same chance.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: First and last code point of the scripts that most text is in, from Unicode 15's Blocks.txt.
_SCRIPTS = (
    ("Latin", "A-Za-zªºÀ-ÖØ-öø-\u024f\u1e00-\u1eff"),
    ("Greek", "\u0370-\u03ff"),
    ("Cyrillic", "\u0400-\u052f"),
    ("Hebrew", "\u0590-\u05ff"),
    ("Arabic", "\u0600-\u06ff\u0750-\u077f"),
    ("Devanagari", "\u0900-\u097f"),
    ("Thai", "\u0e00-\u0e7f"),
    ("Kana", "\u3040-\u30ff"),
    ("Hangul", "\u1100-\u11ff\uac00-\ud7af"),
    ("Han", "\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0002ffff"),
)
_PATTERNS = [(name, re.compile(f"[{range_}]")) for name, range_ in _SCRIPTS]

#: Characters of a text whose script is looked at.
_LOOK = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Lengths of one kind of text.

    Attributes:
        field: query, pos, neg, text, …
        unit: characters or tokens.
        texts: how many of them were looked at.
        limit: tokens that the recipe keeps; None: no limit.
        longer: share of the texts beyond the limit.
        interval: 95 % confidence interval of that share (Wilson).
    """

    field: str
    unit: str
    texts: int
    median: int
    high: int
    most: int
    limit: int | None = None
    longer: float | None = None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a data set looks like.

    Attributes:
        rows: that were looked at.
        scripts: script -> share of the letters in it, the largest first.
    """

    rows: int
    lengths: tuple[Lengths, ...]
    scripts: tuple[tuple[str, float], ...]


def profile(
    rows: Sequence[Mapping[str, Any]],
    *,
    count: Callable[[Sequence[str]], Sequence[int]] | None = None,
    limits: Mapping[str, int] | None = None,
) -> Profile:
    """Describe the texts of sampled rows.

    Args:
        count: tokens of each text; None: lengths are in characters.
        limits: field -> tokens that are kept of a text.
    """
    texts: dict[str, list[str]] = {}
    for number, row in enumerate(rows):
        for field, text in _texts(row, number):
            texts.setdefault(field, []).append(text)
    found = []
    for field, each in texts.items():
        sizes = count(each) if count else [len(text) for text in each]
        limit = (limits or {}).get(field) if count else None
        found.append(_lengths(field, sizes, "tokens" if count else "characters", limit))
    return Profile(rows=len(rows), lengths=tuple(found), scripts=_scripts(texts.values()))


def wilson(hits: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """Confidence interval of a share, by Wilson's score (1927); ``z`` 1.96 is 95 %."""
    if not count:
        return 0.0, 1.0
    share = hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def _texts(row: Mapping[str, Any], number: int) -> Iterator[tuple[str, str]]:
    """One text of each field: texts of the same row resemble each other, and an interval assumes chance."""
    for field, value in row.items():
        name = str(field)
        if isinstance(value, str) and name in (
            "query",
            "text",
            "instruction",
            "output",
            "prompt",
            "completion",
        ):
            yield name, value
        elif isinstance(value, list) and value:
            item = value[number % len(value)]
            if isinstance(item, str) and name in ("pos", "neg"):
                yield name, item
            elif name in ("messages", "conversations"):
                said = [each.get("content", each.get("value")) for each in value if isinstance(each, dict)]
                yield name, "\n".join(each for each in said if isinstance(each, str))


def _lengths(field: str, sizes: Sequence[int], unit: str, limit: int | None) -> Lengths:
    ordered = sorted(sizes)
    hits = sum(size > limit for size in ordered) if limit else 0
    return Lengths(
        field=field,
        unit=unit,
        texts=len(ordered),
        median=ordered[len(ordered) // 2],
        high=ordered[min(len(ordered) - 1, len(ordered) * 95 // 100)],
        most=ordered[-1],
        limit=limit,
        longer=hits / len(ordered) if limit else None,
        interval=wilson(hits, len(ordered)) if limit else None,
    )


def _scripts(texts: Any) -> tuple[tuple[str, float], ...]:
    letters: Counter[str] = Counter()
    for each in texts:
        for text in each:
            start = text[:_LOOK]
            for name, pattern in _PATTERNS[:1] if start.isascii() else _PATTERNS:
                if found := len(pattern.findall(start)):
                    letters[name] += found
    total = sum(letters.values())
    return tuple((name, count / total) for name, count in letters.most_common())
