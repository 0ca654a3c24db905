"""One file for many, the same bytes for the same content, and back again without trusting it. Pure."""

import gzip
import io
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import PurePosixPath

from launcher.errors import RecordError

#: What a file of a run may hold: a record with its metrics, recipes, locks. No weights, no rows.
MOST_BYTES = 256 << 20
MOST_FILES = 10_000

_BLOCK = 1 << 20


def pack(files: Mapping[str, bytes]) -> bytes:
    """A .tar.gz of files by their names: sorted, without times and owners."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(files):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(files[name]), 0o644
            archive.addfile(member, io.BytesIO(files[name]))
    return gzip.compress(plain.getvalue(), compresslevel=9, mtime=0)


def unpack(packed: bytes, source: str) -> dict[str, bytes]:
    """The files of a .tar.gz, in memory.

    Raises:
        RecordError: not one, or one with anything but plain files below its own top, or too large.
    """
    try:
        plain = _decompressed(packed, source)
        with tarfile.open(fileobj=io.BytesIO(plain), mode="r:") as archive:
            return _files(archive, source)
    except (tarfile.TarError, zlib.error, EOFError, ValueError) as error:
        raise RecordError(
            f"{source} is not a run in one file, or is damaged",
            why=str(error),
            hint="launch runs export RUN makes one",
        ) from None


def _decompressed(packed: bytes, source: str) -> bytes:
    """At most :data:`MOST_BYTES`: a few kilobytes can hold gigabytes."""
    plain = io.BytesIO()
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as stream:
            while block := stream.read(_BLOCK):
                plain.write(block)
                if plain.tell() > MOST_BYTES:
                    raise _refused(source, f"it holds more than {MOST_BYTES >> 20} MiB")
    except gzip.BadGzipFile as error:
        raise tarfile.ReadError(str(error)) from None
    return plain.getvalue()


def _files(archive: tarfile.TarFile, source: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    total = 0
    for member in archive:
        name = PurePosixPath(member.name)
        if len(found) >= MOST_FILES:
            raise _refused(source, f"it holds more than {MOST_FILES} files")
        if not member.isreg() or member.issparse():  # a sparse one says any size, and has no bytes for it
            raise _refused(source, f"{member.name!r} is no plain file")
        total += member.size
        if total > MOST_BYTES:
            raise _refused(source, f"it holds more than {MOST_BYTES >> 20} MiB")
        if name.is_absolute() or ".." in name.parts or not name.parts or "\\" in member.name:
            raise _refused(source, f"{member.name!r} would lie elsewhere")
        stream = archive.extractfile(member)
        if str(name) in found or stream is None:
            raise _refused(source, f"{member.name!r} is in it twice")
        found[str(name)] = stream.read()
    names = set(found)
    if any(str(parent) in names for name in names for parent in PurePosixPath(name).parents):
        raise _refused(source, "a file is also a folder in it")
    return found


def _refused(source: str, why: str) -> RecordError:
    return RecordError(f"{source} is not unpacked", why=why, hint="launch runs export RUN makes another one")
