"""Documents that LibreOffice itself writes: flat ODF in, PDF, DOCX and HTML out.

What a document says is given by its blocks, so that a test knows every word that must come back. Words are in
an order that tells where each one stood: ``alpha001`` comes before ``alpha002``.
"""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

PROGRAM = shutil.which("soffice")

_NAMESPACES = " ".join(
    f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{path}:1.0"'
    for name, path in {
        "office": "office",
        "text": "text",
        "style": "style",
        "table": "table",
        "fo": "xsl-fo-compatible",
        "svg": "svg-compatible",
    }.items()
)

_STYLES = """
 <office:font-face-decls>
  <style:font-face style:name="Sans" svg:font-family="'DejaVu Sans'"/>
  <style:font-face style:name="Han" svg:font-family="'WenQuanYi Zen Hei'"/>
 </office:font-face-decls>
 <office:styles>
  <style:default-style style:family="paragraph"><style:text-properties style:font-name="Sans"
   fo:font-size="10pt" style:font-name-asian="Han" style:font-size-asian="10pt" fo:language="en"
   fo:country="US" fo:hyphenate="true" style:language-asian="zh" style:country-asian="CN"/>
  </style:default-style>
  <style:style style:name="Standard" style:family="paragraph"><style:paragraph-properties
   fo:margin-bottom="6pt" fo:text-align="justify"/></style:style>
  <style:style style:name="Heading_20_1" style:display-name="Heading 1" style:family="paragraph"
   style:parent-style-name="Standard" style:default-outline-level="1"><style:text-properties
   fo:font-size="20pt" style:font-size-asian="20pt" fo:font-weight="bold" fo:hyphenate="false"/></style:style>
  <style:style style:name="Heading_20_2" style:display-name="Heading 2" style:family="paragraph"
   style:parent-style-name="Standard" style:default-outline-level="2"><style:text-properties
   fo:font-size="14pt" style:font-size-asian="14pt" fo:font-weight="bold" fo:hyphenate="false"/></style:style>
 </office:styles>
 <office:automatic-styles>
  <style:page-layout style:name="page"><style:page-layout-properties
   fo:page-width="21cm" fo:page-height="29.7cm" fo:margin="2cm"/><style:header-style/>
   <style:footer-style/></style:page-layout>
  <style:style style:name="columns" style:family="section"><style:section-properties>
   <style:columns fo:column-count="2" fo:column-gap="1cm"><style:column style:rel-width="1*"/>
   <style:column style:rel-width="1*"/></style:columns></style:section-properties></style:style>
  <style:style style:name="cell" style:family="table-cell"><style:table-cell-properties
   fo:border="0.5pt solid #000000" fo:padding="2pt"/></style:style>
  <style:style style:name="break" style:family="paragraph" style:parent-style-name="Standard">
   <style:paragraph-properties fo:break-before="page"/></style:style>
 </office:automatic-styles>
 <office:master-styles><style:master-page style:name="Standard" style:page-layout-name="page">
  <style:header><text:p>{header}</text:p></style:header>
  <style:footer><text:p>Page <text:page-number text:select-page="current"/></text:p></style:footer>
 </style:master-page></office:master-styles>
"""


def heading(text: str, level: int = 1) -> str:
    """A heading of a level."""
    return (
        f'<text:h text:style-name="Heading_20_{level}" text:outline-level="{level}">{escape(text)}</text:h>'
    )


def paragraph(text: str, *, new_page: bool = False) -> str:
    """A paragraph, on a page of its own if that is asked for."""
    return f'<text:p text:style-name="{"break" if new_page else "Standard"}">{escape(text)}</text:p>'


def columns(*blocks: str) -> str:
    """Blocks in two columns."""
    content = "".join(blocks)
    return f'<text:section text:style-name="columns" text:name="c{id(blocks)}">{content}</text:section>'


def table(rows: Sequence[Sequence[str]]) -> str:
    """A table with lines around its cells."""
    start, end = '<table:table-cell table:style-name="cell" office:value-type="string"><text:p>', "</text:p>"
    cells = "".join(
        "<table:table-row>"
        + "".join(f"{start}{escape(cell)}{end}</table:table-cell>" for cell in row)
        + "</table:table-row>"
        for row in rows
    )
    count = len(rows[0])
    return f'<table:table><table:table-column table:number-columns-repeated="{count}"/>{cells}</table:table>'


def numbered(stem: str, count: int) -> str:
    """Words that tell their order: ``stem001 stem002 …``, a sentence every ten words."""
    words = [f"{stem}{number:03d}" for number in range(1, count + 1)]
    return " ".join(f"{word}." if number % 10 == 0 else word for number, word in enumerate(words, 1))


def write(path: Path, *blocks: str, header: str = "") -> Path:
    """A document as flat ODF."""
    path.write_text(
        f'<?xml version="1.0" encoding="UTF-8"?><office:document {_NAMESPACES} office:version="1.3" '
        f'office:mimetype="application/vnd.oasis.opendocument.text">{_STYLES.format(header=escape(header))}'
        f"<office:body><office:text>{''.join(blocks)}</office:text></office:body></office:document>",
        encoding="utf-8",
    )
    return path


def convert(source: Path, kind: str, folder: Path) -> Path:
    """What LibreOffice makes of a document: ``pdf``, ``docx`` or ``html``, also with a filter behind a colon.

    Raises:
        RuntimeError: it made nothing; carries what it said.
    """
    if PROGRAM is None:
        raise RuntimeError("there is no LibreOffice")
    profile = (folder / ".profile").resolve().as_uri()  # its own, or a second one running at a time stops
    done = subprocess.run(
        [
            *(PROGRAM, "--headless", f"-env:UserInstallation={profile}"),
            *("--convert-to", kind, "--outdir", str(folder), str(source)),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    result = folder / f"{source.stem}.{kind.split(':')[0]}"
    if not result.is_file():
        raise RuntimeError(f"LibreOffice made no {result}: {done.stdout} {done.stderr}")
    return result
