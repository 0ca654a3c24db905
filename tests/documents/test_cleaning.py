"""What a typesetter put in comes out; what the author wrote stays."""

import pytest
from documents import cleaning


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("eﬃcient oﬀice ﬁnds", "efficient office finds"),
        ("x² ½ ＡＢ，① ﷺ", "x² ½ ＡＢ，① ﷺ"),
        ("⼈⼯智能", "人工智能"),  # radicals, as some fonts' tables name the characters
        ("cafe\u0301", "café"),
        ("中 文 和 English 混 排", "中文和 English 混排"),
        ("a\u00a0b\u200bc\x00d", "a bcd"),
        ("bad \ud800 half", "bad ? half"),
    ],
)
def test_a_line(given: str, wanted: str) -> None:
    assert cleaning.line(given) == wanted


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        (["the inter-", "national trade"], "the international trade"),
        (["the well-", "known trade", "a well-known man"], "the well-known trade a well-known man"),
        (["the year 2024-", "2025 and"], "the year 2024- 2025 and"),
        (["Baden-", "Württemberg"], "Baden- Württemberg"),
        (["soft\u00ad", "ware"], "software"),
        (["数据往往藏", "在文档之中。", "第二"], "数据往往藏在文档之中。第二"),
        (["用 BGE", "模型"], "用 BGE 模型"),
    ],
)
def test_lines_of_a_paragraph(lines: list[str], wanted: str) -> None:
    assert cleaning.join(lines, cleaning.words(lines)) == wanted


def test_a_table_escapes_bars_and_drops_what_is_empty() -> None:
    rows = [["a", None, "b|c"], ["", "", ""], ["d\ne", "", "中\n文"]]
    assert cleaning.table(rows) == "| a | b\\|c |\n| --- | --- |\n| d e | 中文 |"
    assert cleaning.table([["a", "b"]]) == ""
