"""Records of any file that can be converted, one after the other: the value, and where it was."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from launcher.data import streams
from launcher.data.files import LINES, PACKED, PARQUET
from launcher.data.rows import BLANK
from launcher.errors import DataError

TABLES = {".csv": ",", ".tsv": "\t"}

#: A field of a table may be this long; Python's own limit is 128 KiB.
_FIELD = 64 << 20

#: Endings that can be converted, without those of compression.
ENDINGS = (*LINES, *TABLES, PARQUET)


def ending(path: Path) -> str:
    """The ending that says what is in a file, whatever it is compressed with."""
    return Path(path.stem).suffix if path.suffix in PACKED else path.suffix


def records(path: Path) -> Iterator[tuple[int, Any]]:
    """Line (of parquet and arrays: number) and value of each record; the value is None for a broken one.

    Raises:
        DataError: the file cannot be read, or its ending is none of :data:`ENDINGS`.
        UsageError: a library is missing.
    """
    with streams.reading(path):
        yield from _records(path, ending(path))


def _records(path: Path, kind: str) -> Iterator[tuple[int, Any]]:
    if kind in TABLES:
        yield from _of_table(path, TABLES[kind])
    elif kind == PARQUET:
        yield from enumerate(streams.records_of_parquet(path), start=1)
    elif kind in LINES:
        number = 0
        for share in streams.shares(path):
            for line in [None] if share is None else share.removesuffix(b"\n").split(b"\n"):
                number += 1
                if line is None:
                    yield number, None
                elif line.removeprefix(b"\xef\xbb\xbf").strip(BLANK):
                    yield number, _value(line)
    else:
        raise DataError(
            f"{path} cannot be converted", [f"endings: {', '.join(ENDINGS)}, also with .gz, .zst"]
        )


def first(path: Path) -> dict[str, Any]:
    """The first record of a file; empty when there is none that can be read, or it is no object."""
    try:
        for piece in streams.pieces(path):
            for line in (b"null",) if piece is None else piece.split(b"\n"):
                if line.removeprefix(b"\xef\xbb\xbf").strip(BLANK):
                    value = _value(line)
                    return value if isinstance(value, dict) else {}
    except (OSError, DataError):  # the check has said so
        pass
    return {}


def _value(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None


def _of_table(path: Path, separator: str) -> Iterator[tuple[int, Any]]:
    csv.field_size_limit(_FIELD)
    with streams.opened(path) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
        reader = csv.DictReader(text, delimiter=separator, strict=True)
        try:
            for row in reader:
                # A field too many is under None, one that is missing holds None.
                yield reader.line_num, None if None in row else {k: _value_of(v) for k, v in row.items()}
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(
                f"{path} is not a table",
                [f"line {reader.line_num}: {error}"],
                hint="UTF-8 with a header line",
            ) from None


def _value_of(text: str | None) -> Any:
    """A list that a table holds as text, ``["a", "b"]``; any other text as it is."""
    if text and text[0] == "[" and text[-1] == "]":
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    return text
