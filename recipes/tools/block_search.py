"""Exact search of a corpus that is never in memory as a whole: its vectors come in blocks.

Every query is scored with every passage, and what stays is the best of them: no index, no approximation
(faiss is in none of the environments). Memory grows with queries x depth and with one block of passages.
"""

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy import sparse

Scores: TypeAlias = NDArray[np.float32]
#: Passages of one query, best first: number and score.
Ranking: TypeAlias = list[tuple[int, float]]

BUDGET = 1 << 25  # numbers in a temporary matrix of token scores: 128 MiB
# FlagEmbedding's training sums the heads with these weights (EncoderOnlyEmbedderM3Model.ensemble_score).
ENSEMBLE = {"dense": 1.0, "sparse": 0.3, "colbert": 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """Texts as the heads of a model see them, in 32 bit.

    Attributes:
        dense: one vector of length one per text.
        sparse: one row per text, one column per token of the vocabulary; None without that head.
        tokens: each text's ColBERT vectors, one per token; empty without that head.
    """

    dense: Scores
    sparse: "sparse.csr_matrix | None" = None
    tokens: list[Scores] = field(default_factory=list)


def score(queries: Encoded, passages: Encoded, device: str = "cpu") -> dict[str, Scores]:
    """Each head's score of every query (rows) with every passage (columns), as BGE-M3 defines them.

    dense: inner product of the normalised vectors; sparse: sum over shared tokens of the product of their
    weights; colbert: mean over the query's tokens of the best passage token; ensemble: their weighted sum.
    Source: Chen et al., "M3-Embedding", 2024, section 3.2.
    """
    found = {"dense": queries.dense @ passages.dense.T}
    if queries.sparse is not None and passages.sparse is not None:
        found["sparse"] = np.asarray((queries.sparse @ passages.sparse.T).todense())
    if queries.tokens:
        found["colbert"] = late_interaction(queries.tokens, passages.tokens, device)
    if set(ENSEMBLE) <= set(found):
        parts = (np.float32(weight) * found[head] for head, weight in ENSEMBLE.items())
        found["ensemble"] = sum(parts, start=np.float32(0))
    return found


def late_interaction(queries: Sequence[Scores], passages: Sequence[Scores], device: str = "cpu") -> Scores:
    """ColBERT's MaxSim, averaged over the query's tokens, for a few queries at a time.

    Source: Khattab and Zaharia, "ColBERT", 2020, section 3.3; M3 divides by the number of query tokens.
    """
    import torch

    sizes = torch.tensor([len(tokens) for tokens in passages], device=device)
    padded = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(t) for t in passages], batch_first=True)
    padded = padded.to(device)
    count, longest, width = padded.shape
    outside = torch.arange(longest, device=device) >= sizes[:, None]
    scores = np.empty((len(queries), count), np.float32)
    at_once = max(1, BUDGET // (count * longest))  # query tokens in one matrix
    first = 0
    while first < len(queries):
        last, tokens = first + 1, len(queries[first])
        while last < len(queries) and tokens + len(queries[last]) <= at_once:
            tokens += len(queries[last])
            last += 1
        stacked = torch.from_numpy(np.concatenate(queries[first:last])).to(device)
        similar = (stacked @ padded.reshape(-1, width).T).reshape(-1, count, longest)
        best = similar.masked_fill_(outside, -torch.inf).amax(-1)
        parts = best.split([len(tokens) for tokens in queries[first:last]])
        scores[first:last] = torch.stack([part.mean(0) for part in parts]).cpu().numpy()
        first = last
    return scores


class Best:
    """The best passages of each query under one head, as the blocks go by.

    The right passages (``apart``) are kept aside with their scores and join at the end, so that a tie counts
    against them: a model that scores everything alike finds nothing. Source on ties: McSherry and Najork,
    "Computing information retrieval performance measures efficiently in the presence of tied scores", 2008.

    Args:
        depth: passages kept per query.
        apart: for each query the passages that are kept whatever their score is.
    """

    def __init__(self, depth: int, apart: Sequence[Iterable[int]]) -> None:
        self.depth = depth
        self.apart = apart
        listed = [(passage, query) for query, of_query in enumerate(apart) for passage in of_query]
        listed.sort()
        self._passage = np.array([passage for passage, _ in listed], np.int64)
        self._query = np.array([query for _, query in listed], np.int64)
        self._aside = np.full(len(listed), -np.inf, np.float32)
        self._scores = np.full((len(apart), 0), -np.inf, np.float32)
        self._indexes = np.zeros((len(apart), 0), np.int64)

    def add(self, start: int, scores: Scores) -> None:
        """Take in a block of scores, whose first column is passage number ``start``; they are overwritten."""
        here = slice(*np.searchsorted(self._passage, [start, start + scores.shape[1]]))
        places = self._query[here], self._passage[here] - start
        self._aside[here] = scores[places]
        scores[places] = -np.inf
        numbers = np.broadcast_to(np.arange(start, start + scores.shape[1]), scores.shape)
        joined = np.concatenate([self._scores, scores], axis=1)
        indexes = np.concatenate([self._indexes, numbers], axis=1)
        if joined.shape[1] > self.depth:
            kept = np.argpartition(joined, -self.depth, axis=1)[:, -self.depth :]
            joined, indexes = np.take_along_axis(joined, kept, 1), np.take_along_axis(indexes, kept, 1)
        self._scores, self._indexes = joined, indexes

    def rankings(self) -> list[Ranking]:
        """For each query its best passages, ``depth`` of them, a tie with a right one against it."""
        aside: list[list[tuple[float, bool, int]]] = [[] for _ in self.apart]
        for query, passage, found in zip(self._query, self._passage, self._aside, strict=True):
            aside[query].append((-float(found), True, int(passage)))
        result = []
        for query, late in enumerate(aside):
            others = zip(self._scores[query], self._indexes[query], strict=True)
            ordered = sorted([*late, *((-float(s), False, int(i)) for s, i in others if s > -np.inf)])
            result.append([(passage, -negated) for negated, _, passage in ordered[: self.depth]])
        return result

    def aside(self) -> list[dict[int, float]]:
        """For each query the scores of the passages that were kept apart."""
        found: list[dict[int, float]] = [{} for _ in self.apart]
        for query, passage, score_ in zip(self._query, self._passage, self._aside, strict=True):
            found[query][int(passage)] = float(score_)
        return found


def search(
    queries: Encoded,
    passages: Sequence[str],
    encode: Callable[[Sequence[str]], Encoded],
    *,
    apart: Sequence[Iterable[int]],
    depth: int,
    block: int,
    device: str = "cpu",
) -> dict[str, Best]:
    """Encode the passages block by block and keep each head's best ones for every query.

    Args:
        queries: encoded; their number is that of ``apart``.
        passages: texts.
        encode: turns passages into vectors.
        apart: for each query its right passages; see :class:`Best`.
        depth: passages kept per query.
        block: passages encoded at a time.
        device: where the ColBERT scores are computed.

    Raises:
        SystemExit: a score is not a finite number.
    """
    found: dict[str, Best] = {}
    progress = Progress(len(passages), "passages scored")
    for start in range(0, len(passages), block):
        encoded = encode(passages[start : start + block])
        for head, scores in score(queries, encoded, device).items():
            if not np.isfinite(scores).all():
                refuse_scores(head)
            found.setdefault(head, Best(depth, apart)).add(start, scores)
        progress.at(min(start + block, len(passages)))
    return found


def refuse_scores(head: str) -> None:
    """Stop because of scores that are no numbers: they would be sorted somewhere, and look like a result.

    Raises:
        SystemExit: always.
    """
    sys.exit(
        f"the {head} head gives scores that are not finite numbers: the training diverged, or 16 bits are "
        "too few for this model; --precision fp32 tells the two apart"
    )


class Progress:
    """Says how far it is, at most every ten seconds and at the end: a log is not a terminal."""

    def __init__(self, total: int, what: str) -> None:
        self.total, self.what = total, what
        self._next = time.monotonic() + 10

    def at(self, done: int) -> None:
        """So many of the total are done."""
        if done >= self.total or time.monotonic() >= self._next:
            self._next = time.monotonic() + 10
            print(f"{done}/{self.total} {self.what}", flush=True)


def cut(found: dict[str, Best]) -> dict[str, list[Ranking]]:
    """Each head's rankings."""
    return {head: best.rankings() for head, best in found.items()}


def distinct(ranking: Ranking) -> Ranking:
    """The same order with strictly falling scores.

    Programs of the trec_eval family sort by score and break ties by the passages' ids, which mean nothing:
    equal scores are moved apart by the smallest 32-bit steps, so that every reader sees this order.
    """
    result: Ranking = []
    above: Any = np.float32(np.inf)
    for passage, value in ranking:
        above = min(np.float32(value), np.nextafter(above, np.float32(-np.inf)))
        result.append((passage, float(above)))
    return result
