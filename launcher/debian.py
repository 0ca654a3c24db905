"""Texts of dpkg and apt: their control files, and the order of their versions."""

import re
from collections.abc import Iterator
from itertools import zip_longest

# A stretch of a version: weights of its text, then a number; the last one is what follows the end.
_Pair = tuple[tuple[int, ...], int]
_END: _Pair = ((0,), 0)


def stanzas(text: str) -> Iterator[dict[str, str]]:
    """The fields of each block of ``Key: value`` lines, as dpkg's status and apt's indexes have them.

    Lines that continue a field (they begin with a space) are left out.
    """
    for block in text.split("\n\n"):
        lines = [line.partition(": ") for line in block.split("\n") if line[:1] not in ("", " ", "\t")]
        if lines:
            yield {key: value.strip() for key, _, value in lines}


def order(before: str, after: str) -> int:
    """How two of Debian's versions stand, as dpkg has it (deb-version(7)): -1 for older first, 0, or 1."""
    for one, other in zip(_parts(before), _parts(after), strict=True):
        for pair in zip_longest(one, other, fillvalue=_END):
            if pair[0] != pair[1]:
                return -1 if pair[0] < pair[1] else 1
    return 0


def _parts(version: str) -> tuple[list[_Pair], list[_Pair], list[_Pair]]:
    """Epoch, upstream version, Debian's revision."""
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, hyphen, revision = rest.rpartition("-")
    return _pairs(epoch), _pairs(upstream if hyphen else rest), _pairs(revision if hyphen else "")


def _pairs(text: str) -> list[_Pair]:
    """Text and number in turn; "~" before the text's end, that before letters, they before the rest."""

    def weight(letter: str) -> int:
        return -1 if letter == "~" else ord(letter) + (0 if letter.isalpha() else 1 << 21)

    found = re.findall(r"([^0-9]*)([0-9]*)", text)
    return [((*map(weight, letters), 0), int(digits or 0)) for letters, digits in found]
