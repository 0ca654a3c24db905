"""Documents become text without a network: a picture of words by OCR, whose models are here, and a page."""

import tempfile
from pathlib import Path

from _common import Failed, main, require

WORDS = "Seventeen herons crossed the river"
PAGE = f"<html><body><h1>Birds</h1><p>{WORDS}.</p><p>They were seen by three people.</p></body></html>"


def picture(path: Path) -> None:
    """A PDF of one picture, as a scanner makes it."""
    from PIL import Image, ImageDraw, ImageFont

    page = Image.new("RGB", (1200, 400), "white")
    ImageDraw.Draw(page).text((80, 150), WORDS, fill="black", font=ImageFont.load_default(size=56))
    page.save(path, resolution=200)


def check() -> str:
    """Render, read, compare; then HTML to Markdown, and chunks of it."""
    import pypdfium2
    import trafilatura
    from rapidocr import RapidOCR
    from semantic_text_splitter import MarkdownSplitter

    with tempfile.TemporaryDirectory() as temporary:
        picture(Path(temporary) / "scan.pdf")
        document = pypdfium2.PdfDocument(Path(temporary) / "scan.pdf")
        pixels = document[0].render(scale=200 / 72).to_numpy()
    found = RapidOCR(params={"Global.log_level": "error"})(pixels)
    read = "".join(found.txts or ()).replace(" ", "").lower()
    if read != WORDS.replace(" ", "").lower():
        raise Failed(f"OCR read {read!r} where {WORDS!r} stands")
    text = trafilatura.extract(PAGE, output_format="markdown") or ""
    if WORDS not in "".join(MarkdownSplitter(1000).chunks(text)):
        raise Failed(f"the page became {text!r}")
    for name in ("pdfplumber", "mammoth", "markdownify"):
        require(name)
    return f"rapidocr {require('rapidocr')} read a picture, pypdfium2 {require('pypdfium2')} drew it"


main(check)
