"""Checkpoints in an output folder: which of them a training can go on from.

The runtime writes ``complete.json`` into a checkpoint last, when every process has written its part and all
of it is on the disk (recipes/runtime/checkpoints.py). Without it, or with other files than it names, a
checkpoint is what was left when something broke.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher import paths

SCHEMA = 1

_MARKER = "complete.json"
_NAME = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """One checkpoint.

    Attributes:
        folder: ``checkpoint-<step>``.
        problems: why it is not complete; empty: it is.
    """

    folder: Path
    step: int
    problems: tuple[str, ...] = ()


def last_complete(output: Path) -> tuple[Checkpoint | None, tuple[Checkpoint, ...]]:
    """The newest checkpoint that is whole, and the newer ones that are not, with their problems.

    Every byte of a candidate is read: a training goes on silently from weights that were damaged.
    """
    broken: list[Checkpoint] = []
    for step, folder in sorted(_folders(output), reverse=True):
        found = Checkpoint(folder=folder, step=step, problems=tuple(problems(folder)))
        if not found.problems:
            return found, tuple(broken)
        broken.append(found)
    return None, tuple(broken)


def closed(output: Path) -> Iterator[Path]:
    """Folders of checkpoints that were written to their end, the newest first; their bytes are not read."""
    for _, folder in sorted(_folders(output), reverse=True):
        if (folder / _MARKER).is_file():
            yield folder


def _folders(output: Path) -> Iterator[tuple[int, Path]]:
    for folder in output.iterdir() if output.is_dir() else ():
        if (match := _NAME.fullmatch(folder.name)) and folder.is_dir():
            yield int(match[1]), folder


def problems(folder: Path) -> Iterator[str]:
    """What is wrong with a checkpoint; nothing: it is complete."""
    marker = folder / _MARKER
    if not marker.is_file():
        yield "it was still being written"
        return
    try:
        raw = json.loads(marker.read_bytes())
        files: dict[str, Any] = raw["files"]
        if raw["schema"] != SCHEMA:
            yield f"{_MARKER} has the version {raw['schema']}, this launcher reads {SCHEMA}"
            return
        expected = {name: (int(said["size"]), str(said["sha256"])) for name, said in files.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        yield f"{_MARKER} is damaged"
        return
    for name, (size, sha256) in sorted(expected.items()):
        file = folder / name
        if not file.is_file():
            yield f"{name} is missing"
        elif file.stat().st_size != size:
            yield f"{name} has {file.stat().st_size} bytes and should have {size}"
        elif paths.sha256(file) != sha256:
            yield f"{name} is damaged: its sha256 is another"


def set_aside(broken: Checkpoint) -> Path:
    """Move an incomplete checkpoint out of the trainer's way; nothing of it is lost."""
    number = 1
    while (kept := broken.folder.with_name(f"incomplete-{number}-{broken.folder.name}")).exists():
        number += 1
    return broken.folder.rename(kept)
