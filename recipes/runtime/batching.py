"""Which rows share a batch, when texts of similar length shall: pure, numpy alone.

A batch is padded to its longest text, and memory follows the padded length. So rows are put into buckets by
length, each with a batch size of its own, and shuffled within them; what does not fill a batch moves on to
the next longer bucket, where it fits as well. Nothing is left out but, per epoch and source, fewer rows than
there are processes.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Rows: TypeAlias = NDArray[np.int64]

_SIZE = re.compile(r"(?:(\d+)/)?(\d+):0*([1-9]\d*)")

#: Upper ends of the buckets, in tokens of the longest passage: about 1.4 apart, so that padding within a
#: bucket wastes at most a third.
EDGES = (32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192)


@dataclass(slots=True, kw_only=True)
class Bucket:
    """Rows of one source whose longest passage has a similar length.

    Attributes:
        rows: numbers of the rows.
        passage_length: tokens of the longest of them, padding included.
        query_length: the same of the queries, those of shorter buckets included.
        batch_size: queries per device; found later.
    """

    rows: Rows
    query_length: int
    passage_length: int
    batch_size: int = 1


@dataclass(slots=True, kw_only=True)
class Source:
    """A file, or all of them: rows that may share a batch.

    Attributes:
        group_size: passages per query.
        largest: most queries per device that the source allows.
        no_in_batch_neg: its queries are not compared with other queries' passages.
        buckets: by length, ascending.
    """

    group_size: int
    largest: int
    no_in_batch_neg: bool = False
    buckets: list[Bucket] = field(default_factory=list)


def into_buckets(rows: Rows, queries: Rows, passages: Rows, *, longest: int, multiple: int) -> list[Bucket]:
    """Sort rows into buckets.

    Args:
        rows: numbers of the rows.
        queries, passages: tokens of each row's query and longest passage, truncated to their limits.
        longest: the passages' limit.
        multiple: lengths are padded to a multiple of this.
    """
    edges = [edge for edge in EDGES if edge < longest] + [max(longest, 1)]
    place = np.searchsorted(edges, passages)
    buckets: list[Bucket] = []
    longest_query = 0  # of this bucket and all shorter ones, whose left-over rows move up
    for index in range(len(edges)):
        inside = place == index
        if inside.any():
            longest_query = max(longest_query, int(queries[inside].max()))
            buckets.append(
                Bucket(
                    rows=rows[inside],
                    query_length=_padded(longest_query, multiple),
                    passage_length=_padded(int(passages[inside].max()), multiple),
                )
            )
    return buckets


def batches(
    sources: Iterable[Source], processes: int, generator: np.random.Generator
) -> list[tuple[Rows, bool]]:
    """One epoch: the row numbers of each batch, of all processes together, and its no_in_batch_neg.

    Args:
        processes: a batch's rows are a multiple of this.
        generator: the same on every process.
    """
    found: list[tuple[Rows, bool]] = []
    for source in sources:
        left: Rows = np.empty(0, np.int64)
        for bucket in source.buckets:
            rows = np.concatenate([bucket.rows, left])
            generator.shuffle(rows)
            size = bucket.batch_size * processes
            full = len(rows) // size * size
            found += [(batch, source.no_in_batch_neg) for batch in rows[:full].reshape(-1, size)]
            left = rows[full:]
        if whole := len(left) // processes * processes:
            found.append((left[:whole], source.no_in_batch_neg))
    return [found[index] for index in generator.permutation(len(found))]


def parse_sizes(text: str) -> dict[tuple[int | None, int], int]:
    """``"128:32,1/512:8"`` as {(None, 128): 32, (1, 512): 8}: source and longest passage to batch size.

    Without a source a size is for every source.

    Raises:
        ValueError: it is not of that form, or a batch size is below 1.
    """
    found: dict[tuple[int | None, int], int] = {}
    for word in text.replace(" ", "").split(","):
        if not word:
            continue
        match = _SIZE.fullmatch(word)
        if match is None:
            raise ValueError(f"{word!r} is not of the form 128:32 or 1/128:32")
        found[int(match[1]) if match[1] else None, int(match[2])] = int(match[3])
    return found


def given_size(sizes: dict[tuple[int | None, int], int], source: int, passage_length: int) -> int:
    """The batch size that was given for a length: that of the shortest named length that holds it.

    Sizes of the source itself come before those of every source.

    Raises:
        ValueError: every named length is shorter.
    """
    for owner in (source, None):
        holding = [length for of, length in sizes if of == owner and length >= passage_length]
        if holding:
            return sizes[owner, min(holding)]
    raise ValueError(f"no batch size was given for passages of {passage_length} tokens")


def padding_share(sources: Sequence[Source], passages: Rows) -> float:
    """Share of padding among the passages' tokens, if every batch is padded to its bucket's end."""
    real = sum(int(passages[bucket.rows].sum()) for source in sources for bucket in source.buckets)
    padded = sum(bucket.passage_length * len(bucket.rows) for source in sources for bucket in source.buckets)
    return 1 - real / padded if padded else 0.0


def _padded(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple
