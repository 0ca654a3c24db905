"""Real documents: their words come back in their order, and what is broken says so."""

import re
import zipfile
from itertools import pairwise
from pathlib import Path

import office
import pytest
from conftest import CHINESE
from documents import pdf, sources, textual
from documents.pdf import RefusedError
from documents.sources import Source


def source(path: Path) -> Source:
    return sources.find([path])[0]


def in_order(text: str, stem: str, count: int) -> bool:
    return [int(number) for number in re.findall(rf"\b{stem}(\d+)", text)] == list(range(1, count + 1))


@pytest.mark.parametrize("kind", ["pdf", "docx", "html"])
def test_every_word_comes_back_in_order(report: Path, kind: str) -> None:
    text = sources.read(source(report / f"report.{kind}"), extractor="pdfplumber", ocr="never").markdown
    words = {"intro": 60, "alpha": 120, "internationalization": 120, "beta": 150, "gamma": 300, "delta": 80}
    assert {stem: in_order(text, stem, count) for stem, count in words.items()} == dict.fromkeys(words, True)
    assert "The efficient office finds waffles difficult." in text
    assert CHINESE * 3 in text  # over line ends, without a space
    heads = [
        "# Annual Report",
        "## Two Columns",
        "## Inside a Column",
        "## Figures",
        "# 中文部分",
        "## Details",
    ]
    assert [line for line in text.splitlines() if line.startswith("#")] == heads
    table = "| Region | Sales 2024 | Sales 2025 |\n| --- | --- | --- |\n| North | 1,200 | 1,350 |\n"
    assert table + "| South \\| East | 900 | 1,010 |\n| 中国 | 2,000 | 2,400 |\n" in text
    assert "Confidential" not in text
    assert "Page" not in text


def test_the_fast_way_has_the_text_and_no_layout(report: Path) -> None:
    found = pdf.plain(report / "report.pdf")
    assert found.pages == 4
    assert in_order(found.markdown, "gamma", 300)
    assert CHINESE in found.markdown


def test_a_scan_is_read_by_ocr(report: Path, tmp_path: Path) -> None:
    """The third page alone: Chinese, and 300 words."""
    import pypdfium2

    page = pypdfium2.PdfDocument(report / "report.pdf")[2]
    page.render(scale=200 / 72).to_pil().convert("RGB").save(tmp_path / "scan.pdf", resolution=200)
    found = pdf.laid_out(tmp_path / "scan.pdf", ocr="auto")
    assert (found.pages, found.scanned) == (1, 1)
    letters = re.sub(r"\s", "", found.markdown)
    assert sum(letters.count(part) for part in re.split("[，。]", CHINESE) if part) >= 3 * 4
    seen = [int(number) for number in re.findall(r"gamma(\d{3})", found.markdown)]
    assert len(set(seen)) >= 0.95 * 300
    assert sum(one < two for one, two in pairwise(seen)) >= 0.95 * len(seen)
    with pytest.raises(RefusedError, match="--ocr auto"):
        pdf.laid_out(tmp_path / "scan.pdf", ocr="never")


def test_an_encrypted_file_is_named(report: Path, tmp_path: Path) -> None:
    secret = '"DocumentOpenPassword":{"type":"string","value":"x"}'
    options = f'{{"EncryptFile":{{"type":"boolean","value":"true"}},{secret}}}'
    locked = office.convert(report / "report.fodt", f"pdf:writer_pdf_Export:{options}", tmp_path)
    for read in (pdf.plain, lambda path: pdf.laid_out(path, ocr="auto")):
        with pytest.raises(RefusedError, match=r"^encrypted"):
            read(locked)


def test_a_cut_off_file_is_named(report: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.pdf").write_bytes((report / "report.pdf").read_bytes()[:9000])
    with pytest.raises(RefusedError, match=r"^broken"):
        pdf.laid_out(tmp_path / "cut.pdf", ocr="auto")


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.pdf", b"", "empty"),
        ("a.pdf", b"%PDF-1.7\nrubbish", "^broken"),
        ("a.docx", b"PK\x03\x04rubbish", "^broken"),
        ("a.docx", b"\xd0\xcf\x11\xe0" + bytes(600), "^encrypted"),
        ("a.html", b"<html><body><script>x()</script></body></html>", "^empty"),
        ("a.md", b"   \n\n", "^empty"),
        ("a.txt", bytes(100), "^broken"),
        ("a.txt", b"\x80\xff\x81", "neither UTF-8"),
        ("a.xlsx", b"PK", "^not supported"),
    ],
)
def test_what_gives_nothing_says_why(tmp_path: Path, name: str, content: bytes, why: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RefusedError, match=why):
        sources.read(source(tmp_path / name), extractor="pdfplumber", ocr="auto")


def test_a_docx_without_a_document_is_broken(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.docx", "w") as archive:
        archive.writestr("other.xml", "<a/>")
    with pytest.raises(RefusedError, match=r"^broken"):
        textual.docx(tmp_path / "a.docx")


def test_a_page_of_a_site_loses_what_is_around_its_text(tmp_path: Path) -> None:
    body = "".join(
        f"<p>Sentence {n} about the growth of tomatoes in a garden in summer.</p>" for n in range(9)
    )
    (tmp_path / "a.html").write_text(
        "<html><body><nav><a href=/>Home</a></nav><article><h1>Tomatoes</h1>"
        f"{body}<h2>Yield</h2><table><tr><th>Year</th><th>kg</th></tr><tr><td>2024</td><td>12</td></tr></table>"
        "</article><aside>Subscribe</aside><footer>Cookie policy</footer></body></html>"
    )
    text = textual.html(tmp_path / "a.html").markdown
    assert text.startswith("# Tomatoes")
    assert "## Yield" in text
    assert re.search(r"\| 2024 \| 12 \|", text)
    assert not re.search("Home|Subscribe|Cookie", text)


def test_chinese_encodings_and_front_matter(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("中文文本".encode("gb18030"))
    (tmp_path / "b.md").write_bytes(b"\xef\xbb\xbf---\ntitle: x\ntags:\n  - y\n---\n# Head\n\nText")
    (tmp_path / "c.txt").write_text("中文", encoding="utf-16")
    texts = [textual.text(tmp_path / name).markdown for name in ("a.txt", "b.md", "c.txt")]
    assert texts == ["中文文本\n", "# Head\n\nText\n", "中文\n"]


@pytest.mark.parametrize(
    ("said", "encoding"),
    [
        ('<meta charset="gb2312">', "gb18030"),  # as thousands of pages say whose names GB 2312 lacks
        ('<meta http-equiv="Content-Type" content="text/html; charset=gbk">', "gb18030"),
        ('<meta charset="iso-8859-1">', "utf-8"),
        ("", "utf-8-sig"),
        ("", "utf-16"),
        ('<meta charset="big5">', "big5"),
    ],
)
def test_a_page_is_read_in_its_encoding(tmp_path: Path, said: str, encoding: str) -> None:
    words = "人工智慧正在改變世界" if encoding == "big5" else "人工智能正在改变世界，镕堃喆的名字也要保留。"
    page = f"<html><head>{said}</head><body><h1>第一章</h1><p>{words * 5}</p></body></html>"
    (tmp_path / "a.HTML").write_bytes(page.encode(encoding))
    text = sources.read(source(tmp_path / "a.HTML"), extractor="pdfplumber", ocr="never").markdown
    assert text == f"# 第一章\n\n{words * 5}\n"


def test_a_page_of_xml_with_its_own_declaration_is_read(tmp_path: Path) -> None:
    page = '<?xml version="1.0" encoding="utf-8"?>\n<html xmlns="http://www.w3.org/1999/xhtml"><body><p>中文文本。</p>'
    (tmp_path / "a.html").write_text(page + "</body></html>", encoding="utf-8")
    assert textual.html(tmp_path / "a.html").markdown == "中文文本。\n"
