"""DOCX, HTML, Markdown and plain text as Markdown."""

import re
import zipfile
from pathlib import Path

from documents import cleaning
from documents.pdf import Document, RefusedError

#: Bytes that a DOCX may unpack to: more is a damaged or a hostile file.
_UNPACKED = 2 << 30
_ENCODINGS = ("utf-8-sig", "gb18030")
_MARKS = (b"\xff\xfe", b"\xfe\xff")  # of UTF-16
#: What pages call the older of China's encodings; they hold characters of the newest, as browsers know.
_GB = ("gb2312", "gb_2312-80", "gbk", "x-gbk", "cp936")
_OLD = b"\xd0\xcf\x11\xe0"  # OLE2: Word's own encryption, and .doc under another name
_HEADING = re.compile("^#{1,6} ", re.M)
_DATA_URI = re.compile(r"!\[[^\]]*\]\((?:data:[^)]*)?\)")


def docx(path: Path) -> Document:
    """Headings, lists, tables and footnotes of a Word file, by mammoth; pictures are left out.

    Raises:
        RefusedError: encrypted, broken, or without text.
    """
    import mammoth

    with path.open("rb") as stream:
        if stream.read(4) == _OLD:
            raise RefusedError("encrypted, or an old .doc: save it as .docx without a password")
        stream.seek(0)
        try:
            with zipfile.ZipFile(stream) as archive:
                if sum(each.file_size for each in archive.infolist()) > _UNPACKED:
                    raise RefusedError("unpacks to more than 2 GiB")
            stream.seek(0)
            pictures = mammoth.images.img_element(lambda _: {"src": ""})
            found = mammoth.convert_to_html(stream, convert_image=pictures)
        except (zipfile.BadZipFile, KeyError, ValueError, OSError, AttributeError) as error:
            raise RefusedError(f"broken: no DOCX that can be read ({error})") from None
    return _document(_markdown_of(found.value))


def html(path: Path) -> Document:
    """The main text of a page, by trafilatura; the body where that finds less than a third, or no heading.

    What trafilatura falls back to has no headings; documents that are no part of a site come to that.

    Raises:
        RefusedError: there is no text.
    """
    import trafilatura
    from bs4 import BeautifulSoup

    content = _page(path.read_bytes())
    if not content.strip():
        raise RefusedError("empty")
    main = trafilatura.extract(
        content, output_format="markdown", include_tables=True, include_formatting=True, favor_recall=True
    )
    soup = BeautifulSoup(content, "lxml")
    for tag in soup(["script", "style", "noscript", "template", "nav", "header", "footer", "aside", "form"]):
        tag.decompose()
    for tag in soup.select("div[title=header], div[title=footer]"):  # as LibreOffice names them
        tag.decompose()
    everything = _markdown_of(str(soup.body or soup))
    enough = main is not None and 3 * len(main) >= len(everything)
    headed = bool(_HEADING.search(main or "")) or not _HEADING.search(everything)
    return _document(main if main is not None and enough and headed else everything)


def _page(content: bytes) -> str:
    """A page as text: UTF-8 where it is that, whatever it says; then what it says; then a guess."""
    from bs4.dammit import EncodingDetector, UnicodeDammit

    said = EncodingDetector.find_declared_encoding(content, is_html=True) or ""
    said = "gb18030" if said.lower() in _GB else "" if said.lower().startswith("utf-16") else said
    for encoding in ("utf-16",) if content.startswith(_MARKS) else ("utf-8-sig", said):
        try:
            return content.decode(encoding or "ascii")
        except (UnicodeError, LookupError):
            continue
    guessed: str | None = UnicodeDammit(content, is_html=True).unicode_markup
    if guessed is None:
        raise RefusedError("in no encoding that can be told: iconv -f ENCODING -t UTF-8")
    return guessed


def text(path: Path) -> Document:
    """Markdown and plain text as they are: UTF-8 (UTF-16 with its mark), or GB 18030.

    Raises:
        RefusedError: empty, or neither of these encodings.
    """
    content = path.read_bytes()
    if b"\0" in content[:4096] and not content.startswith(_MARKS):
        raise RefusedError("broken: no text, it holds zero bytes; UTF-16 needs its mark")
    encodings = ("utf-16",) if content.startswith(_MARKS) else _ENCODINGS
    for encoding in encodings:
        try:
            return _document(_without_front_matter(content.decode(encoding)))
        except UnicodeDecodeError:
            continue
    raise RefusedError("neither UTF-8 nor GB 18030: iconv -f ENCODING -t UTF-8")


def _without_front_matter(text: str) -> str:
    """Markdown without the YAML block that static sites begin with."""
    return re.sub(r"\A---\r?\n(?:[\w-]+:.*\r?\n|[ \t-].*\r?\n)+---\r?\n", "", text)


def _markdown_of(content: str) -> str:
    from bs4 import BeautifulSoup
    from markdownify import MarkdownConverter

    soup = BeautifulSoup(content, "lxml")
    for column in soup(["col", "colgroup"]):  # before the first row, which would not be taken for one
        column.unwrap()
    for cell in soup(["td", "th"]):  # the only place where a bar means something
        for inside in cell.find_all(string=re.compile(r"\|")):
            inside.replace_with(str(inside).replace("|", "\\|"))
    found: str = MarkdownConverter(
        heading_style="ATX",
        bullets="-",
        table_infer_header=True,
        escape_asterisks=False,
        escape_underscores=False,
        escape_misc=False,
        strip=["img"],
        wrap=True,  # without a width: what the file's own lines divide becomes one
        wrap_width=None,
    ).convert_soup(soup)
    return re.sub(r"<a id=\"[^\"]*\"></a>", "", _DATA_URI.sub("", found))


def _document(markdown: str) -> Document:
    found = Document(markdown=cleaning.markdown(markdown))
    if not found.markdown.strip():
        raise RefusedError("empty: no text in it")
    return found
