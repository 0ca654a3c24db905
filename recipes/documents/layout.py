"""Lines of a page in the order in which people read them. Pure geometry: points, the origin at the top left.

A row is what stands at one height. Rows that leave the same strip free, at least three of them with text on
both sides, are columns: the left one is read first, whole. What crosses the strip ends them.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

#: Rows with text on both sides that columns need; fewer are a table without lines, or chance.
_ROWS = 3
#: Width of the strip between columns, in sizes of the text. LaTeX leaves one.
_GUTTER = 0.9
#: Share of the rows' width that each column's lines have: shorter ones are cells of a table.
_COLUMN = 0.2
#: Share of a page's height, above and below, where running heads and page numbers stand.
_MARGIN = 0.12
_NUMBER = re.compile(
    r"[\W_]*(?:page|p\.|seite|第)?[\W_]*(?:\d{1,4}|[ivxl]{1,6})[\W_]*(?:(?:of|/|von|页|共|\|)[\W_]*\d{0,4}[\W_]*页?)?[\W_]*",
    re.I,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Text that stands together, or a table.

    Attributes:
        text: of a table its Markdown.
        size: of the text, in points; a table's is 0.
    """

    text: str
    x0: float
    x1: float
    top: float
    bottom: float
    size: float = 0.0
    bold: bool = False

    @property
    def is_table(self) -> bool:
        """Whether the text is Markdown already."""
        return self.size == 0


Row = list[Line]


def rows_of(lines: Iterable[Line]) -> list[Row]:
    """Lines at one height, from left to right, from the top down."""
    rows: list[Row] = []
    for each in sorted(lines, key=lambda line: (line.top, line.x0)):
        last = rows[-1] if rows else []
        middle = (each.top + each.bottom) / 2
        if last and not each.is_table and not last[0].is_table and last[0].top <= middle <= last[0].bottom:
            last.append(each)
        else:
            rows.append([each])
    return [sorted(row, key=lambda line: line.x0) for row in rows]


def ordered(lines: Iterable[Line]) -> list[Row]:
    """Rows in reading order: columns one after the other."""
    return list(_read(rows_of(lines)))


def _read(rows: list[Row]) -> Iterator[Row]:
    position = 0
    while position < len(rows):
        found = _columns(rows, position)
        if found is None:
            yield rows[position]
            position += 1
            continue
        end, middle = found
        inside = [line for row in rows[position:end] for line in row]
        yield from _read(rows_of(line for line in inside if line.x1 <= middle))
        yield from _read(rows_of(line for line in inside if line.x1 > middle))
        position = end


def _columns(rows: Sequence[Row], start: int) -> tuple[int, float] | None:
    """Where columns that begin at a row end, and where they are divided; None: none begin there."""
    best: tuple[int, float] | None = None
    for left, right in zip(rows[start], rows[start][1:], strict=False):
        if right.x0 - left.x1 < _GUTTER * max(left.size, right.size):
            continue
        end, middle = _extent(rows, start, left.x1, right.x0)
        if middle and (best is None or end > best[0]):
            best = end, middle
    return best


def _extent(rows: Sequence[Row], start: int, low: float, high: float) -> tuple[int, float]:
    """How far rows leave a strip free that is within ``low`` and ``high``; middle 0: these are no columns."""
    both, end, last = 0, start, start
    sides: tuple[list[float], list[float]] = ([], [])
    for end in range(start, len(rows)):
        row = rows[end]
        before = [line for line in row if (line.x0 + line.x1) / 2 < (low + high) / 2]
        behind = [line for line in row if (line.x0 + line.x1) / 2 >= (low + high) / 2]
        edge = max((line.x1 for line in before), default=low), min((line.x0 for line in behind), default=high)
        narrow, wide = max(low, edge[0]), min(high, edge[1])
        if wide - narrow < _GUTTER * max((line.size for line in row), default=0.0) or wide <= narrow:
            break
        if before and behind:
            both, last = both + 1, end
        elif end > start and _apart(rows[end - 1], row, before=bool(before)):
            break
        low, high = narrow, wide
        for side, lines in zip(sides, (before, behind), strict=True):
            if lines:
                side.append(max(line.x1 for line in lines) - min(line.x0 for line in lines))
    else:
        end = len(rows)
    width = sum(map(max, sides)) if all(sides) else 0.0
    if both < _ROWS or any(median(side) < _COLUMN * width for side in sides):
        return start, 0.0
    return max(end, last + 1), (low + high) / 2


def _apart(above: Row, row: Row, *, before: bool) -> bool:
    """Whether a row with text on one side no longer belongs to the columns above it.

    A column may go on alone. A heading, or text behind a gap, on the left begins what follows both columns.
    """
    if not before:
        return False
    first, own = above[0], row[0]
    if own.is_table or first.is_table:
        return own.is_table
    different = abs(own.size - first.size) > 0.05 * own.size or own.bold != first.bold
    return different or own.top - first.bottom > 0.9 * own.size


def texts(rows: Iterable[Row]) -> list[Line]:
    """Each row as one line."""
    found = []
    for row in rows:
        parts = [line for line in row if line.text]
        if not parts:
            continue
        longest = max(parts, key=lambda line: len(line.text))
        found.append(
            Line(
                text=" ".join(line.text for line in parts),
                x0=parts[0].x0,
                x1=parts[-1].x1,
                top=min(line.top for line in parts),
                bottom=max(line.bottom for line in parts),
                size=longest.size,
                bold=all(line.bold for line in parts),
            )
        )
    return found


def running(pages: Sequence[tuple[float, Sequence[Line]]]) -> frozenset[tuple[int, int]]:
    """Running heads, feet and page numbers: page and position of each line that is one.

    A text in a page's margin counts with its digits left out: on at least half of the pages, two at least, or
    on half of the odd or of the even ones of four and more. Page numbers count by themselves.

    Args:
        pages: height of each page, and its lines.
    """
    seen: dict[str, set[int]] = {}
    places: list[tuple[str, int, int]] = []
    for page, (height, lines) in enumerate(pages):
        for position, line in enumerate(lines):
            margin = line.bottom < _MARGIN * height or line.top > (1 - _MARGIN) * height
            if not margin or line.is_table or len(line.text) > 150:
                continue
            key = "" if _NUMBER.fullmatch(line.text) else re.sub(r"\d+", "#", line.text.lower())
            key = f"{key} {line.top < height / 2} {line.size:.0f}" if key else ""
            seen.setdefault(key, set()).add(page)
            places.append((key, page, position))
    count = len(pages)

    def repeated(key: str) -> bool:
        on = seen[key]
        if not key:
            return True
        odd = {page for page in on if page % 2}
        half = max(len(odd) * 2 >= count // 2, (len(on) - len(odd)) * 2 >= (count + 1) // 2)
        return len(on) >= 2 and (len(on) * 2 >= count or (count >= 4 and half))

    return frozenset((page, position) for key, page, position in places if repeated(key))


#: Dots up to a page's number: a line of a table of contents, however large.
_LEADER = re.compile(r"(?:[.·…] ?){4,}\s*\d*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fonts:
    """The sizes of a document's text.

    Attributes:
        body: the size that most characters have.
        headings: larger ones, the largest first.
    """

    body: float
    headings: tuple[float, ...]

    @classmethod
    def of(cls, lines: Iterable[Line], *, larger: float) -> "Fonts":
        """Count characters by size.

        Args:
            larger: a heading's size, in sizes of the text; letters that OCR found vary by a fifth.
        """
        count: Counter[float] = Counter()
        for line in lines:
            if not line.is_table:
                count[round(line.size * 2) / 2] += len(line.text)
        body = count.most_common(1)[0][0] if count else 0.0
        above = sorted((size for size in count if size >= larger * body), reverse=True)
        return cls(body=body, headings=tuple(above[:4]))

    def level(self, line: Line) -> int:
        """1 for the largest headings and so on; 0: no heading."""
        size = round(line.size * 2) / 2
        if not self.headings or size < self.headings[-1] or len(line.text) > 200 or _LEADER.search(line.text):
            return 0
        return next(level for level, each in enumerate(self.headings, 1) if size >= each)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A heading (level 1 to 5), a table, or a paragraph's lines (level 0)."""

    lines: tuple[str, ...]
    level: int = 0
    table: bool = False


def blocks(lines: Sequence[Line], fonts: Fonts) -> Iterator[Block]:
    """Paragraphs, headings and tables of a page's lines, which are in reading order."""
    group: list[Line] = []
    for line in lines:
        if group and _begins(group[-1], line, group, fonts):
            yield _block(group, fonts)
            group = []
        group.append(line)
    if group:
        yield _block(group, fonts)


_MARKER = re.compile(r"(?:[•▪‣◦●○■□–*·-]|\(?\d{1,3}[.)、]|[(（][一二三四五六七八九十\d]+[)）]|[a-z][.)])\s")
_END = re.compile(r"[.!?:;。！？：；…”\"')）]$")


def _begins(last: Line, line: Line, group: Sequence[Line], fonts: Fonts) -> bool:
    """Whether a line begins something new behind the last one."""
    if last.is_table or line.is_table or fonts.level(last) != fonts.level(line) or last.bold != line.bold:
        return True
    height = max(line.size, 1.0)
    gap = line.top - last.bottom
    if gap < -2 * height or (gap > 0.75 * height and gap > _leading(group) + 0.3 * height):
        return gap > 0 or bool(_END.search(last.text))  # the next column: a sentence may go on there
    if _MARKER.match(line.text):
        return True
    if fonts.level(line):
        return False
    edge, left = max(each.x1 for each in group), min(each.x0 for each in group)
    indented = len(group) > 1 and line.x0 > last.x0 + 0.9 * height and last.x0 <= left + 0.5 * height
    short = last.x1 < edge - 0.25 * (edge - left) and bool(_END.search(last.text))
    return indented or short


def _leading(group: Sequence[Line]) -> float:
    """The space between the lines of a paragraph so far; what is usual for one line."""
    gaps = [line.top - last.bottom for last, line in pairwise(group)]
    usual = [gap for gap in gaps if gap > 0]
    return median(usual) if usual else 0.5 * group[0].size


def _block(group: Sequence[Line], fonts: Fonts) -> Block:
    first = group[0]
    if first.is_table:
        return Block(lines=(first.text,), table=True)
    level = fonts.level(first)
    text = " ".join(line.text for line in group)
    if not level and first.bold and len(text) <= 100 and not _END.search(text) and not _MARKER.match(text):
        level = len(fonts.headings) + 1
    return Block(lines=tuple(line.text for line in group), level=level)
