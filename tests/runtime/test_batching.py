"""Which rows share a batch: for any lengths, sizes and processes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime import batching, options, probe
from runtime.batching import Source
from runtime.probe import Cost, Shape

LENGTHS = st.lists(st.tuples(st.integers(1, 64), st.integers(1, 300)), min_size=1, max_size=80)


@settings(max_examples=100, deadline=None)
@given(LENGTHS, st.integers(1, 4), st.integers(0, 1000), st.integers(20, 300))
def test_nothing_is_lost_and_everything_fits(
    lengths: list[tuple[int, int]], processes: int, seed: int, longest: int
) -> None:
    queries = np.array([query for query, _ in lengths])
    passages = np.minimum(np.array([passage for _, passage in lengths]), longest)
    rows = np.arange(len(lengths))
    buckets = batching.into_buckets(rows, queries, passages, longest=longest, multiple=8)
    assert sorted(row for bucket in buckets for row in bucket.rows) == list(rows)
    for bucket in buckets:
        bucket.batch_size = max(1, 600 // bucket.passage_length)
        assert bucket.passage_length % 8 == 0
    source = Source(group_size=2, largest=64, buckets=buckets)
    found = batching.batches([source], processes, np.random.default_rng(seed))
    used = [int(row) for batch, _ in found for row in batch]
    assert len(set(used)) == len(used)
    assert len(lengths) - len(used) < processes
    for batch, no_in_batch_neg in found:
        assert len(batch) % processes == 0
        assert not no_in_batch_neg
        # a batch is no larger than its longest row's bucket allows
        bucket = next(b for b in buckets if b.passage_length >= passages[batch].max())
        assert len(batch) <= bucket.batch_size * processes
        # nor are its queries longer than those that the bucket was measured with
        assert queries[batch].max() <= bucket.query_length
    again = batching.batches([source], processes, np.random.default_rng(seed))
    assert [list(batch) for batch, _ in again] == [list(batch) for batch, _ in found]
    assert 0 <= batching.padding_share([source], passages) < 1


def test_sources_do_not_mix() -> None:
    def source(first: int, flag: bool) -> Source:
        rows = np.arange(first, first + 7)
        buckets = batching.into_buckets(rows, rows * 0 + 4, rows * 0 + 20, longest=64, multiple=1)
        buckets[0].batch_size = 3
        return Source(group_size=2, largest=3, no_in_batch_neg=flag, buckets=buckets)

    found = batching.batches([source(0, False), source(100, True)], 1, np.random.default_rng(0))
    assert sorted(len(batch) for batch, _ in found) == [1, 1, 3, 3, 3, 3]
    assert all((batch >= 100).all() == flag and (batch < 100).any() != flag for batch, flag in found)


def test_given_sizes() -> None:
    sizes = batching.parse_sizes("512:8, 128:32,1/256:5,")
    assert [batching.given_size(sizes, 0, length) for length in (1, 128, 129, 512)] == [32, 32, 8, 8]
    assert [batching.given_size(sizes, 1, length) for length in (1, 256, 257)] == [5, 5, 8]
    with pytest.raises(ValueError, match="no batch size was given for passages of 513 tokens"):
        batching.given_size(sizes, 0, 513)


@pytest.mark.parametrize("text", ["8", "x:1", "128:0", "-1:2", "/128:2", "1:2:3"])
def test_sizes_of_another_form(text: str) -> None:
    with pytest.raises(ValueError, match="is not of the form"):
        batching.parse_sizes(text)


@given(st.floats(0, 1e9), st.floats(1, 1e6), st.sampled_from([0.0, 6.0, 12.0]), st.integers(2, 8))
def test_the_formula_goes_through_two_points(fixed: float, token: float, pair: float, few: int) -> None:
    cost = Cost(fixed=fixed, per_token=token, per_pair=pair)

    def shape(size: int) -> Shape:
        return Shape(batch_size=size, group_size=8, query_length=64, passage_length=512)

    measured = [(shape(size), int(cost.of(shape(size)))) for size in (1, few)]
    found = probe.fit(measured[0], measured[1], per_pair=pair)
    for size in (1, 3, 50):
        assert found.of(shape(size)) == pytest.approx(cost.of(shape(size)), rel=0.01, abs=1e5)
    budget = cost.of(shape(17)) + 1
    assert probe.largest(cost, shape(1), budget, 1000) == 17
    assert probe.largest(cost, shape(1), budget, 5) == 5
    assert probe.largest(cost, shape(1), 0, 5) == 1


def test_options() -> None:
    chosen, module, arguments = options.parse(
        ["--patches", "none", "--length-bucketing", "true", "-m", "a.b", "-m", "x", "--seed", "1"]
    )
    assert (chosen.patches, chosen.length_bucketing, module) == ("none", True, "a.b")
    assert arguments == ["-m", "x", "--seed", "1"]
    assert options.parse(["-m", "a"])[0] == options.Options()


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["-m"],
        ["a"],
        ["--length-bucketing", "maybe", "-m", "a"],
        ["--max-batch-size", "0", "-m", "a"],
        ["--memory-fraction", "2", "-m", "a"],
        ["--attention-dropout", "1", "-m", "a"],
        ["--unknown", "-m", "a"],
    ],
)
def test_wrong_options(words: list[str]) -> None:
    with pytest.raises(SystemExit):
        options.parse(words)
