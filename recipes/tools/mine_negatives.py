"""Hard negatives for training rows: what a model finds and nobody called right.

Runs inside an environment, started by ``recipes/mine-hard-negatives.sh``. Every row keeps its keys and its
order; its ``neg`` is what the model ranks in the wanted range, without what may be right.

``sentence_transformers.util.mine_hard_negatives`` is not used, though the guards have its meaning: it knows a
positive by its exact text alone, makes triplets from which no way leads back to the rows (their keys are
lost, and so are rows for which too little was found), holds the vectors of the whole corpus, and in the
version of one target (5.1) a relative margin lets more through where scores are below zero. FlagEmbedding's
``hn_mine`` fills up with random passages, the same one twice and right ones of other rows among them.
"""

import argparse
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import block_search
import models
import retrieval_data
import rows
from block_search import Ranking
from retrieval_data import Collection

DROPPED = ("neg", "pos_scores", "neg_scores")  # of a row: what no longer belongs to its passages


@dataclass(frozen=True, slots=True, kw_only=True)
class Guards:
    """Against right answers that nobody marked; the meaning is that of sentence-transformers.

    Attributes:
        max_score, min_score: cosine similarity of a negative at most, at least; 1 and -1 let all through.
        absolute_margin: a negative scores at least this much below the worst positive; below 0: off.
        relative_margin: as a share of the worst positive's score; below 0: off.
    """

    max_score: float = 1.0
    min_score: float = -1.0
    absolute_margin: float = -1.0
    relative_margin: float = -1.0

    def against(self, score: float, positive: float) -> str:
        """The guard that a score does not pass, if any; ``positive`` is the score of the worst positive."""
        # from 1 on it is off: rounding takes a cosine a little beyond 1
        if self.max_score < 1 and score > self.max_score:
            return "max_score"
        if self.min_score > -1 and score < self.min_score:
            return "min_score"
        if self.absolute_margin >= 0 and score + self.absolute_margin > positive:
            return "absolute_margin"
        if self.relative_margin >= 0 and score > positive - abs(positive) * self.relative_margin:
            return "relative_margin"
        return ""


class Known:
    """What is right for each query, by number and by text: the positives of all rows that ask the same."""

    def __init__(self, collection: Collection) -> None:
        self.collection = collection
        self._numbers: dict[str, set[int]] = {}
        self._texts: dict[str, set[str]] = {}
        parts = (collection.queries, collection.grades, collection.rows)
        for query, right, row in zip(*parts, strict=True):
            asked = key(query)
            self._numbers.setdefault(asked, set()).update(right)
            texts = self._texts.setdefault(asked, {"", asked})  # the question is no answer, nor is nothing
            texts.update(key(text) for text in row.get("pos", []))
            texts.update(text for passage in right for text in self.texts(passage))

    def texts(self, passage: int) -> tuple[str, str]:
        """A passage with and without its title, as they are compared."""
        text = self.collection.passages[passage]
        return key(text), key(text[self.collection.bare[passage] :])

    def numbers(self, query: str) -> set[int]:
        """The right passages of a query."""
        return self._numbers[key(query)]

    def candidates(self, query: str, ranking: Ranking, excluded: Counter[str]) -> Ranking:
        """A ranking without right passages, and without a text that came before."""
        asked = key(query)
        right, texts = self._numbers[asked], self._texts[asked]
        seen: set[str] = set()
        found = []
        for passage, score in ranking:
            with_title, bare = self.texts(passage)
            if passage in right or with_title in texts or bare in texts:
                excluded["positive"] += 1
            elif with_title in seen:
                excluded["duplicate"] += 1
            else:
                seen.add(with_title)
                found.append((passage, score))
        return found


def key(text: str) -> str:
    """A text as it is compared with others: neither white space nor case makes another passage."""
    return " ".join(text.split()).casefold()


def choose(found: Ranking, number: int, sampling: str, seed: str) -> Ranking:
    """The best ones, or some drawn at random, in the order of their ranks."""
    if sampling == "top" or len(found) <= number:
        return found[:number]
    drawn = random.Random(seed).sample(range(len(found)), number)  # noqa: S311 - a seed, not a secret
    return [found[index] for index in sorted(drawn)]


def select(
    collection: Collection,
    known: Known,
    best: block_search.Best,
    guards: Guards,
    given: argparse.Namespace,
    excluded: Counter[str],
) -> list[Ranking]:
    """The negatives of each query.

    Args:
        collection: queries and passages.
        known: what is right.
        best: rankings of the passages, and the scores of the right ones.
        guards: what a negative's score must pass.
        given: range, negative_number, sampling, seed.
        excluded: counts what was left out, by reason.
    """
    first, last = given.range
    result = []
    sides = zip(collection.queries, best.rankings(), best.aside(), strict=True)
    for index, (query, ranking, positives) in enumerate(sides):
        worst = min(positives.values())
        passed = []
        for passage, score in known.candidates(query, ranking[first:last], excluded):
            if reason := guards.against(score, worst):
                excluded[reason] += 1
            else:
                passed.append((passage, score))
        result.append(choose(passed, given.negative_number, given.sampling, f"{given.seed}:{index}"))
    return result


def row_of(collection: Collection, index: int, negatives: Ranking) -> dict[str, Any]:
    """The training row of a query: its own keys, and the new negatives."""
    passages = collection.passages
    row = collection.rows[index] or {"pos": [passages[passage] for passage in collection.grades[index]]}
    kept = {name: value for name, value in row.items() if name not in DROPPED}
    return {"query": collection.queries[index], **kept, "neg": [passages[p] for p, _ in negatives]}


def main() -> None:
    """Search, choose, write ``train.jsonl`` and ``report.json``."""
    given = _arguments()
    first, last = given.range
    if given.negative_number > last - first:
        raise rows.stop(f"{given.negative_number} negatives do not fit into the ranks {first}-{last}")
    folder = models.locate(given.model)
    if models.kind(folder) == "reranker":
        raise rows.stop(f"{given.model}: a cross-encoder cannot search a corpus: give an embedder")
    chosen = models.options(given, sparse=False, colbert=False)
    collection = retrieval_data.read(given.data, split=given.split)
    known = Known(collection)
    with models.embedder(folder, chosen) as loaded:
        found = block_search.search(
            loaded.queries(collection.queries),
            collection.passages,
            loaded.passages,
            apart=[known.numbers(query) for query in collection.queries],
            depth=last,
            block=loaded.block,
        )
    excluded: Counter[str] = Counter()
    guards = Guards(
        max_score=given.max_score,
        min_score=given.min_score,
        absolute_margin=given.absolute_margin,
        relative_margin=given.relative_margin,
    )
    chosen_ones = select(collection, known, found["dense"], guards, given, excluded)
    _write(given, collection, chosen_ones, excluded)


def _write(
    given: argparse.Namespace, collection: Collection, chosen: Sequence[Ranking], excluded: Counter[str]
) -> None:
    """Rows and report; rows without a single negative are left out, because no trainer takes them."""
    report = {
        "schema": 1,
        "model": given.model,
        "passages": len(collection.passages),
        "rows": sum(1 for negatives in chosen if negatives),
        "negatives": sum(map(len, chosen)),
        "rows_with_fewer": sum(1 for negatives in chosen if 0 < len(negatives) < given.negative_number),
        "rows_dropped": sum(1 for negatives in chosen if not negatives),
        "rows_that_lost_scores": sum(1 for row in collection.rows if row.keys() & set(DROPPED[1:])),
        "excluded": dict(sorted(excluded.items())),
    }
    if not report["rows"]:
        rows.refuse(
            [
                f"no row has a negative in the ranks {given.range[0]}-{given.range[1]} of "
                f"{len(collection.passages)} passages (left out: {dict(excluded)})",
                "--range-for-sampling skips the first ranks: a small corpus needs 0-…; or loosen the guards",
            ]
        )
    with rows.written(given.output / "train.jsonl") as stream:
        for index, negatives in enumerate(chosen):
            if negatives:
                stream.write(rows.as_line(row_of(collection, index, negatives)))
    rows.write_json(given.output / "report.json", report)
    print(f"{report['rows']} rows, {report['negatives']} negatives from {report['passages']} passages")
    for name, count in excluded.items():
        print(f"  left out: {count} ({name})")
    if report["rows_with_fewer"]:
        print(f"  {report['rows_with_fewer']} rows have fewer than {given.negative_number} negatives")
    if report["rows_dropped"]:
        print(f"  {report['rows_dropped']} rows have none and are left out")
    if report["rows_that_lost_scores"]:
        print(
            f"  {report['rows_that_lost_scores']} rows had teacher scores, which do not fit the new "
            "negatives: the recipe score-with-teacher makes new ones"
        )


def _arguments() -> argparse.Namespace:
    """The command line, as the recipe gives it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--split", default="")
    parser.add_argument("--negative-number", type=models.positive, default=15)
    parser.add_argument("--range", type=_ranks, default=(10, 210))
    parser.add_argument("--sampling", choices=["top", "random"], default="random")
    parser.add_argument("--max-score", type=float, default=1.0)
    parser.add_argument("--min-score", type=float, default=-1.0)
    parser.add_argument("--absolute-margin", type=float, default=-1.0)
    parser.add_argument("--relative-margin", type=float, default=-1.0)
    parser.add_argument("--seed", type=int, default=42)
    models.arguments(parser)
    return parser.parse_args()


def _ranks(text: str) -> tuple[int, int]:
    """``"10-210"``: the ranks from 10 on (0 is the best), 210 no longer, as FlagEmbedding's hn_mine."""
    first, _, last = text.partition("-")
    if not (first.isdecimal() and last.isdecimal() and int(first) < int(last)):
        raise argparse.ArgumentTypeError(
            f"{text!r}: two ranks such as 10-210 are needed, the first one smaller"
        )
    return int(first), int(last)


if __name__ == "__main__":
    main()
