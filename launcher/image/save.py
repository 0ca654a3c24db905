"""An image from the engine into a file: streamed, checked, and in its place only when it is whole."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

from launcher import paths
from launcher.errors import CheckError, EngineError, OutputError
from launcher.image import saved
from launcher.image.inspect import ImageInfo
from launcher.image.saved import FileImage
from launcher.progress import Progress

if TYPE_CHECKING:
    from docker import DockerClient

_CHUNK = 1 << 20  # bytes


def require_free(path: Path) -> None:
    """Refuse a place that holds something, before an engine is asked.

    Raises:
        OutputError: the file or its checksum is there, or its folder is not.
    """
    for file in (path, saved.checksum_file(path)):
        if file.exists() or file.is_symlink():
            raise OutputError(
                f"{file} is there already", why="nothing is overwritten", hint="give another name, or move it"
            )
    if not path.parent.is_dir():
        raise OutputError(f"{path.parent} is no folder", hint=f"mkdir -p {path.parent}")


def save(client: "DockerClient", image: ImageInfo, path: Path, *, progress: Progress) -> FileImage:
    """Write an image to a file, and its sha256 beside it; on failure neither is left.

    The checksum comes first: who sees the file finds it whole, and can tell.

    Raises:
        CheckError: what the engine wrote is not the image that it has.
        EngineError: the engine failed, or was lost.
        OutputError: the place is taken, or the disk too small.
        OSError: it cannot be written.
    """
    from docker.errors import APIError
    from requests.exceptions import RequestException

    require_free(path)
    task = f"saving {image.reference}"
    try:
        size = int(client.images.get(image.id).attrs.get("Size", 0))
        _require_room(path, size)
        progress.start(task, total=size or None, unit="bytes")
        with _beside(path) as (temporary, stream):
            digest = hashlib.sha256()
            for piece in client.api.get_image(image.reference, chunk_size=_CHUNK):
                stream.write(piece)
                digest.update(piece)
                progress.advance(task, len(piece))
            stream.flush()
            os.fsync(stream.fileno())
            progress.finish(task)
            found = saved.examine(temporary, progress=progress)
            if found.sha256 != digest.hexdigest() or image.id not in found.digests:
                raise CheckError(
                    f"the engine wrote another image than {image.reference}",
                    [f"{image.id} was asked for; {', '.join(sorted(found.digests))} is in the file"],
                    hint="repeat the command; a disk that does not keep what is written shows in dmesg",
                )
            _publish(temporary, path, found.sha256)
    except APIError as error:
        raise EngineError(
            f"the engine cannot save {image.reference}", why=str(error.explanation or error)
        ) from None
    except RequestException as error:  # an OSError, which callers would take for one of the disk's
        raise EngineError(
            f"the engine was lost while it saved {image.reference}",
            why=str(error),
            hint="see what `docker version` says, and repeat the command",
        ) from None
    return replace(found, path=path)


def _require_room(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise OutputError(
            f"{path.parent} has {free / 1e9:.1f} GB free, the image takes {needed / 1e9:.1f} GB",
            hint="make room, or give a file on another disk",
        )


@contextmanager
def _beside(path: Path) -> Iterator[tuple[Path, IO[bytes]]]:
    """A temporary file in the same folder; it is gone afterwards."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            yield Path(name), stream
    finally:
        Path(name).unlink(missing_ok=True)


def _publish(temporary: Path, path: Path, sha256: str) -> None:
    """Give the file its name, which nothing may have taken meanwhile."""
    temporary.chmod(0o644)
    beside = saved.checksum_file(path)
    paths.write_atomic(beside, saved.checksum_line(path, sha256))
    try:
        place(temporary, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    paths.sync_folder(path.parent)


def place(temporary: Path, path: Path) -> None:
    """Give a finished file its name unless that is taken; the temporary name may stay.

    Raises:
        OutputError: something has the name.
    """
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise OutputError(f"{path} has come into being meanwhile", why="nothing is overwritten") from None
    except OSError:  # a file system without hard links
        if path.exists():
            raise OutputError(f"{path} has come into being meanwhile", why="nothing is overwritten") from None
        temporary.rename(path)
