"""New files and folders: there whole or not at all, and never over something that is there."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from launcher.errors import OutputError
from launcher.paths import sync_folder


def refuse_existing(path: Path) -> None:
    """Refuse a place that holds something.

    Raises:
        OutputError: a file, or a folder that is not empty.
    """
    if path.is_dir() and not any(path.iterdir()):
        return
    if path.exists() or path.is_symlink():
        raise OutputError(f"{path} is there already", why="nothing is overwritten", hint="give another name")


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file that appears under its name when all of it is on the disk.

    Raises:
        OutputError: something of that name is there, before or by then.
    """
    refuse_existing(path)
    if path.is_dir():
        raise OutputError(f"{path} is a folder", hint="name a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb", buffering=1 << 20) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).chmod(0o644)
        try:
            _place(name, path)
        except FileExistsError:
            refuse_existing(path)
            raise
    finally:
        Path(name).unlink(missing_ok=True)
    sync_folder(path.parent)


def _place(name: str, path: Path) -> None:
    """Give a finished file its name, which nothing has.

    Raises:
        FileExistsError: something has it by now.
    """
    try:
        os.link(name, path)  # unlike a rename it does not replace
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: exFAT, some network shares
        path.touch(exist_ok=False)
        Path(name).replace(path)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder that appears under its name when all of its files are written.

    Raises:
        OutputError: something of that name is there, before or by then.
    """
    refuse_existing(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield made
        made.chmod(0o755)
        try:
            made.rename(path)  # over an empty folder, never over a full one
        except OSError:
            refuse_existing(path)
            raise
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    sync_folder(path.parent)
