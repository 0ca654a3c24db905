"""PDF files as Markdown: text by its place, ruled tables, scanned pages by OCR."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from documents import cleaning, layout
from documents.layout import Fonts, Line

#: Fewer characters than that on a page with pictures: they are a stamp or a page number, the rest is a scan.
_SCANNED = 25
#: A heading's size, in sizes of the text; boxes that OCR draws around lines vary by a fifth.
_LARGER, _LARGER_SCANNED = 1.12, 1.45
_RESOLUTION = 200  # dots per inch of pages for OCR
_PIXELS = 4000  # of a page's longer side at most: larger ones are posters
#: What pdfminer writes for letters of fonts without a table of characters.
_UNKNOWN = re.compile(r"\(cid:\d+\)")
_BOLD = ("bold", "heavy", "black", "demi")


class RefusedError(Exception):
    """A file, or a part of it, gives no text; the message says why."""


@dataclass(slots=True)
class Document:
    """What a file gave.

    Attributes:
        markdown: the text, empty when there is none.
        pages: of files that have pages, else 0.
        scanned: pages that were read by OCR.
        problems: what did not come out, though the rest did.
    """

    markdown: str = ""
    pages: int = 0
    scanned: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Page:
    height: float
    lines: list[Line]


def plain(path: Path) -> Document:
    """The text in the order of the file, by pypdfium2: no tables, no headings, no OCR; six times as fast.

    Raises:
        RefusedError: encrypted, broken, or without a text layer.
    """
    document = _opened(path)
    found = Document(pages=len(document))
    pages = []
    for number in range(len(document)):
        page = document[number]
        text = page.get_textpage().get_text_range()
        lines = [cleaning.line(each) for each in text.splitlines()]
        pages.append(cleaning.join(each for each in lines if each))
        page.close()
    document.close()
    found.markdown = "\n\n".join(page for page in pages if page)
    if not found.markdown:
        raise RefusedError("no text layer: --extractor pdfplumber reads scans by OCR")
    return found


def laid_out(path: Path, *, ocr: str) -> Document:
    """Text in reading order with headings and tables, by pdfplumber; a page at a time in memory.

    Args:
        ocr: auto: pages without text; always: all pages; never.

    Raises:
        RefusedError: encrypted, broken, or nothing to read.
    """
    import pdfplumber

    pixels = _opened(path)  # judges the file too: pdfium says what is wrong with it, pdfminer may loop
    found = Document(pages=len(pixels))
    pages: list[_Page] = []
    with pdfplumber.open(path) as document:
        for number in range(1, len(pixels) + 1):
            try:
                pages.append(_page(document, pixels, number, ocr, found))
            except MemoryError:
                raise
            except Exception as error:  # noqa: BLE001 - a damaged page raises anything; the others are read
                found.problems.append(f"page {number}: {type(error).__name__}: {str(error)[:200]}")
    pixels.close()
    found.markdown = _markdown(pages, scanned=2 * found.scanned > len(pages))
    if not found.markdown.strip():
        why = {"never": "no text layer: --ocr auto reads scans"}.get(ocr, "no text on its pages")
        raise RefusedError("; ".join(found.problems[:3]) or why)
    return found


def _opened(path: Path) -> Any:
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        known = {"password": "encrypted: it opens with a password only", "security": "encrypted"}
        reason = next((text for word, text in known.items() if word in str(error).lower()), "")
        raise RefusedError(reason or f"broken: no PDF that can be read ({error})") from None
    if not len(document):
        raise RefusedError("broken: a PDF without pages")
    return document


def _page(document: Any, pixels: Any, number: int, ocr: str, found: Document) -> _Page:
    if number > len(document.pages):
        raise RefusedError("the page is listed, and not there")
    page = document.pages[number - 1]
    try:
        height = float(page.height)
        letters = sum(not char["text"].isspace() for char in page.chars) if ocr != "always" else 0
        if ocr != "never" and letters < _SCANNED and (ocr == "always" or page.images or not letters):
            lines = _by_ocr(pixels[number - 1])
            if lines:
                found.scanned += 1
                return _Page(height, lines)
        return _Page(height, list(_with_tables(page)))
    finally:
        page.close()


def _by_ocr(page: Any) -> list[Line]:
    from documents import ocr

    scale = min(_RESOLUTION / 72, _PIXELS / max(page.get_size()))
    return ocr.read(page.render(scale=scale).to_numpy(), scale)


def _with_tables(page: Any) -> Iterator[Line]:
    """Tables, and the lines that are in none."""
    boxes = []
    for table in page.find_tables():
        if text := cleaning.table(table.extract()):
            x0, top, x1, bottom = table.bbox
            boxes.append(table.bbox)
            yield Line(text=text, x0=x0, x1=x1, top=top, bottom=bottom)
    words = page.extract_words(x_tolerance_ratio=0.15, y_tolerance=2, extra_attrs=["size", "fontname"])
    outside = [word for word in words if word["upright"] and not any(_within(word, box) for box in boxes)]
    yield from _segments(outside)


def _within(word: dict[str, Any], box: Sequence[float]) -> bool:
    x, y = (word["x0"] + word["x1"]) / 2, (word["top"] + word["bottom"]) / 2
    return bool(box[0] <= x <= box[2] and box[1] <= y <= box[3])


def _segments(words: Sequence[dict[str, Any]]) -> Iterator[Line]:
    """Words that stand close to each other at one height."""
    singles = [
        Line(
            text=_UNKNOWN.sub("", cleaning.characters(word["text"])),
            x0=word["x0"],
            x1=word["x1"],
            top=word["top"],
            bottom=word["bottom"],
            size=max(float(word["size"]), 1.0),
            bold=any(name in word["fontname"].lower() for name in _BOLD),
        )
        for word in words
    ]
    for row in layout.rows_of(singles):
        group: list[Line] = []
        # In justified text all spaces of a line are wide; the one between columns is wider still.
        gaps = [word.x0 - last.x1 for last, word in pairwise(row)]
        usual = 1.4 * median(gaps) if len(gaps) > 2 else 0.0
        for word in row:
            if group and word.x0 - group[-1].x1 >= max(usual, 0.9 * word.size, 0.9 * group[-1].size):
                yield _segment(group)
                group = []
            group.append(word)
        if group:
            yield _segment(group)


def _segment(words: Sequence[Line]) -> Line:
    text = words[0].text
    for last, word in pairwise(words):
        text += f" {word.text}" if word.x0 - last.x1 > 0.1 * word.size else word.text
    longest = max(words, key=lambda word: len(word.text))
    letters = sum(len(word.text) for word in words)
    return Line(
        text=text,
        x0=words[0].x0,
        x1=words[-1].x1,
        top=min(word.top for word in words),
        bottom=max(word.bottom for word in words),
        size=longest.size,
        bold=2 * sum(len(word.text) for word in words if word.bold) > letters,
    )


def _paragraph(text: str) -> str:
    """A paragraph as Markdown: a bullet is an item of a list, a listing's comment no heading."""
    return re.sub(r"^#", r"\\#", re.sub(r"^[•▪‣◦●○■□]\s*", "- ", text))


def _markdown(pages: Sequence[_Page], *, scanned: bool) -> str:
    """All pages as one text, without running heads; a paragraph may go on over the end of a page."""
    everything = [(page.height, layout.texts(layout.rows_of(page.lines))) for page in pages]
    gone = layout.running(everything)
    dropped = [{everything[n][1][p].top for m, p in gone if m == n} for n in range(len(pages))]
    kept = [
        [line for line in page.lines if not any(abs(line.top - top) < 1 for top in tops)]
        for page, tops in zip(pages, dropped, strict=True)
    ]
    fonts = Fonts.of(
        (line for lines in kept for line in lines), larger=_LARGER_SCANNED if scanned else _LARGER
    )
    ordered = [layout.texts(layout.ordered(lines)) for lines in kept]
    known = cleaning.words(line.text for lines in ordered for line in lines if not line.is_table)
    parts: list[str] = []
    goes_on = False
    for lines in ordered:
        for position, block in enumerate(layout.blocks(lines, fonts)):
            text = block.lines[0] if block.table else cleaning.join(map(cleaning.line, block.lines), known)
            if not text:
                continue
            plain_text = not block.table and not block.level
            if (
                not position
                and goes_on
                and plain_text
                and (text[0].islower() or "\u4e00" <= text[0] <= "\u9fff")
            ):
                parts[-1] = cleaning.join([parts[-1], text], known)
            else:
                parts.append(f"{'#' * block.level} {text}" if block.level else _paragraph(text))
            goes_on = plain_text and parts[-1][-1] not in ".!?。！？：:"
    return cleaning.markdown("\n\n".join(parts)) if parts else ""
