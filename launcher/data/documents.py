"""Documents of a run: which files they are, and their hashes; what is in them the recipe judges."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from launcher.data.identity import hashed
from launcher.data.model import DataFile
from launcher.errors import DataError
from launcher.progress import Progress, Silent

#: The data format of recipes that read documents; it has no rows to check.
DOCUMENTS = "documents"

#: Endings that are read, as recipes/documents/sources.py has them.
ENDINGS = (".pdf", ".docx", ".html", ".htm", ".md", ".markdown", ".txt")

#: Replies of an endpoint that an earlier run paid for: beside documents, by its own name, not out of folders.
ANSWERS = "answers.jsonl"

_PIECE = 1 << 20
_SHOWN = 20


def find(given: Sequence[Path], *, progress: Progress | None = None) -> tuple[DataFile, ...]:
    """The documents of files and folders, in a stable order, with hash and size; rows are 0.

    Folders are searched to the bottom; hidden files and other endings are passed over (the recipe names the
    latter in its report). A broken file is a file like any other.

    Raises:
        DataError: a path that is not there, cannot be read, has a colon or another ending; a folder without
            documents; a link out of a folder, which no container can follow.
    """
    problems: list[str] = []
    paths = list(dict.fromkeys(path for each in given for path in _expand(each, problems)))
    found = hashed(paths, _read, problems, progress or Silent())
    if problems:
        more = [f"… and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        raise DataError(
            "the documents cannot be read",
            [*problems[:_SHOWN], *more],
            hint=f"files and folders of {', '.join(ENDINGS)}",
        )
    return found


def _expand(given: Path, problems: list[str]) -> Iterator[Path]:
    if ":" in str(given.absolute()):
        problems.append(f"{given}: a colon separates paths, rename the file or folder")
    elif given.is_dir():
        count = 0
        for path in _inside(given, problems):
            count += 1
            if given.resolve() not in path.resolve().parents:
                problems.append(
                    f"{path}: a link out of the folder, which no container can follow; name the file"
                )
            elif path.is_file():
                yield path
            else:
                problems.append(f"{path}: no regular file")
        if not count:
            problems.append(f"{given}: no document in this folder")
    elif not given.is_file():
        problems.append(f"{given}: {'no regular file' if given.exists() else 'does not exist'}")
    elif given.suffix.lower() not in ENDINGS and given.name != ANSWERS:
        problems.append(f"{given}: not a document that is read")
    else:
        yield given


def _inside(folder: Path, problems: list[str]) -> Iterator[Path]:
    def closed(error: OSError) -> None:
        problems.append(f"{error.filename}: cannot be read: {error.strerror or error}")

    for place, folders, names in os.walk(folder, onerror=closed):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith((".", "~$")) and Path(name).suffix.lower() in ENDINGS:
                yield Path(place) / name


def _read(path: Path, progress: Progress) -> DataFile:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as stream:
        while piece := stream.read(_PIECE):
            digest.update(piece)
            size += len(piece)
            progress.advance("hashing", len(piece))
    return DataFile(path=path, sha256=digest.hexdigest(), size=size, rows=0)
