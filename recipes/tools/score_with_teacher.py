"""A teacher's scores for embedder rows: ``pos_scores`` and ``neg_scores``, which distillation learns from.

Runs inside an environment, started by ``recipes/score-with-teacher.sh``. Rows go through in their order,
a few thousand pairs at a time, so memory does not grow with the data.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import models
import rows
from block_search import Progress

PAIRS = 1 << 13  # pairs scored at a time: sorted by length, so many at once waste no padding


def by_vectors(loaded: models.Embedder) -> models.Reranker:
    """An embedder as a teacher: the cosine similarity of query and passage, each text encoded once."""

    def predict(pairs: Sequence[tuple[str, str]]) -> list[float]:
        queries = {text: number for number, text in enumerate(dict.fromkeys(query for query, _ in pairs))}
        passages = {text: number for number, text in enumerate(dict.fromkeys(text for _, text in pairs))}
        left = loaded.queries(list(queries)).dense[[queries[query] for query, _ in pairs]]
        right = loaded.passages(list(passages)).dense[[passages[text] for _, text in pairs]]
        return [float(value) for value in (left * right).sum(axis=1)]

    return predict


def scored(
    path: Path, predict: models.Reranker, scale: float, done: Callable[[int], None]
) -> Iterator[dict[str, Any]]:
    """The rows of a file with the teacher's scores, in their order.

    Args:
        path: rows with query, pos and neg.
        predict: the teacher.
        scale: what its scores are multiplied with.
        done: is told how many rows are finished, whenever some are.

    Raises:
        SystemExit: a score is not a finite number; the message names the line.
    """
    waiting: list[tuple[int, dict[str, Any]]] = []
    size = 0
    for number, row in rows.read(path):
        waiting.append((number, row))
        size += len(row["pos"]) + len(row["neg"])
        if size >= PAIRS:
            yield from _score(path, waiting, predict, scale)
            done(len(waiting))
            waiting, size = [], 0
    if waiting:
        yield from _score(path, waiting, predict, scale)
        done(len(waiting))


def _score(
    path: Path, waiting: Sequence[tuple[int, dict[str, Any]]], predict: models.Reranker, scale: float
) -> Iterator[dict[str, Any]]:
    pairs = [(row["query"], text) for _, row in waiting for text in [*row["pos"], *row["neg"]]]
    found = iter(predict(pairs))
    for number, row in waiting:
        both = [[round(next(found) * scale, 6) for _ in row[field]] for field in ("pos", "neg")]
        if not all(abs(value) < float("inf") for values in both for value in values):
            rows.refuse(
                [f"{path}:{number}: the teacher's score is not a finite number; try --precision fp32"]
            )
        yield {**row, "pos_scores": both[0], "neg_scores": both[1]}


def main() -> None:
    """Judge the rows, load the teacher, write a file per file."""
    given = _arguments()
    folder = models.locate(given.model)
    kind = models.kind(folder)
    chosen = models.options(given, sparse=False, colbert=False)
    named = rows.outputs(given.data)
    total = rows.check_pairs([path for path, _ in named])
    what = "logits" if kind == "reranker" else "cosine similarities"
    print(f"{total} rows, teacher {given.model}: {what} times {given.scale:g}")
    with ExitStack() as stack:
        if kind == "reranker":
            predict = stack.enter_context(models.reranker(folder, chosen))
        else:
            predict = by_vectors(stack.enter_context(models.embedder(folder, chosen)))
        ranges, better = write(given, named, predict, total)
    print(f"mean range of a row's scores {ranges / total:.3f}")
    print(f"rows with every positive above every negative: {better / total:.1%}")
    if ranges < total:
        print("the scores of a row are so near to each other that their softmax is flat: raise --scale")


def write(
    given: argparse.Namespace, named: Sequence[tuple[Path, str]], predict: models.Reranker, total: int
) -> tuple[float, int]:
    """Write a file per file.

    Returns:
        The ranges of the rows' scores, summed, and the rows with every positive above every negative.
    """
    progress, finished = Progress(total, "rows scored"), 0

    def done(count: int) -> None:
        nonlocal finished
        finished += count
        progress.at(finished)

    ranges, better = 0.0, 0
    for path, name in named:
        with rows.written(given.output / name) as stream:
            for row in scored(path, predict, given.scale, done):
                stream.write(rows.as_line(row))
                both = [*row["pos_scores"], *row["neg_scores"]]
                ranges += max(both) - min(both)
                better += min(row["pos_scores"]) > max(row["neg_scores"])
    return ranges, better


def _arguments() -> argparse.Namespace:
    """The command line, as the recipe gives it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--scale", type=_scale, default=1.0)
    models.arguments(parser)
    return parser.parse_args()


def _scale(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: a number above 0 is needed")
    return value


if __name__ == "__main__":
    main()
