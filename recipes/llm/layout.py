"""Answers for a terminal: streamed with folded thoughts, or two of them side by side."""

import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any

from llm.generating import Answer

#: Narrower columns are unreadable: what does not fit stands one below the other.
_NARROW = 24

_BETWEEN = " | "

#: Control characters, but for tabs and line ends: a model's words must not move the cursor or worse.
_CONTROL = {code: "\ufffd" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\t\n"}


def visible(text: str) -> str:
    """A text without what a terminal would obey."""
    return text.translate(_CONTROL)


class Screen:
    """Shows an answer while it comes.

    Args:
        thinking: show thoughts; otherwise one line says how long they are.
        length: of a text in tokens.
        out: where to write; told to flush after each piece.
    """

    def __init__(self, *, thinking: bool, length: Callable[[str], int], out: Any = None) -> None:
        self._thinking, self._length, self._out = thinking, length, out or sys.stdout
        self._thoughts: list[str] = []
        self._blank = True

    def said(self, thought: bool, text: str) -> None:
        """A piece of an answer."""
        if thought:
            if not self._thoughts:
                text = text.lstrip()
                if not text:  # models that may think write down that they did not
                    return
                self._write("[thinking]\n" if self._thinking else "[thinking …")
            self._thoughts.append(text)
            if self._thinking:
                self._write(text)
            return
        self._folded()
        if self._blank:
            text = text.lstrip()
        if text:
            self._blank = False
            self._write(text)

    def done(self) -> None:
        """The answer has ended."""
        self._folded()
        self._write("\n")

    def _folded(self) -> None:
        if self._thoughts:
            end = "\n[thought" if self._thinking else ""
            self._write(f"{end} {self._length(''.join(self._thoughts))} tokens]\n")
            self._thoughts, self._blank = [], True

    def _write(self, text: str) -> None:
        self._out.write(visible(text) if self._out.isatty() else text)
        self._out.flush()


def whole(answer: Answer, *, thinking: bool) -> str:
    """An answer as one text."""
    if not answer.thinking:
        return answer.text
    if thinking:
        return f"[thinking]\n{answer.thinking}\n[thought {answer.thoughts} tokens]\n{answer.text}"
    return f"[thinking … {answer.thoughts} tokens]\n{answer.text}"


def figures(answer: Answer, memory: int) -> str:
    """Speed and memory of an answer."""
    stopped = {"end": "", "length": ", cut off at its limit", "interrupted": ", interrupted"}[answer.stop]
    rate = f", {answer.rate:.1f} tokens/s" if answer.rate else ""
    return (
        f"[{answer.tokens} tokens{stopped}, the first after {answer.first_token:.2f} s{rate}, "
        f"peak memory {memory / 1e9:.2f} GB]"
    )


def side_by_side(titles: tuple[str, str], texts: tuple[str, str], width: int = 0) -> str:
    """Two texts in columns.

    Args:
        titles: of the columns.
        texts: in them.
        width: of the terminal in cells; 0: this one's.
    """
    width = width or shutil.get_terminal_size((100, 24)).columns
    column = (width - len(_BETWEEN)) // 2
    if column < _NARROW:
        return "\n".join(f"{title}:\n{text}" for title, text in zip(titles, texts, strict=True))
    left, right = (
        [title, "-" * column, *_wrapped(text, column)] for title, text in zip(titles, texts, strict=True)
    )
    height = max(len(left), len(right))
    rows = zip(left + [""] * (height - len(left)), right + [""] * (height - len(right)), strict=True)
    return "\n".join(f"{_padded(one, column)}{_BETWEEN}{two}".rstrip() for one, two in rows)


def _wrapped(text: str, width: int) -> Iterator[str]:
    """Lines of at most so many cells; Chinese characters take two, and may end a line anywhere."""
    for line in visible(text).split("\n"):
        for part in textwrap.wrap(line, width, drop_whitespace=False) or [""]:
            yield from _cut(part, width)


def _cut(line: str, width: int) -> Iterator[str]:
    start, used = 0, 0
    for position, character in enumerate(line):
        cells = _cells(character)
        if used + cells > width:
            yield line[start:position]
            start, used = position, 0
        used += cells
    yield line[start:]


def _padded(text: str, width: int) -> str:
    return text + " " * (width - sum(map(_cells, text)))


def _cells(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
