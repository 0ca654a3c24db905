"""Which files are documents, and how each kind becomes text."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from documents import pdf, textual
from documents.pdf import Document, RefusedError

#: Ending -> kind, as the launcher has it (launcher/data/documents.py).
KINDS = {
    ".pdf": "pdf",
    ".docx": "docx",
    ".html": "html",
    ".htm": "html",
    ".md": "markdown",
    ".markdown": "markdown",
    ".txt": "text",
}


_LONGEST = 200  # bytes of a name


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file that was given.

    Attributes:
        name: how it is called in rows and reports: its path below the folder that was given.
        kind: empty: none that is read.
    """

    path: Path
    name: str
    kind: str


def find(given: Iterable[Path]) -> list[Source]:
    """All files of files and folders, in the order of their names; of one name the first keeps it.

    A folder that cannot be opened is among them, to be named. Hidden ones, and what office programs leave
    beside an open document (``~$…``), are passed over.

    Raises:
        FileNotFoundError: a path does not exist.
    """
    found: list[Source] = []
    for path in given:
        if path.is_dir():
            found += _below(path)
        elif path.exists():
            found.append(_source(path, path.name))
        else:
            raise FileNotFoundError(f"{path}: does not exist")
    names_: dict[str, int] = {}
    unique: list[Source] = []
    for each in found:
        names_[each.name] = count = names_.get(each.name, 0) + 1
        name = each.name if count == 1 else f"{each.name} ({count})"
        unique.append(Source(path=each.path, name=name, kind=each.kind))
    return unique


def _below(top: Path) -> list[Source]:
    closed: list[Source] = []

    def keep(error: OSError) -> None:
        closed.append(_source(Path(error.filename), os.path.relpath(error.filename, top)))

    found = []
    for folder, folders, names in os.walk(top, onerror=keep):
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        files = [Path(folder) / name for name in sorted(names) if not name.startswith((".", "~$"))]
        found += [_source(file, str(file.relative_to(top))) for file in files]
    return found + closed


def _source(path: Path, name: str) -> Source:
    # A name in another encoding is no text: rows and reports are UTF-8.
    shown = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return Source(path=path, name=shown, kind=KINDS.get(path.suffix.lower(), ""))


def file_name(name: str) -> str:
    """A document's name as one of a file that is made for it: 200 bytes of each part at most.

    A system takes 255, of which an ending and a temporary name need some; characters that stand for
    undecodable bytes have made a name longer.
    """
    parts = []
    for part in name.split("/"):
        content = part.encode()
        if len(content) > _LONGEST:
            mark = hashlib.blake2b(content, digest_size=4).hexdigest()
            part = f"{content[: _LONGEST - 9].decode(errors='ignore')}~{mark}"
        parts.append(part)
    return "/".join(parts)


def read(source: Source, *, extractor: str, ocr: str) -> Document:
    """The text of a file.

    Raises:
        RefusedError: it has none that can be had; anything else is a fault of a library.
    """
    if source.path.is_dir():
        raise RefusedError("a folder that cannot be opened")
    if not source.kind:
        raise RefusedError(f"not supported: read are {', '.join(KINDS)}")
    if not source.path.is_file():
        raise RefusedError("no regular file, or a link to nothing")
    if not source.path.stat().st_size:
        raise RefusedError("empty: no bytes")
    if source.kind == "pdf":
        return pdf.plain(source.path) if extractor == "pypdfium2" else pdf.laid_out(source.path, ocr=ocr)
    readers = {"docx": textual.docx, "html": textual.html}
    return readers.get(source.kind, textual.text)(source.path)


def digest(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
