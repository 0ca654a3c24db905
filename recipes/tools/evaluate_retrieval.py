"""Retrieval quality of embedders and rerankers: nDCG, recall and MRR of each head, before and after.

Runs inside an environment, started by ``recipes/evaluate.sh``. The search is exhaustive, so the figures are
exact; the corpus is encoded in blocks, so memory does not grow with its vectors.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import block_search
import models
import retrieval_data
import retrieval_metrics
import rows
from block_search import Ranking
from retrieval_data import Collection

SCHEMA = 2
PAIRS = 1 << 14  # pairs given to a reranker at a time: sorted by length, so many at once waste no padding


def by_embedder(
    folder: Path, chosen: models.Options, collection: Collection, depth: int
) -> dict[str, list[Ranking]]:
    """The best passages of each query by each head of an embedder; the model is gone afterwards."""
    with models.embedder(folder, chosen) as loaded:
        found = block_search.search(
            loaded.queries(collection.queries),
            collection.passages,
            loaded.passages,
            apart=collection.grades,
            depth=depth,
            block=loaded.block,
            device=loaded.device,
        )
    return block_search.cut(found)


def by_reranker(
    predict: models.Reranker, collection: Collection, candidates: Sequence[Sequence[int]]
) -> list[Ranking]:
    """Candidates in the order of a cross-encoder's scores; a tie counts against the right ones.

    Raises:
        SystemExit: a score is not a finite number.
    """
    wanted = [(query, passage) for query, found in enumerate(candidates) for passage in found]
    progress = block_search.Progress(len(wanted), "pairs scored")
    scores: list[float] = []
    for start in range(0, len(wanted), PAIRS):
        part = wanted[start : start + PAIRS]
        scores += predict([(collection.queries[query], collection.passages[p]) for query, p in part])
        progress.at(len(scores))
    if not all(abs(value) < float("inf") for value in scores):
        block_search.refuse_scores("reranked")
    found: list[list[tuple[float, bool, int]]] = [[] for _ in candidates]
    for (query, passage), value in zip(wanted, scores, strict=True):
        found[query].append((-value, passage in collection.grades[query], passage))
    return [[(passage, -negated) for negated, _, passage in sorted(of_query)] for of_query in found]


def check_kinds(given: argparse.Namespace, folders: Mapping[str, Path]) -> bool:
    """Whether MODEL is a cross-encoder.

    Raises:
        SystemExit: models that do not go together.
    """
    kinds = {name: models.kind(folder) for name, folder in folders.items()}
    cross = kinds["model"] == "reranker"
    problems = [
        f"--{name.replace('_', '-')} {getattr(given, name)}: not a cross-encoder (…ForSequenceClassification)"
        for name in ("reranker", "reranker_baseline")
        if name in kinds and kinds[name] != "reranker"
    ]
    if "baseline" in kinds and (kinds["baseline"] == "reranker") != cross:
        problems.append("the baseline is of another kind than the model: an embedder and a cross-encoder")
    if cross and "reranker" in kinds:
        problems.append("the model is a cross-encoder itself: give an embedder as the model, or no reranker")
    if "reranker_baseline" in kinds and "reranker" not in kinds:
        problems.append("--reranker-baseline is what --reranker is compared with: give that one too")
    if problems:
        raise rows.stop("\n".join(problems))
    return cross


def rank(
    given: argparse.Namespace, folders: Mapping[str, Path], collection: Collection, *, cross: bool
) -> tuple[dict[str, list[Ranking]], dict[str, list[Ranking]]]:
    """The rankings of each head, after and before (empty without a baseline)."""
    chosen = models.options(given, colbert=given.colbert)
    after: dict[str, list[Ranking]] = {}
    before: dict[str, list[Ranking]] = {}
    if cross:
        for name, found in (("model", after), ("baseline", before)):
            if name in folders:
                with models.reranker(folders[name], chosen) as predict:
                    found["reranked"] = by_reranker(predict, collection, collection.candidates)
        return after, before
    depth = max(*given.k, given.rerank_top if "reranker" in folders else 1)
    after |= by_embedder(folders["model"], chosen, collection, depth)
    if "baseline" in folders:
        before |= by_embedder(folders["baseline"], chosen, collection, depth)
    first = [[passage for passage, _ in found[: given.rerank_top]] for found in after["dense"]]
    for name, found in (("reranker", after), ("reranker_baseline", before)):
        if name in folders:
            with models.reranker(folders[name], chosen) as predict:
                found["reranked"] = by_reranker(predict, collection, first)
    return after, before


def main() -> None:
    """Measure, print the table, write ``metrics.json`` and the run files."""
    given = _arguments()
    names = ("model", "baseline", "reranker", "reranker_baseline")
    folders = {name: models.locate(getattr(given, name)) for name in names if getattr(given, name)}
    cross = check_kinds(given, folders)
    models.options(given)  # refuses before the data is read
    collection = retrieval_data.read(given.data, split=given.split, limit=given.queries, candidates=cross)
    if cross and not any(
        set(found) - set(right) for found, right in zip(collection.candidates, collection.grades, strict=True)
    ):
        raise rows.stop("a cross-encoder sorts the pos and neg of rows: there is no row with neg in the data")
    after, before = rank(given, folders, collection, cross=cross)
    measured = {
        when: _figures(found, collection, given.k) for when, found in (("after", after), ("before", before))
    }
    counts = {"queries": len(collection.queries), "passages": len(collection.passages)}
    report: dict[str, Any] = {"schema": SCHEMA, "model": given.model, **counts, "heads": measured["after"]}
    if "reranker" in folders:
        report |= {"reranker": given.reranker, "rerank_top": given.rerank_top}
    if before:
        compared = {"model": given.baseline or None, "reranker": given.reranker_baseline or None}
        report["baseline"] = compared | {"heads": measured["before"]}
        report["difference"] = retrieval_metrics.differences(measured["before"], measured["after"])
    _write_runs(given.output, after, collection, measured["after"], given.k[0])
    rows.write_json(given.output / "metrics.json", report)
    print(f"{counts['queries']} queries, {counts['passages']} passages, {given.model}")
    print(retrieval_metrics.table(measured["after"], measured["before"] if before else None))


def _figures(
    found: Mapping[str, list[Ranking]], collection: Collection, ks: Sequence[int]
) -> dict[str, retrieval_metrics.Figures]:
    return {head: retrieval_metrics.figures(of, collection.grades, ks) for head, of in found.items()}


def _write_runs(
    folder: Path,
    rankings: Mapping[str, list[Ranking]],
    collection: Collection,
    measured: Mapping[str, Mapping[str, float]],
    k: int,
) -> None:
    """``runs/HEAD.trec`` of each head, ``run.trec`` of the best one by nDCG, and the judgements."""
    best = max(rankings, key=lambda head: measured[head][f"ndcg@{k}"])
    names = collection.query_ids, collection.passage_ids
    for head, found in rankings.items():
        lines = retrieval_metrics.run_lines(found, *names, tag=head)
        for path in [folder / "runs" / f"{head}.trec", *([folder / "run.trec"] if head == best else [])]:
            with rows.written(path) as stream:
                stream.writelines(lines)
    with rows.written(folder / "qrels.trec") as stream:
        stream.writelines(retrieval_metrics.qrels_lines(collection.grades, *names))


def _arguments() -> argparse.Namespace:
    """The command line, as the recipe gives it; an empty model is none."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--split", default="")
    parser.add_argument("--k", type=_cut_offs, default=[10, 100])
    parser.add_argument("--queries", type=int, default=0)
    parser.add_argument("--colbert", type=models.boolean, default=True)
    parser.add_argument("--baseline", default="")
    parser.add_argument("--reranker", default="")
    parser.add_argument("--reranker-baseline", default="")
    parser.add_argument("--rerank-top", type=models.positive, default=100)
    models.arguments(parser)
    return parser.parse_args()


def _cut_offs(text: str) -> list[int]:
    try:
        return retrieval_metrics.cut_offs(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


if __name__ == "__main__":
    main()
