"""How long the texts of rows are, and in which scripts, by a sample at equal distances."""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

#: First and last characters of scripts, from Unicode 15's Blocks.txt, as in launcher/data/profile.py.
_SCRIPTS = {
    "Latin": "A-Za-zªºÀ-ÖØ-öø-\u024f\u1e00-\u1eff",
    "Greek": "\u0370-\u03ff",
    "Cyrillic": "\u0400-\u052f",
    "Hebrew": "\u0590-\u05ff",
    "Arabic": "\u0600-\u06ff\u0750-\u077f",
    "Devanagari": "\u0900-\u097f",
    "Thai": "\u0e00-\u0e7f",
    "Kana": "\u3040-\u30ff",
    "Hangul": "\u1100-\u11ff\uac00-\ud7af",
    "Han": "\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0002ffff",
}
_PATTERNS = {name: re.compile(f"[{range_}]") for name, range_ in _SCRIPTS.items()}
_LOOK = 500  # characters of a text whose script is looked at


def profile(
    rows: Iterable[dict[str, Any]], *, count: Callable[[str], int], unit: str, every: int
) -> dict[str, Any]:
    """Lengths by field (median, 95 %, longest) and shares of scripts.

    Args:
        count: the length of a text.
        every: each so many rows one is looked at.
    """
    sizes: dict[str, list[int]] = {}
    letters: Counter[str] = Counter()
    total = looked = 0
    for total, row in enumerate(rows, 1):
        if (total - 1) % every:
            continue
        looked += 1
        for field, text in _texts(row):
            sizes.setdefault(field, []).append(count(text))
            for name, pattern in _PATTERNS.items():
                letters[name] += len(pattern.findall(text[:_LOOK]))
    all_letters = sum(letters.values()) or 1
    return {
        "rows": total,
        "looked_at": looked,
        "unit": unit,
        "lengths": {field: _lengths(sorted(each)) for field, each in sizes.items()},
        "scripts": {name: round(each / all_letters, 4) for name, each in letters.most_common() if each},
    }


def _texts(row: dict[str, Any]) -> Iterable[tuple[str, str]]:
    for field, value in row.items():
        if isinstance(value, str):
            yield field, value
        elif field == "messages":
            yield field, "\n".join(each["content"] for each in value)
        elif value:
            yield field, value[0]


def _lengths(ordered: list[int]) -> dict[str, int]:
    return {
        "median": ordered[len(ordered) // 2],
        "high": ordered[min(len(ordered) - 1, len(ordered) * 95 // 100)],
        "most": ordered[-1],
    }
