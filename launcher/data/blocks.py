"""Bytes of a file as blocks of whole lines, so that several processes can share it."""

from collections.abc import Iterator
from typing import BinaryIO

#: A line may be this long; beyond it one row would take gigabytes in every process.
LONGEST = 64 << 20

#: What is said of a longer one.
TOO_LONG = f"a line of more than {LONGEST >> 20} MiB"

#: Small enough for the processor's cache: a block is decoded right after it was read.
BLOCK = 1 << 17


def blocks(stream: BinaryIO, start: int, end: int) -> Iterator[bytes | None]:
    """All lines that begin at ``start`` or later and before ``end``, some of them at a time.

    Args:
        stream: can be sought; a line that begins before ``end`` is read to its own end.

    Yields:
        Whole lines (the last one perhaps without its newline); None for a line beyond :data:`LONGEST`.
    """
    if start:
        stream.seek(start - 1)  # the byte before: a newline there makes ``start`` the beginning of a line
        start += _skip(stream) - 1
    rest, size = b"", BLOCK
    while start < end:
        piece = stream.read(min(size, LONGEST + 1 - len(rest)))  # so that no line in it is too long
        block = rest + piece
        if not piece:
            if block:
                yield block
            return
        cut = block.rfind(b"\n") + 1
        if not cut:
            rest, size = block, size * 2
            if len(rest) > LONGEST:
                yield None
                start += len(rest) + _skip(stream)
                rest, size = b"", BLOCK
            continue
        if start + cut > end:
            yield block[: block.find(b"\n", max(0, end - start - 1)) + 1]
            return
        yield block[:cut]
        start += cut
        rest, size = block[cut:], BLOCK


def _skip(stream: BinaryIO) -> int:
    """Read to the end of the line; how many bytes that were."""
    skipped = 0
    while piece := stream.readline(BLOCK):
        skipped += len(piece)
        if piece.endswith(b"\n"):
            break
    return skipped
