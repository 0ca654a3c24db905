"""block_search and retrieval_metrics: exact, the same in any blocks, and no gift for a tie.

``tests/integration/test_tools.py`` starts these tests inside an environment, with recipes/tools on the path.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import block_search
import numpy as np
import pytest
import retrieval_metrics
from block_search import Best, Encoded
from retrieval_metrics import figures


def ranked(
    scores: np.ndarray, apart: list[set[int]], depth: int, block: int
) -> list[list[tuple[int, float]]]:
    """Rankings of a matrix of scores (queries x passages), given block by block."""
    best = Best(depth, apart)
    for start in range(0, scores.shape[1], block):
        best.add(start, scores[:, start : start + block].copy())
    return best.rankings()


@pytest.mark.parametrize("block", [1, 3, 7, 100])
def test_blocks_give_what_a_sort_of_everything_gives(block: int) -> None:
    random = np.random.default_rng(block)
    scores = random.integers(0, 6, (9, 40)).astype(np.float32)  # many ties
    apart = [set(random.choice(40, size, replace=False).tolist()) for size in (0, 1, 2, 3, 5, 8, 13, 20, 40)]
    for query, found in enumerate(ranked(scores, apart, 10, block)):
        # by score; among equals the right ones last
        order = sorted(range(40), key=lambda p: (-scores[query, p], p in apart[query]))[:10]
        assert [score for _, score in found] == [float(scores[query, p]) for p in order]
        assert [p in apart[query] for p, _ in found] == [p in apart[query] for p in order]
        assert len({p for p, _ in found}) == 10


def test_scores_of_the_right_ones_are_kept_whatever_they_are() -> None:
    best = Best(1, [{0, 2}, set()])
    best.add(0, np.array([[-3.0, 5.0], [1.0, 2.0]], np.float32))
    best.add(2, np.array([[-1.0], [0.0]], np.float32))
    assert best.aside() == [{0: -3.0, 2: -1.0}, {}]
    assert best.rankings() == [[(1, 5.0)], [(1, 2.0)]]


def test_a_model_that_scores_everything_alike_finds_nothing() -> None:
    grades = [{0: 1, 1: 1}, {29: 1}]
    found = ranked(np.ones((2, 30), np.float32), [set(right) for right in grades], 28, 10)
    assert set(figures(found, grades, [5, 10]).values()) == {0.0}


def test_figures_by_hand() -> None:
    # ranks of the right ones: 2 and 4 of three; nothing; 1
    grades = [{1: 1, 3: 1, 9: 1}, {7: 1}, {0: 1}]
    rankings = [[(p, 9.0 - p) for p in range(5)], [(p, 9.0 - p) for p in range(5)], [(0, 1.0)]]
    found = figures(rankings, grades, [3, 5])
    ideal = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    assert found["recall@3"] == pytest.approx((1 / 3 + 0 + 1) / 3, abs=1e-6)
    assert found["recall@5"] == pytest.approx((2 / 3 + 0 + 1) / 3, abs=1e-6)
    assert found["mrr@3"] == found["mrr@5"] == pytest.approx((1 / 2 + 0 + 1) / 3, abs=1e-6)
    assert found["ndcg@3"] == pytest.approx((1 / math.log2(3) / ideal + 0 + 1) / 3, abs=1e-6)
    gain = 1 / math.log2(3) + 1 / math.log2(5)
    assert found["ndcg@5"] == pytest.approx((gain / ideal + 0 + 1) / 3, abs=1e-6)


def test_the_reciprocal_rank_ends_at_the_cut_off() -> None:
    ranking = [(p, 100.0 - p) for p in range(20)]
    found = figures([ranking], [{4: 1}], [4, 5])
    assert (found["mrr@4"], found["mrr@5"]) == (0.0, 0.2)


def test_grades_are_the_gain_of_ndcg_and_count_once_for_recall() -> None:
    found = figures([[(0, 3.0), (1, 2.0)]], [{0: 1, 1: 3}], [2])
    expected = (1 + 3 / math.log2(3)) / (3 + 1 / math.log2(3))
    assert found["ndcg@2"] == pytest.approx(expected, abs=1e-6)
    assert (found["recall@2"], found["mrr@2"]) == (1.0, 1.0)


def test_a_query_without_any_candidate_counts_as_nothing_found() -> None:
    assert figures([[(0, 1.0)], []], [{0: 1}, {0: 1}], [10])["recall@10"] == 0.5


def test_equal_scores_in_a_run_keep_their_order() -> None:
    ranking = [(5, 1.0), (3, 1.0), (9, 1.0), (1, 0.5)]
    moved = block_search.distinct(ranking)
    values = [np.float32(value) for _, value in moved]
    assert [p for p, _ in moved] == [5, 3, 9, 1]
    assert all(a > b for a, b in pairwise(values))
    assert values[2] == pytest.approx(1.0, abs=1e-6)
    lines = retrieval_metrics.run_lines([ranking], ["q 1"], [f"d{p}" for p in range(10)], "dense")
    columns = [line.split() for line in lines]
    assert [c[0] for c in columns] == ["q%201"] * 4
    assert [(c[2], c[3]) for c in columns] == [("d5", "1"), ("d3", "2"), ("d9", "3"), ("d1", "4")]
    assert [np.float32(c[4]) for c in columns] == values  # nine digits are enough for 32 bits


def plain_late_interaction(query: np.ndarray, passage: np.ndarray) -> float:
    return float(np.mean([max(float(q @ p) for p in passage) for q in query]))


def test_late_interaction_is_its_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)

    def texts(count: int) -> list[np.ndarray]:
        return [random.normal(size=(random.integers(1, 7), 8)).astype(np.float32) for _ in range(count)]

    queries, passages = texts(11), texts(13)
    expected = [[plain_late_interaction(q, p) for p in passages] for q in queries]
    for budget in (1, 500, 1 << 25):
        monkeypatch.setattr(block_search, "BUDGET", budget)
        np.testing.assert_allclose(block_search.late_interaction(queries, passages), expected, rtol=1e-5)


def test_the_ensemble_is_the_weighted_sum_of_all_heads() -> None:
    from scipy import sparse

    one = Encoded(
        dense=np.array([[1.0, 0.0]], np.float32),
        sparse=sparse.csr_matrix(np.array([[0.0, 2.0]], np.float32)),
        tokens=[np.array([[0.5, 0.5]], np.float32)],
    )
    found = block_search.score(one, one)
    assert {head: float(scores[0, 0]) for head, scores in found.items()} == pytest.approx(
        {"dense": 1.0, "sparse": 4.0, "colbert": 0.5, "ensemble": 1.0 + 0.3 * 4.0 + 0.5}
    )
    assert set(block_search.score(Encoded(dense=one.dense), Encoded(dense=one.dense))) == {"dense"}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_are_refused(bad: float) -> None:
    def encode(texts: Sequence[str]) -> Encoded:
        return Encoded(dense=np.array([[bad if text == "bad" else 1.0] for text in texts], np.float32))

    with pytest.raises(SystemExit, match="dense head gives scores that are not finite"):
        block_search.search(encode(["q"]), ["p", "bad"], encode, apart=[{0}], depth=5, block=1)


def test_a_table_names_before_after_and_difference() -> None:
    after, before = {"dense": {"ndcg@10": 0.5}, "sparse": {"ndcg@10": 0.25}}, {"dense": {"ndcg@10": 0.75}}
    lines = retrieval_metrics.table(after, before).splitlines()
    assert [line.split() for line in lines] == [
        ["head", "metric", "before", "after", "difference"],
        ["dense", "ndcg@10", "0.7500", "0.5000", "-0.2500"],
        ["sparse", "ndcg@10", "-", "0.2500", "-"],
    ]
    assert retrieval_metrics.differences(before, after) == {"dense": {"ndcg@10": -0.25}}
    assert retrieval_metrics.table(after).splitlines()[2].split() == ["sparse", "0.2500"]


@pytest.mark.parametrize("text", ["", "10,x", "0", "-1", "1.5"])
def test_cut_offs_are_whole_numbers(text: str) -> None:
    with pytest.raises(ValueError, match="cut-offs"):
        retrieval_metrics.cut_offs(text)
    assert retrieval_metrics.cut_offs("100, 10 10") == [10, 100]
