"""What a training goes on from when the site's scheduler has started it again (``LAUNCH_RESTARTS``).

The rules are those of launcher/runs/checkpoints.py, which decides where there is a launcher to ask: the
newest checkpoint whose ``complete.json`` names every file with its size and sum; what is newer and not whole
is moved aside, so that the trainer does not mix it with its own. One set of cases tests both. Standard
library only: a restart on one node imports no torch for it.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

SCHEMA = 1

_MARKER = "complete.json"
_NAME = re.compile(r"checkpoint-(\d+)")


def last_complete(output: Path) -> tuple[Path | None, list[tuple[Path, str]]]:
    """The newest whole checkpoint, and the newer ones that are not, each with its first problem."""
    folders = [
        (int(match[1]), folder)
        for folder in (output.iterdir() if output.is_dir() else ())
        if (match := _NAME.fullmatch(folder.name)) and folder.is_dir()
    ]
    broken: list[tuple[Path, str]] = []
    for _, folder in sorted(folders, reverse=True):
        problem = next(problems(folder), "")
        if not problem:
            return folder, broken
        broken.append((folder, problem))
    return None, broken


def problems(folder: Path) -> Iterator[str]:
    """What is wrong with a checkpoint; nothing: it is complete."""
    marker = folder / _MARKER
    if not marker.is_file():
        yield "it was still being written"
        return
    try:
        raw = json.loads(marker.read_bytes())
        if raw["schema"] != SCHEMA:
            yield f"{_MARKER} has the version {raw['schema']}, this runtime reads {SCHEMA}"
            return
        expected = {name: (int(said["size"]), str(said["sha256"])) for name, said in raw["files"].items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        yield f"{_MARKER} is damaged"
        return
    for name, (size, sha256) in sorted(expected.items()):
        file = folder / name
        if not file.is_file():
            yield f"{name} is missing"
        elif file.stat().st_size != size:
            yield f"{name} has {file.stat().st_size} bytes and should have {size}"
        else:
            with file.open("rb") as stream:
                if hashlib.file_digest(stream, "sha256").hexdigest() != sha256:
                    yield f"{name} is damaged: its sha256 is another"


def take(output: Path) -> tuple[str, list[str]]:
    """Move what is not whole aside; the name of the checkpoint to go on from, and what is to be said.

    Of one output one process does this, and only while nobody trains into it.

    Returns:
        The name, empty when there is none, and one line for each folder that was moved.
    """
    found, broken = last_complete(output)
    said = [
        f"{folder.name} is not complete ({problem}): moved to {_set_aside(folder).name}"
        for folder, problem in broken
    ]
    return "" if found is None else found.name, said


def _set_aside(folder: Path) -> Path:
    number = 1
    while (kept := folder.with_name(f"incomplete-{number}-{folder.name}")).exists():
        number += 1
    return folder.rename(kept)
