"""mine_negatives: never a right answer, never the same text twice, the same choice every time."""

import argparse
import random
from collections import Counter
from pathlib import Path

import mine_negatives
import numpy as np
import pytest
import retrieval_data
import rows
from block_search import Best, Ranking
from mine_negatives import Guards, Known, key
from retrieval_data import Collection


def given(**more: object) -> argparse.Namespace:
    return argparse.Namespace(
        **{"range": (0, 50), "negative_number": 5, "sampling": "random", "seed": 1} | more
    )


def random_rows(seed: int, folder: Path) -> tuple[Collection, np.ndarray]:
    """Rows that share queries, positives and near-equal texts, a corpus with titles, and random scores."""
    draw = random.Random(seed)  # noqa: S311 - a seed, not a secret
    words = [f"{'Ab '[draw.randrange(3)]}text {number % 30}{' ' * draw.randrange(3)}" for number in range(60)]
    lines: list[dict[str, object]] = [
        {
            "query": f"{draw.choice(['query', 'Query '])} {draw.randrange(12)}",
            "pos": draw.sample(words, draw.randrange(1, 4)),
            "neg": draw.sample(words, draw.randrange(3)),
            "extra": number,
        }
        for number in range(40)
    ]
    if seed % 2:
        lines += [
            {"title": draw.choice(["", "Ab"]), "text": text, "id": str(n)} for n, text in enumerate(words)
        ]
    path = folder / f"{seed}.jsonl"
    path.write_text("".join(map(rows.as_line, lines)), encoding="utf-8")
    found = retrieval_data.read([path])
    scores = np.random.default_rng(seed).normal(size=(len(found.queries), len(found.passages)))
    return found, scores.astype(np.float32)


def mined(found: Collection, scores: np.ndarray, guards: Guards, **more: object) -> list[Ranking]:
    known = Known(found)
    best = Best(50, [known.numbers(query) for query in found.queries])
    best.add(0, scores.copy())
    return mine_negatives.select(found, known, best, guards, given(**more), Counter())


@pytest.mark.parametrize("seed", range(20))
def test_no_negative_is_right_or_twice(seed: int, tmp_path: Path) -> None:
    found, scores = random_rows(seed, tmp_path)
    guards = Guards(absolute_margin=0.1 if seed % 3 == 0 else -1)
    sampling = "top" if seed % 4 else "random"
    chosen = mined(found, scores, guards, sampling=sampling)
    right: dict[str, set[str]] = {}
    numbers: dict[str, set[int]] = {}
    for query, row, grades in zip(found.queries, found.rows, found.grades, strict=True):
        right.setdefault(key(query), set()).update(map(key, row["pos"]))
        numbers.setdefault(key(query), set()).update(grades)
    assert any(chosen)
    for index, negatives in enumerate(chosen):
        query = key(found.queries[index])
        texts = [key(found.passages[passage]) for passage, _ in negatives]
        bare = {key(found.passages[passage][found.bare[passage] :]) for passage, _ in negatives}
        assert not ({*texts} | bare) & right[query]
        assert not {passage for passage, _ in negatives} & numbers[query]
        assert len(set(texts)) == len(texts) <= 5
        assert query not in texts
        assert all(texts)
        row = mine_negatives.row_of(found, index, negatives)
        assert row["pos"] == found.rows[index]["pos"]
        assert row["extra"] == found.rows[index]["extra"]
        assert [key(text) for text in row["neg"]] == texts
        if guards.absolute_margin >= 0:
            worst = min(float(scores[index, passage]) for passage in numbers[query])
            assert all(score + 0.1 <= worst + 1e-6 for _, score in negatives)
    assert mined(found, scores, guards, sampling=sampling) == chosen


def test_ranks_count_every_passage_as_upstream_counts_them(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    lines = [{"query": "q", "pos": ["p0", "p3"]}, *({"text": f"p{n}"} for n in range(8))]
    path.write_text("".join(map(rows.as_line, lines)))
    found = retrieval_data.read([path])
    scores = np.arange(8, 0, -1, dtype=np.float32)[None]
    (negatives,) = mined(found, scores, Guards(), range=(1, 6), sampling="top")
    assert [passage for passage, _ in negatives] == [1, 2, 4, 5]
    assert len(mined(found, scores, Guards(), range=(1, 6), negative_number=2)[0]) == 2


@pytest.mark.parametrize(
    ("guards", "passing"),
    [
        (Guards(), [1.0000001, 0.9, 0.5, 0.4, -0.9]),
        (Guards(max_score=0.9), [0.9, 0.5, 0.4, -0.9]),
        (Guards(min_score=0.45), [1.0000001, 0.9, 0.5]),
        (Guards(absolute_margin=0), [0.5, 0.4, -0.9]),
        (Guards(absolute_margin=0.1), [0.4, -0.9]),
        (Guards(relative_margin=0.2), [0.4, -0.9]),
    ],
)
def test_guards_have_the_meaning_of_sentence_transformers(guards: Guards, passing: list[float]) -> None:
    worst = 0.5  # of the positives
    assert [s for s in (1.0000001, 0.9, 0.5, 0.4, -0.9) if not guards.against(s, worst)] == passing


def test_a_relative_margin_lowers_the_limit_below_zero_too() -> None:
    assert Guards(relative_margin=0.1).against(-0.5, -0.5) == "relative_margin"
    assert Guards(relative_margin=0.1).against(-0.56, -0.5) == ""


def test_judged_queries_become_rows() -> None:
    found = Collection(
        queries=["q"], query_ids=["1"], grades=[{0: 2}], passages=["a", "b"], passage_ids=["a", "b"],
        bare=[0, 0], candidates=[[]], rows=[{}],
    )  # fmt: skip
    assert mine_negatives.row_of(found, 0, [(1, 0.5)]) == {"query": "q", "pos": ["a"], "neg": ["b"]}


def test_scores_of_the_old_negatives_do_not_stay() -> None:
    row = {"query": "q", "pos": ["a"], "neg": ["x"], "pos_scores": [1], "neg_scores": [0], "prompt": "p"}
    found = Collection(
        queries=["q"], query_ids=["1"], grades=[{0: 1}], passages=["a", "b"], passage_ids=["a", "b"],
        bare=[0, 0], candidates=[[0]], rows=[row],
    )  # fmt: skip
    assert mine_negatives.row_of(found, 0, [(1, 0.5)]) == {
        "query": "q",
        "pos": ["a"],
        "prompt": "p",
        "neg": ["b"],
    }
