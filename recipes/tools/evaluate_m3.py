"""Retrieval quality of a BGE-M3 model: recall, MRR and nDCG of each of its heads over a corpus.

Runs inside an environment, started by ``recipes/bge-m3-evaluate.sh``. The search is exhaustive, so the
figures are exact. The corpus is encoded in blocks and the scores go to temporary files: memory does not grow
with the corpus.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import numpy as np
import rows
from numpy.typing import NDArray
from scipy import sparse

Scores: TypeAlias = NDArray[np.float32]

SCHEMA = 1
BLOCK = 1024  # passages that are encoded and scored at a time
BUDGET = 1 << 25  # numbers in a temporary matrix of scores: 128 MiB
# FlagEmbedding's training sums the heads with these weights (EncoderOnlyEmbedderM3Model.ensemble_score).
ENSEMBLE = {"dense": 1.0, "sparse": 0.3, "colbert": 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """What is searched: queries, the passages, and each query's right answers as passage numbers."""

    queries: list[str]
    passages: list[str]
    relevant: list[list[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """Texts as the heads see them.

    Attributes:
        dense: one vector per text.
        sparse: one row per text, one column per token of the vocabulary.
        tokens: the ColBERT vectors of all texts, one below the other; empty without that head.
        starts: the row in ``tokens`` where each text begins.
    """

    dense: Scores
    sparse: sparse.csr_matrix
    tokens: Scores
    starts: NDArray[np.int64]


def read(paths: Sequence[Path], limit: int) -> Collection:
    """Read rows (``query``, ``pos``, ``neg``) and a corpus (``text``, ``title``), told apart by their keys.

    Without a corpus the passages are the ``pos`` and ``neg`` of the rows. A right answer that the corpus
    lacks is added to it; equal texts are one passage.

    Args:
        paths: JSON-lines files.
        limit: use the first so many queries; 0 for all of them.
    """
    asked: list[dict[str, Any]] = []
    passages: dict[str, int] = {}
    for row in _rows(paths):
        if "query" in row:
            asked.append(row)
        else:
            passages.setdefault(_with_title(row), len(passages))
    if not passages:
        for row in asked:
            for text in [*row["pos"], *row.get("neg", [])]:
                passages.setdefault(text, len(passages))
    asked = asked[: limit or None]
    known = len(passages)
    relevant = [sorted({passages.setdefault(text, len(passages)) for text in row["pos"]}) for row in asked]
    if len(passages) > known:
        print(f"{len(passages) - known} right answers were not in the corpus and were added to it")
    return Collection(queries=[row["query"] for row in asked], passages=list(passages), relevant=relevant)


def score(queries: Encoded, passages: Encoded) -> dict[str, Scores]:
    """Each head's score of every query (rows) with every passage (columns), as BGE-M3 defines them.

    dense: inner product of the normalised vectors; sparse: sum over shared tokens of the product of their
    weights; colbert: mean over the query's tokens of the best passage token; ensemble: their weighted sum.
    Source: Chen et al., "M3-Embedding", 2024, section 3.2.
    """
    found = {
        "dense": queries.dense @ passages.dense.T,
        "sparse": np.asarray((queries.sparse @ passages.sparse.T).todense()),
    }
    if queries.tokens.size:
        found["colbert"] = late_interaction(queries, passages)
        found["ensemble"] = sum(
            (np.float32(weight) * found[head] for head, weight in ENSEMBLE.items()),
            start=np.float32(0),
        )
    return found


def late_interaction(queries: Encoded, passages: Encoded) -> Scores:
    """ColBERT's MaxSim, averaged over the query's tokens, for a few queries at a time.

    Source: Khattab and Zaharia, "ColBERT", 2020, section 3.3; M3 divides by the number of query tokens.
    """
    ends = [*queries.starts[1:], len(queries.tokens)]
    scores = np.empty((len(queries.starts), len(passages.starts)), np.float32)
    at_once = max(1, BUDGET // len(passages.tokens))  # query tokens in one matrix
    first = 0
    while first < len(ends):
        start = queries.starts[first]
        last = max(first + 1, int(np.searchsorted(ends, start + at_once, side="right")))
        similar = queries.tokens[start : ends[last - 1]] @ passages.tokens.T
        best = np.maximum.reduceat(similar, passages.starts, axis=1)
        lengths = np.diff([*queries.starts[first:last], ends[last - 1]])
        total = np.add.reduceat(best, queries.starts[first:last] - start, axis=0)
        scores[first:last] = total / lengths[:, None]
        first = last
    return scores


def ranks(scores: Scores, relevant: Sequence[int]) -> NDArray[np.int64]:
    """The ranks (1 is best) of one query's right answers among all passages, best first.

    A tie counts against the right answer, and so does a score that is not a number: a model that scores
    everything alike finds nothing. Source on ties: McSherry and Najork, "Computing information retrieval
    performance measures efficiently in the presence of tied scores", 2008.
    """
    worse = [np.count_nonzero(scores < scores[index]) for index in relevant]
    return np.sort(len(scores) - np.array(worse, np.int64))


def metrics(ranked: Sequence[NDArray[np.int64]], ks: Sequence[int]) -> dict[str, float]:
    """Means over the queries of recall, reciprocal rank and nDCG, each cut off at every k.

    recall@k: share of the right answers among the first k. mrr@k: 1/rank of the first right answer, 0 below
    k (Voorhees, TREC-8, 1999). ndcg@k: gain 1/log2(1 + rank) over that of the best possible order, binary
    relevance (Järvelin and Kekäläinen, 2002). As trec_eval's ``recall``, ``recip_rank`` and ``ndcg_cut``.

    Args:
        ranked: for each query the ranks of its right answers, ascending, at least one.
        ks: cut-offs.
    """
    found: dict[str, float] = {}
    for k in ks:
        recall, reciprocal, gain = 0.0, 0.0, 0.0
        for of_query in ranked:
            hits = of_query[of_query <= k]
            ideal = np.arange(1, min(k, len(of_query)) + 1)
            recall += len(hits) / len(of_query)
            reciprocal += 1 / hits[0] if len(hits) else 0
            gain += float((1 / np.log2(1 + hits)).sum() / (1 / np.log2(1 + ideal)).sum())
        for name, total in (("recall", recall), ("mrr", reciprocal), ("ndcg", gain)):
            found[f"{name}@{k}"] = round(total / len(ranked), 6)
    return found


def evaluate(
    collection: Collection, encode: Callable[[list[str]], Encoded], ks: Sequence[int]
) -> dict[str, dict[str, float]]:
    """The metrics of every head that ``encode`` gives.

    Args:
        collection: at least one query.
        encode: turns texts into vectors.
        ks: cut-offs of the metrics.
    """
    queries = encode(collection.queries)
    shape = (len(collection.queries), len(collection.passages))
    with tempfile.TemporaryDirectory() as folder:
        kept: dict[str, Scores] = {}
        for start in range(0, shape[1], BLOCK):
            block = encode(collection.passages[start : start + BLOCK])
            for head, found in score(queries, block).items():
                if head not in kept:
                    kept[head] = np.memmap(Path(folder) / head, np.float32, "w+", shape=shape)
                kept[head][:, start : start + BLOCK] = found
            print(f"scored {min(start + BLOCK, shape[1])}/{shape[1]} passages", flush=True)
        return {
            head: metrics(
                [ranks(row, right) for row, right in zip(kept[head], collection.relevant, strict=True)],
                ks,
            )
            for head in kept
        }


def table(found: dict[str, dict[str, float]]) -> str:
    """The metrics for people: one line per head, one column per metric."""
    columns = list(next(iter(found.values())))
    lines = [f"{'head':<10}" + "".join(f"{name:>12}" for name in columns)]
    for head, values in found.items():
        lines.append(f"{head:<10}" + "".join(f"{values[name]:>12.4f}" for name in columns))
    return "\n".join(lines)


def encoder(arguments: argparse.Namespace) -> Callable[[list[str]], Encoded]:
    """FlagEmbedding's BGE-M3 on the target's devices, one per process."""
    from FlagEmbedding import BGEM3FlagModel
    from FlagEmbedding.inference.embedder.encoder_only import m3

    # Its bars tear a log to pieces, and neither an argument nor TQDM_DISABLE reaches them.
    m3.tqdm, m3.trange = lambda batches, **_: batches, lambda *bounds, **_: range(*bounds)
    kind = arguments.target.partition("-")[0]
    loaded = BGEM3FlagModel(
        arguments.model,
        use_fp16=arguments.precision == "fp16",
        use_bf16=arguments.precision == "bf16",
        # named, since it would not find an Intel GPU by itself, and would take every NVIDIA one
        devices="cpu" if kind == "cpu" else [f"{kind}:{i}" for i in range(arguments.nproc)],
        batch_size=arguments.batch_size,
        query_max_length=arguments.max_length,
        passage_max_length=arguments.max_length,
        return_sparse=True,
        return_colbert_vecs=arguments.colbert,
    )
    vocabulary = len(loaded.tokenizer)

    def encode(texts: list[str]) -> Encoded:
        """The heads' view of some texts, all in 32 bit."""
        raw = loaded.encode(texts)
        weights = raw["lexical_weights"]
        row = np.repeat(np.arange(len(weights)), [len(weight) for weight in weights])
        column = [int(token) for weight in weights for token in weight]
        value = np.array([v for weight in weights for v in weight.values()], np.float32)
        vectors = raw["colbert_vecs"]
        lengths = [len(vector) for vector in vectors or []]
        return Encoded(
            dense=np.asarray(raw["dense_vecs"], np.float32),
            sparse=sparse.csr_matrix((value, (row, column)), (len(texts), vocabulary), np.float32),
            tokens=np.concatenate(vectors or [[]]).astype(np.float32),
            starts=np.cumsum([0, *lengths[:-1]]),
        )

    return encode


def main() -> None:
    """Measure, print the table, write ``metrics.json``."""
    arguments = _arguments()
    collection = read(arguments.data, arguments.queries)
    if not collection.queries:
        sys.exit("there is no row with query and pos in " + ", ".join(map(str, arguments.data)))
    found = evaluate(collection, encoder(arguments), arguments.k)
    counts = {"queries": len(collection.queries), "passages": len(collection.passages)}
    _write(
        arguments.output / "metrics.json",
        {"schema": SCHEMA, "model": arguments.model, **counts, "heads": found},
    )
    print(f"{counts['queries']} queries, {counts['passages']} passages, {arguments.model}")
    print(table(found))


def _arguments() -> argparse.Namespace:
    """The command line, as the recipe gives it; a recipe's booleans are the words true and false."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--nproc", type=int, default=1)
    parser.add_argument("--k", type=_cut_offs, default=[10, 100])
    parser.add_argument("--queries", type=int, default=0)
    parser.add_argument("--colbert", type=lambda word: word == "true", default=True)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--precision", choices=["fp32", "bf16", "fp16"], default="fp32")
    return parser.parse_args()


def _cut_offs(text: str) -> list[int]:
    """``"100,10"`` as [10, 100]."""
    words = text.replace(",", " ").split()
    if not words or not all(word.isdecimal() and int(word) for word in words):
        raise argparse.ArgumentTypeError(f"{text!r}: cut-offs are whole numbers from 1 on, such as 10,100")
    return sorted({int(word) for word in words})


def _rows(paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """The JSON objects of some JSON-lines files; the message of a bad line names it."""
    for path in paths:
        for number, row in rows.read(path):
            right = row.get("pos") if isinstance(row, dict) else None
            if not (isinstance(row, dict) and ("text" in row or ("query" in row and right))):
                sys.exit(f"{path}:{number}: neither a row with query and pos, nor a text")
            yield row


def _with_title(row: dict[str, Any]) -> str:
    """A corpus line's passage: BEIR layouts keep the title apart, and often repeat it in the text."""
    title, text = row.get("title") or "", row["text"]
    return text if text.startswith(title) else f"{title} {text}"


def _write(path: Path, content: dict[str, Any]) -> None:
    """Write JSON so that the file is whole or not there: temporary file, fsync, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
        json.dump(content, file, indent=2, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)


if __name__ == "__main__":
    main()
