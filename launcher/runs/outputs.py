"""What a run has made, as a repetition must make it again: digests of the files of its result."""

from collections.abc import Iterator
from pathlib import Path

from launcher import paths

#: A trainer's arguments hold paths and the time.
_NOT_WEIGHTS = ("training_args.bin",)

_WEIGHTS = (".safetensors", ".bin", ".pt")


def digests(output: Path, *, trained: bool) -> dict[str, str]:
    """sha256 of each file at the top of a result, by name.

    Args:
        trained: only the weights: what stands beside them is their description. Of a tool every file counts.
    """
    return {file.name: paths.sha256(file) for file in _files(output, trained=trained)}


def _files(output: Path, *, trained: bool) -> Iterator[Path]:
    for file in sorted(output.iterdir()) if output.is_dir() else ():
        kept = file.suffix in _WEIGHTS and file.name not in _NOT_WEIGHTS
        if file.is_file() and not file.name.startswith(".") and (kept or not trained):
            yield file
