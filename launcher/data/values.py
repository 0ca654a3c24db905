"""What kind a value has, as people and as the trainer's reader see it; what is odd about a text."""

import re
from collections.abc import Collection, Iterator
from typing import Any

from launcher.data.model import Issue

_NAMES = {
    bool: "true/false",
    int: "a number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "an object",
}

#: How the trainer's reader recognises dates (pyarrow 26, found by trying): what it takes for one is no text.
_TIME = re.compile(r"\d{4}-\d\d-\d\d([ T]\d\d(:\d\d(:\d\d)?)?(Z|[+-]\d\d(:?\d\d)?)?)?")

#: Two letters that appear when UTF-8 is read as Latin-1 or Windows-1252: the first byte of é, ü, ', ".
_MOJIBAKE = re.compile("Ã[\x80-\xbf©¨¼¶¤Ÿ±]|â€[™œ\x9d“”¦\x99\x9c]|Â[\xa0-\xbf]")

#: Columns of a file that are followed; an object used as a table may have as many keys as there are rows.
MOST_COLUMNS = 1000

#: Columns of which the trainer reads the first row and takes it for all.
SPEAKING = ("type", "batch_size")

_DEEPEST = 50


def kind(value: object) -> str:
    """A value's kind, as people say it."""
    return "null" if value is None else _NAMES.get(type(value), type(value).__name__)


def text_issues(text: str, field: str) -> Iterator[Issue]:
    """Characters that no writer meant."""
    if "\0" in text:
        yield Issue("nul", field, "holds a NUL character (\\u0000)")
    if text.isascii():
        return
    if "\ufffd" in text:
        yield Issue("replacement-character", field, "holds U+FFFD, what a wrong decoding leaves")
    if "\ufeff" in text:
        yield Issue("bom-inside", field, "holds a byte order mark (U+FEFF)")
    if found := _mojibake(text):
        yield Issue("mojibake", field, f"{found.group()!r}: UTF-8 that was read as Latin-1")


def odd(texts: str) -> bool:
    """Whether :func:`text_issues` might say anything about a text of this content."""
    if "\0" in texts:
        return True
    if texts.isascii():
        return False
    return "\ufffd" in texts or "\ufeff" in texts or bool(_mojibake(texts))


def _mojibake(text: str) -> re.Match[str] | None:
    """The first such place; looking for the beginnings first costs far less than the pattern."""
    if "Ã" in text or "â€" in text or "Â" in text:
        return _MOJIBAKE.search(text)
    return None


def leading_null(row: dict[str, Any], exempt: Collection[str]) -> str:
    """Where a list begins with null, e.g. ``meta.tags``; empty: nowhere.

    Args:
        exempt: columns whose own items are judged by other rules; what is inside them is not.
    """
    left: list[tuple[str, object]] = [*row.items()]
    while left:
        name, value = left.pop()
        if isinstance(value, dict):
            left += ((f"{name}.{key}", item) for key, item in value.items())
        elif isinstance(value, list) and value:
            if value[0] is None and name not in exempt:
                return name
            left += ((f"{name}[]", item) for item in value if isinstance(item, list | dict))
    return ""


def columns(row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The columns of a row and of what is inside them, each with its kind as the trainer's reader sees it.

    ``{"a": [1], "b": {"c": "x"}}`` has ``a`` list, ``a[]`` int, ``b`` object, ``b.c`` text.
    """
    for key, value in row.items():
        yield from _column(key, value, 0)


def _column(name: str, value: object, depth: int) -> Iterator[tuple[str, str]]:
    if depth > _DEEPEST:
        return
    if isinstance(value, list):
        yield name, "list"
        for item in value:
            yield from _column(f"{name}[]", item, depth + 1)
    elif isinstance(value, dict):
        yield name, "object"
        for key, item in value.items():
            yield from _column(f"{name}.{key}", item, depth + 1)
    elif isinstance(value, str):
        yield name, "time" if value[:1].isdigit() and _TIME.fullmatch(value) else "text"
    elif value is None:
        yield name, "null"
    else:
        yield name, {bool: "bool", int: "int"}.get(type(value), "float")
