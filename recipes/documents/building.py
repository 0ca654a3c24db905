"""Chunks as rows for training: text alone, headings as queries, or questions that a model asks."""

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from documents.chunks import heading_line
from documents.selection import Chunk, Store

Row = dict[str, Any]

#: Draws of a wrong answer for each that is wanted, before fewer have to do.
_DRAWS = 20


def texts(store: Store, numbers: Sequence[int]) -> Iterator[Row]:
    """Rows of the format plain: a chunk below its own heading."""
    for number in numbers:
        (chunk,) = store.at([number])
        yield {"text": heading_line(chunk.headings) + chunk.text}


class Negatives:
    """Wrong answers: chunks of other documents; of other sections where there is one document.

    Args:
        numbers: positions of the chunks that are drawn from.
        count: for each query.
        seed: the same rows get the same wrong answers.
    """

    def __init__(self, store: Store, numbers: Sequence[int], *, count: int, seed: int) -> None:
        self._store, self._numbers, self._count, self._seed = store, numbers, count, seed
        self._alone = len({store.places[number][0] for number in numbers}) < 2

    def of(self, number: int, chunk: Chunk) -> list[str]:
        """At most ``count`` texts, none twice; empty when everything is of the same section."""
        draw = random.Random(f"{self._seed} {number}")  # noqa: S311 - a choice that repeats, no secret
        found: dict[str, None] = {}
        for _ in range(_DRAWS * self._count):
            if len(found) == self._count:
                break
            (other,) = self._store.at([draw.choice(self._numbers)])
            same = other.document == chunk.document
            if other.text != chunk.text and (not same or (self._alone and other.headings != chunk.headings)):
                found[other.text] = None
        return list(found)


def pairs(
    store: Store,
    numbers: Sequence[int],
    queries: Mapping[int, Sequence[str]] | None,
    negatives: Negatives,
    skipped: list[str],
) -> Iterator[Row]:
    """Rows of the format embedder: a chunk as the answer to each of its queries.

    Args:
        queries: of each chunk by its position; None: the headings above it, as one line.
        skipped: gets the name of the file of each chunk that gives none.
    """
    for number in numbers:
        (chunk,) = store.at([number])
        wrong = negatives.of(number, chunk)
        headings = [chunk.heading] if chunk.headings else []
        asked = headings if queries is None else queries[number]
        if not asked or not wrong:
            skipped.append(chunk.name)
            continue
        for query in dict.fromkeys(asked):
            yield {"query": query, "pos": [chunk.text], "neg": wrong}


def chats(answers: Sequence[tuple[str, str]]) -> Iterator[Row]:
    """Rows of the format sft: a question and its answer."""
    for question, answer in answers:
        yield {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
