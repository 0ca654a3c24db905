"""Reading order, running heads and headings, by geometry alone."""

from documents import layout
from documents.layout import Fonts, Line


def line(
    text: str, x0: float, top: float, width: float = 200, size: float = 10, *, bold: bool = False
) -> Line:
    return Line(text=text, x0=x0, x1=x0 + width, top=top, bottom=top + size, size=size, bold=bold)


def read(lines: list[Line]) -> list[str]:
    return [each.text for each in layout.texts(layout.ordered(lines))]


def test_columns_are_read_one_after_the_other_below_what_spans_them() -> None:
    left = [line(f"l{n}", 50, 100 + 12 * n) for n in range(5)]
    right = [line(f"r{n}", 270, 100 + 12 * n) for n in range(4)]
    title, end = line("title", 50, 80, 420), line("end", 50, 170, 420)
    assert read([*right, end, *left, title]) == [
        "title",
        *[f"l{n}" for n in range(5)],
        *[f"r{n}" for n in range(4)],
        "end",
    ]


def test_three_columns() -> None:
    columns = [[line(f"{c}{n}", 50 + 160 * c, 100 + 12 * n, 140) for n in range(4)] for c in range(3)]
    assert read([each for column in columns for each in column]) == [
        f"{c}{n}" for c in range(3) for n in range(4)
    ]


def test_a_heading_behind_columns_does_not_go_to_the_left_one() -> None:
    lines = [line(f"{side}{n}", x, 100 + 12 * n) for side, x in (("l", 50), ("r", 270)) for n in range(4)]
    lines += [line("Heading", 50, 170, 100, 14, bold=True), line("text of the next section", 50, 190, 420)]
    assert read(lines)[-2:] == ["Heading", "text of the next section"]


def test_cells_without_lines_stay_in_their_rows() -> None:
    names = [line(f"name{n}", 50, 100 + 12 * n, 300) for n in range(5)]
    values = [line(f"{n}", 400, 100 + 12 * n, 12) for n in range(5)]
    assert read([*names, *values]) == [f"name{n} {n}" for n in range(5)]


def test_running_heads_and_page_numbers() -> None:
    pages = []
    for number in range(1, 5):
        head = line("Annual Report" if number % 2 else "Chapter One", 50, 20)
        body = [line(f"text {number}", 50, 300), line("same text on every page", 50, 400)]
        pages.append(
            (800.0, [head, *body, line(f"- {number} -", 50, 770), line(f"draft of day {number}", 50, 785)])
        )
    assert layout.running(pages) == {(page, place) for page in range(4) for place in (0, 3, 4)}
    once = [(800.0, [line("A Title", 50, 20)]), (800.0, [line("Other words", 50, 20)])]
    assert layout.running(once) == frozenset()


def test_headings_by_size_and_bold_lines() -> None:
    lines = [
        line("Big", 50, 10, size=20),
        line("a body of text that is long.", 50, 40),
        line("Middle", 50, 60, size=14),
        line("more of the body of text.", 50, 80),
        line("Bold alone", 50, 120, bold=True),
        line("the end of the body.", 50, 140),
    ]
    lines.append(line("Contents . . . . . . . . 12", 50, 160, size=14))
    fonts = Fonts.of(lines, larger=1.12)
    assert [(block.level, block.lines[0]) for block in layout.blocks(lines, fonts) if block.level] == [
        (1, "Big"),
        (2, "Middle"),
        (3, "Bold alone"),
    ]
