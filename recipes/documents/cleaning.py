"""Text as people wrote it: what a typesetter put in comes out again. Pure."""

import re
import unicodedata
from collections.abc import Iterable

#: Scripts that are written without spaces: CJK punctuation, kana, Han, full-width forms.
_WIDE = "\u2e80-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef\U00020000-\U0003ffff"
_BETWEEN_WIDE = re.compile(f"(?<=[{_WIDE}])[ \u3000]+(?=[{_WIDE}])")
_ENDS_WIDE, _STARTS_WIDE = re.compile(f"[{_WIDE}]$"), re.compile(f"^[{_WIDE}]")

#: What is replaced by its compatibility form: Latin ligatures, and radicals, which PDF fonts name where
#: characters are meant. Anything else keeps its form: NFKC would turn ² into 2, full-width commas into ASCII.
_COMPATIBLE = re.compile("[\ufb00-\ufb06\u2e80-\u2fdf]")

_INVISIBLE = re.compile("[\u200b\u2060\ufeff\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_SPACES = re.compile("[ \t\u00a0\u2000-\u200a\u202f\u205f]+")
_BROKEN = re.compile(r"([^\W\d_]+)[-\u2010]$")
_GOES_ON = re.compile(r"^([^\W\d_]+)")
_HYPHENATED = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)+")
_WORD = re.compile(r"[^\W\d_]{3,}")


def characters(text: str) -> str:
    """Composed characters, no ligatures, no invisible ones, ordinary spaces; line ends stay."""
    text = _COMPATIBLE.sub(lambda found: unicodedata.normalize("NFKC", found.group()), text)
    text = _INVISIBLE.sub("", unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n")))
    # Half a surrogate pair is no character: no file could hold it.
    return text.encode("utf-8", "replace").decode("utf-8")


def line(text: str) -> str:
    """A line: :func:`characters`, single spaces, none between Chinese characters."""
    return _BETWEEN_WIDE.sub("", _SPACES.sub(" ", characters(text).replace("\n", " "))).strip()


def words(lines: Iterable[str]) -> frozenset[str]:
    """Words of a document, lower case, whole and with hyphens: what :func:`join` decides by."""
    found: set[str] = set()
    for text in lines:
        found.update(each.lower() for each in _HYPHENATED.findall(text))
        body = text.rstrip("-\u2010\u00ad")
        inside = _WORD.findall(body)
        # A part before a hyphen at the line's end, or behind one, is no word of its own.
        found.update(each.lower() for each in (inside if body == text else inside[:-1]))
    return frozenset(found)


def join(lines: Iterable[str], known: frozenset[str] = frozenset()) -> str:
    """Lines of a paragraph as one text.

    A hyphen at a line's end goes, unless the document has the word with it elsewhere and not without. Between
    characters of scripts without spaces nothing is put.

    Args:
        known: of :func:`words`.
    """
    text = ""
    for following in lines:
        if not text or not following:
            text += following
        elif text.endswith("\u00ad"):
            text = text[:-1] + following
        elif (start := _BROKEN.search(text)) and (end := _GOES_ON.match(following)) and end[1][0].islower():
            one, two = start[1].lower() + end[1].lower(), f"{start[1]}-{end[1]}".lower()
            text = (text if two in known and one not in known else text[:-1]) + following
        elif _ENDS_WIDE.search(text) and _STARTS_WIDE.match(following):
            text += following
        else:
            text = f"{text} {following}"
    return _BETWEEN_WIDE.sub("", text.replace("\u00ad", ""))


def markdown(text: str) -> str:
    """A whole document: no trailing spaces, at most one blank line at a time; spaces that indent stay."""
    lines = [_BETWEEN_WIDE.sub("", each.rstrip()) for each in characters(text).split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


def table(rows: Iterable[Iterable[str | None]]) -> str:
    """Cells as a Markdown table without empty rows and columns. Empty for less than two rows or columns."""
    filled = [[join(line(part) for part in (cell or "").split("\n")) for cell in row] for row in rows]
    filled = [row for row in filled if any(row)]
    width = max((len(row) for row in filled), default=0)
    filled = [row + [""] * (width - len(row)) for row in filled]
    kept = [column for column in range(width) if any(row[column] for row in filled)]
    if len(filled) < 2 or len(kept) < 2:
        return ""
    lines = ["| " + " | ".join(row[c].replace("|", "\\|") for c in kept) + " |" for row in filled]
    return "\n".join([lines[0], "|" + " --- |" * len(kept), *lines[1:]])
