"""The chunks of all files, one after the other: duplicates out, documents divided, without holding them."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from documents.work import Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A part of a document.

    Attributes:
        document: number of its file.
        name: of that file.
        headings: above it, from the first level down.
    """

    document: int
    name: str
    headings: tuple[str, ...]
    text: str

    @property
    def heading(self) -> str:
        """The headings as one line, empty without any."""
        return " > ".join(self.headings)


@dataclass(slots=True)
class Store:
    """All chunks that stay, as lines of one file; in memory are 16 bytes of each, and where it begins.

    Attributes:
        places: document and byte offset of each chunk, documents in their order.
        repeated: chunks that an earlier one had word for word.
    """

    path: Path
    places: list[tuple[int, int]] = field(default_factory=list)
    repeated: int = 0

    @classmethod
    def gather(cls, folder: Path, results: Sequence[Result]) -> "Store":
        """Put the chunks of all files together, and count each file's anew."""
        store = cls(folder / "all.jsonl")
        seen: set[bytes] = set()
        offset = 0
        with store.path.open("wb") as out:
            for number, result in enumerate(results):
                if result.problem:
                    continue
                result.chunks = 0
                for row in _lines(folder / f"{number}.jsonl"):
                    digest = blake2b(" ".join(row["text"].split()).encode(), digest_size=16).digest()
                    if digest in seen:
                        store.repeated += 1
                        continue
                    seen.add(digest)
                    line = json.dumps({**row, "document": number, "name": result.name}, ensure_ascii=False)
                    store.places.append((number, offset))
                    offset += out.write(line.encode() + b"\n")
                    result.chunks += 1
                if not result.chunks:
                    result.problem = "all of it is in other files already"
        return store

    def chunks(self) -> Iterator[Chunk]:
        """All of them, in their order."""
        for row in _lines(self.path):
            yield _chunk(row)

    def at(self, numbers: Iterable[int]) -> list[Chunk]:
        """Some of them, by their position."""
        found = []
        with self.path.open("rb") as stream:
            for number in numbers:
                stream.seek(self.places[number][1])
                found.append(_chunk(json.loads(stream.readline())))
        return found

    def where(self, wanted: Callable[[int], bool]) -> list[int]:
        """Positions of the chunks whose document is wanted."""
        return [number for number, (document, _) in enumerate(self.places) if wanted(document)]


def _chunk(row: dict[str, Any]) -> Chunk:
    return Chunk(
        document=row["document"], name=row["name"], headings=tuple(row["headings"]), text=row["text"]
    )


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            yield json.loads(line)


def held_out(results: Sequence[Result], *, share: float, seed: int) -> frozenset[int]:
    """The documents for dev: about a share of the chunks, in an order that seed and content decide.

    Whole documents, so that no text of dev was trained on; at least one when there are two, never all.

    Args:
        share: from 0 (none) to below 1.
    """
    counts = {number: result.chunks for number, result in enumerate(results) if result.chunks}
    if share <= 0 or len(counts) < 2:
        return frozenset()

    def drawn(number: int) -> bytes:
        return blake2b(
            f"{seed} {results[number].sha256 or results[number].name}".encode(), digest_size=8
        ).digest()

    wanted = share * sum(counts.values())
    chosen: set[int] = set()
    total = 0
    for number in sorted(counts, key=drawn):
        better = abs(total + counts[number] - wanted) < abs(total - wanted)
        if len(chosen) < len(counts) - 1 and (better or not chosen):
            chosen.add(number)
            total += counts[number]
    if len(chosen) == 1 and total > wanted:  # the smallest document is nearer to so small a share
        chosen = {min(counts, key=lambda number: (counts[number], drawn(number)))}
    return frozenset(chosen)
