"""Files that cannot be read from the middle: compressed ones, JSON arrays, parquet. As blocks of lines."""

import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec

from launcher.data.blocks import LONGEST, blocks
from launcher.data.files import PACKED, PARQUET
from launcher.errors import DataError, UsageError

#: Bytes of lines that are handed on at a time.
SHARE = 8 << 20

_PIECE = 1 << 20
_RECORDS = re.compile(rb"\[\s*[\[{\]]")


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A file's bytes, decompressed by its ending.

    Raises:
        UsageError: a library is missing that reads it.
        DataError: while reading: the file is damaged.
    """
    with path.open("rb") as raw:
        if path.suffix == ".gz":
            stream: BinaryIO = cast("BinaryIO", gzip.GzipFile(fileobj=raw))
        elif path.suffix == ".zst":
            stream = _zstandard(raw)
        else:
            stream = raw
        try:
            yield stream
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise damaged(path, error) from None
        except Exception as error:
            if type(error).__module__.partition(".")[0] in ("zstandard", "pyarrow", "compression"):
                raise damaged(path, error) from None
            raise


def damaged(path: Path, error: BaseException) -> DataError:
    """The error for a file that ends in the middle, or is not what its name says."""
    return DataError(f"{path} cannot be read to its end", [str(error) or "it ends too early"])


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """An OSError in here is about reading this file, and not about what is written meanwhile.

    Raises:
        DataError: instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise DataError(f"{path} cannot be read", [error.strerror or str(error)]) from None


def shares(path: Path) -> Iterator[bytes | None]:
    """The lines of a file, :data:`SHARE` bytes or a little more at a time; None for a line that is too long.

    Parquet and arrays have one record per line.
    """
    held: list[bytes] = []
    size = 0
    for lines in pieces(path):
        if lines is not None:
            held.append(lines)
            size += len(lines)
        if held and (lines is None or size >= SHARE):
            yield b"".join(held)
            held, size = [], 0
        if lines is None:
            yield None
    if held:
        yield b"".join(held)


def pieces(path: Path) -> Iterator[bytes | None]:
    """The lines of a file as they come, one or some at a time; see :func:`shares`."""
    if path.suffix == PARQUET:
        yield from (msgspec.json.encode(row) + b"\n" for row in records_of_parquet(path))
        return
    with opened(path) as stream:
        if is_array(path):
            yield from elements(stream, path)
        else:
            yield from blocks(stream, 0, 1 << 62)  # it has no known end


def is_array(path: Path) -> bool:
    """Whether a file holds one JSON array of records, and not lines of which each is an array."""
    with opened(path) as stream:
        start = stream.read(_PIECE).removeprefix(b"\xef\xbb\xbf").lstrip()
    if not _RECORDS.match(start):
        return False
    line, _, more = start.partition(b"\n")
    if not more.strip():
        return True
    try:
        json.loads(line)
    except (ValueError, RecursionError):  # it goes on in the next line
        return True
    return False


def elements(stream: BinaryIO, path: Path) -> Iterator[bytes]:
    """The elements of a JSON array, each as one line, without holding the array.

    Raises:
        DataError: it is no array, or ends in the middle.
    """
    decoder, number = json.JSONDecoder(), 0
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    held, at, want = text.read(_PIECE), 0, _PIECE
    while held and not held.strip():
        held = text.read(_PIECE)
    held = held.lstrip().removeprefix("[")
    while True:
        at = _after_space(held, at)
        if held[at : at + 1] == "]":
            _refuse_more(path, held[at + 1 :], text)
            text.detach()
            return
        try:
            end = decoder.raw_decode(held, at)[1]
            following = _after_space(held, end)
            if held[following : following + 1] not in (",", "]"):  # "12" may go on as "123" or "12.5"
                raise ValueError("no comma after it")
        except (ValueError, RecursionError) as error:
            more = text.read(want)
            if not more or len(held) - at > LONGEST:
                raise damaged(path, ValueError(f"element {number + 1}: {error}")) from None
            held, at, want = held[at:] + more, 0, min(want * 2, LONGEST)
            continue
        number += 1
        line = held[at:end].replace("\n", " ").replace("\r", " ")
        yield line.encode(errors="surrogateescape") + b"\n"
        at, want = following + (held[following] == ","), _PIECE


def _refuse_more(path: Path, held: str, text: io.TextIOWrapper) -> None:
    """What stands behind an array would be lost without a word."""
    while held:
        if held.strip():
            raise damaged(path, ValueError(f"something follows the array: {held.strip()[:30]!r}"))
        held = text.read(_PIECE)


def records_of_parquet(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a parquet file, a batch at a time.

    Raises:
        UsageError: pyarrow is not installed.
        DataError: the file is damaged.
    """
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise _missing("pyarrow", "parquet files") from None
    try:
        with parquet.ParquetFile(path, memory_map=False) as file:
            for batch in file.iter_batches(batch_size=1024):
                yield from batch.to_pylist()
    except (ArrowException, OSError) as error:
        raise damaged(path, error) from None


def _after_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def _zstandard(raw: BinaryIO) -> BinaryIO:
    try:
        import zstandard
    except ImportError:
        raise _missing("zstandard", f"{PACKED[1]} files") from None
    return cast("BinaryIO", io.BufferedReader(_Frames(raw, zstandard.ZstdDecompressor()), _PIECE))


class _Frames(io.RawIOBase):
    """Zstandard's frames, decompressed; unlike the library's own reader it notices an end in the middle."""

    def __init__(self, raw: BinaryIO, decompressor: Any) -> None:
        self._raw, self._decompressor = raw, decompressor
        self._frame: Any = None
        self._held = b""

    def readable(self) -> bool:
        """It is read, and nothing else."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, as far as there is something.

        Raises:
            EOFError: the file ends within a frame.
        """
        unread = b""
        while not self._held:
            data = unread or self._raw.read(1 << 17)
            if not data:
                if self._frame is not None:
                    raise EOFError("it ends too early")
                return 0
            if self._frame is None:
                self._frame = self._decompressor.decompressobj()
            self._held = self._frame.decompress(data)
            unread = self._frame.unused_data
            if self._frame.eof:
                self._raw.seek(-len(unread), 1)
                self._frame, unread = None, b""
        given = self._held[: len(buffer)]
        buffer[: len(given)] = given
        self._held = self._held[len(given) :]
        return len(given)


def _missing(package: str, what: str) -> UsageError:
    return UsageError(
        f"{what} need the package {package}",
        why="few people need it, so it does not come with the launcher",
        hint=f'pip install {package}, or "finetune-launch[data]" for all that the data commands can use',
    )
