"""A document in parts that a model can read: by headings, then paragraphs and sentences."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

#: Letters and digits that a chunk has at least; less is a number, a caption, a rest. A Chinese character says
#: as much as three letters.
SMALLEST = 20
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\u3040-\u30ff]")
_WORD = re.compile(r"\w")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How large chunks are.

    Attributes:
        size: at most, in tokens of ``model``'s tokenizer, or in characters without one.
        overlap: what a chunk repeats of the one before it, in the same unit.
        model: a folder with tokenizer.json; None: characters.
    """

    size: int
    overlap: int
    model: Path | None = None

    @property
    def unit(self) -> str:
        """Of all lengths."""
        return "tokens" if self.model else "characters"


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Text below a heading.

    Attributes:
        headings: from the document's first level down to this section's.
        text: without the heading's own line.
    """

    headings: tuple[str, ...]
    text: str


def sections(markdown: str) -> Iterator[Section]:
    """The parts of a document between its headings; headings without text give none."""
    from markdown_it import MarkdownIt

    lines = markdown.split("\n")
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    path: list[tuple[int, str]] = []
    start = 0
    for number, token in enumerate(tokens):
        if token.type != "heading_open" or token.map is None or token.level:
            continue
        yield from _section(path, lines[start : token.map[0]])
        level, text = int(token.tag[1:]), " ".join(tokens[number + 1].content.split())
        path = [each for each in path if each[0] < level] + [(level, re.sub(r"[*_`]+", "", text))]
        start = token.map[1]
    yield from _section(path, lines[start:])


def _section(path: list[tuple[int, str]], lines: list[str]) -> Iterator[Section]:
    text = "\n".join(lines).strip()
    if text:
        yield Section(headings=tuple(text_ for _, text_ in path if text_), text=text)


def cut(markdown: str, sizes: Sizes) -> Iterator[Section]:
    """The chunks of a document, each with its headings; what says nothing is left out.

    Sentences end as Unicode has it (UAX 29), Chinese punctuation included. A chunk leaves room for its own
    heading, which rows of text begin with, as long as that takes less than half.
    """
    for section in sections(markdown):
        room = sizes.size - counter(sizes)(heading_line(section.headings))
        size = max(room, sizes.size // 2, 1)
        fitting = replace(sizes, size=size, overlap=min(sizes.overlap, size - 1))
        for text in _splitter(fitting).chunks(section.text):
            if len(_WORD.findall(text)) + 2 * len(_HAN.findall(text)) >= SMALLEST:
                yield Section(headings=section.headings, text=text)


def heading_line(headings: Sequence[str]) -> str:
    """The last heading as Markdown, with the blank line below it; empty without one."""
    return f"{'#' * min(len(headings), 6)} {headings[-1]}\n\n" if headings else ""


@cache
def _splitter(sizes: Sizes) -> Any:
    from semantic_text_splitter import MarkdownSplitter

    if sizes.model is None:
        return MarkdownSplitter(sizes.size, overlap=sizes.overlap)
    return MarkdownSplitter.from_callback(counter(sizes), sizes.size, overlap=sizes.overlap)


def counter(sizes: Sizes) -> Callable[[str], int]:
    """How long a text is: tokens without special ones, or characters.

    Raises:
        SystemExit: the model has no tokenizer.json.
    """
    if sizes.model is None:
        return len
    tokenizer = _tokenizer(sizes.model)
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


@cache
def _tokenizer(folder: Path) -> Any:
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    if not file.is_file():
        raise SystemExit(
            f"{folder}: no tokenizer.json, so nothing counts its tokens; "
            "without --tokenizer chunks are cut by characters"
        )
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
