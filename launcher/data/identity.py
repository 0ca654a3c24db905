"""Files of a data set as they are, not judged: what a record needs to know them again."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from launcher.data import files as names
from launcher.data.model import DataFile, Findings, Rules
from launcher.errors import DataError
from launcher.progress import Progress, Silent

_PIECE = 1 << 20


def identify(
    given: Sequence[Path], rules: Rules, *, progress: Progress | None = None
) -> tuple[DataFile, ...]:
    """Hash, size and number of lines that are not blank.

    Args:
        given: files, or folders of them, as for :func:`launcher.data.check`.
        rules: their format says which files of a folder belong to it.

    Raises:
        DataError: a path that is not there, or cannot be read.
    """
    findings = Findings(1)
    paths = names.expand(tuple(given), rules, findings, for_run=True)
    problems = [str(finding) for group in findings.groups.values() for finding in group.shown]
    found = hashed(paths, _read, problems, progress or Silent())
    if problems:
        raise DataError("the data cannot be read", problems)
    return found


def hashed(
    paths: Sequence[Path],
    read: Callable[[Path, Progress], DataFile],
    problems: list[str],
    progress: Progress,
) -> tuple[DataFile, ...]:
    """Files, each as ``read`` finds it, which says how far it is; those that cannot be read are problems."""
    found = []
    progress.start(
        "hashing", total=sum(path.stat().st_size for path in paths if path.is_file()), unit="bytes"
    )
    for path in paths:
        try:
            found.append(read(path, progress))
        except OSError as error:
            problems.append(f"{path}: cannot be read: {error.strerror or error}")
    progress.finish("hashing")
    return tuple(found)


def _read(path: Path, progress: Progress) -> DataFile:
    digest, size, rows = hashlib.sha256(), 0, 0
    with path.open("rb") as stream:
        while lines := stream.readlines(_PIECE):
            piece = b"".join(lines)
            digest.update(piece)
            size += len(piece)
            rows += sum(not line.isspace() for line in lines)
            progress.advance("hashing", len(piece))
    table = names.kind_of(path) == "table"
    return DataFile(path=path, sha256=digest.hexdigest(), size=size, rows=max(0, rows - table))
