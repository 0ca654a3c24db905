"""Pages a second of each way to read a document, in processor time of one core, beside the fastest.

Run by the embedded environment's Python, with LibreOffice on the machine (tests/support/documents.sh):

    PYTHONPATH=recipes "$ENV/bin/python" tests/bench/documents/speed.py
"""

import functools
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.append(str(Path(__file__).resolve().parents[2] / "support"))

import office
from documents import pdf, textual

PAGES = 8


def make(folder: Path) -> Path:
    """Pages full of text, half of them in two columns, with a table on each."""
    text = [office.paragraph(office.numbered("considerable", 90)) for _ in range(4)]
    table = office.table([["one", "two", "three"]] * 6)
    pages = [
        office.paragraph("", new_page=bool(number))
        + office.heading(f"Page {number}", 2)
        + (office.columns(*text) if number % 2 else "".join(text))
        + table
        for number in range(PAGES)
    ]
    source = office.write(folder / "pages.fodt", *pages)
    for kind in ("pdf", "docx", "html"):
        office.convert(source, kind, folder)
    return folder


def scanned(folder: Path, pages: int) -> Path:
    """The first pages as pictures."""
    import pypdfium2

    document = pypdfium2.PdfDocument(folder / "pages.pdf")
    images = [document[n].render(scale=200 / 72).to_pil().convert("RGB") for n in range(pages)]
    images[0].save(folder / "scan.pdf", save_all=True, append_images=images[1:], resolution=200)
    return folder / "scan.pdf"


def rate(read: Callable[[], object], pages: int) -> float:
    """Pages a second, the best of three, after one that loads libraries and models."""
    read()
    best = 0.0
    for _ in range(3):
        started = time.process_time()
        read()
        best = max(best, pages / (time.process_time() - started))
    return best


def main() -> None:
    """Print a table."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = make(Path(temporary))
        pages = pdf.plain(folder / "pages.pdf").pages
        scan = scanned(folder, 2)
        ways: dict[str, tuple[Callable[[], object], int]] = {
            "PDF, pypdfium2": (functools.partial(pdf.plain, folder / "pages.pdf"), pages),
            "PDF, pdfplumber": (functools.partial(pdf.laid_out, folder / "pages.pdf", ocr="auto"), pages),
            "PDF, scan by OCR": (functools.partial(pdf.laid_out, scan, ocr="auto"), 2),
            "DOCX": (functools.partial(textual.docx, folder / "pages.docx"), pages),
            "HTML": (functools.partial(textual.html, folder / "pages.html"), pages),
        }
        found = {name: rate(*way) for name, way in ways.items()}
        characters = len(pdf.plain(folder / "pages.pdf").markdown) // pages
    print(f"{pages} pages, {characters} characters each")
    for name, speed in found.items():
        print(f"{name:18} {speed:9.2f} pages/s  {max(found.values()) / speed:8.1f} x the time of the fastest")


if __name__ == "__main__":
    main()
