"""What trainers report, read back: curves, sums, what a resumed run replaces, and which rank broke it."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher import metrics
from launcher.metrics import Event


def step(at: int, loss: float, **more: Any) -> Event:
    return {"event": "step", "rank": 0, "step": at, "loss": loss, **more}


def usage(at: int, *, rank: int = 0, steps: int = 1, seconds: float = 1.0, **more: Any) -> Event:
    return {"event": "usage", "rank": rank, "step": at, "steps": steps, "seconds": seconds, **more}


def begin(*, rank: int = 0, world: int = 1, at: int = 0, **more: Any) -> Event:
    return {"event": "begin", "rank": rank, "world_size": world, "step": at, **more}


#: A run of two ranks that died in step 5, and was resumed behind step 2.
RESUMED: list[Event] = [
    *(begin(rank=rank, world=2) for rank in (0, 1)),
    *(event for at in (1, 2, 3, 4) for event in (step(at, 10.0 - at), usage(at), usage(at, rank=1))),
    {"event": "checkpoint", "rank": 0, "step": 2, "name": "checkpoint-2"},
    {"event": "checkpoint", "rank": 0, "step": 4, "name": "checkpoint-4"},
    {"event": "failure", "rank": 1, "time": 9.0, "type": "ValueError", "message": "broken", "traceback": "x"},
    *(begin(rank=rank, world=2, at=2, attempt=2) for rank in (0, 1)),
    *(event for at in (3, 4, 5) for event in (step(at, 1.0, attempt=2), usage(at, attempt=2))),
    *({"event": "end", "rank": rank, "step": 5, "attempt": 2} for rank in (0, 1)),
]


class TestAttempts:
    def test_what_was_done_again_is_replaced(self) -> None:
        kept = metrics.current(RESUMED)
        assert [(e["step"], e.get("attempt", 1)) for e in kept if e["event"] == "step"] == [
            *((1, 1), (2, 1)),
            *((3, 2), (4, 2), (5, 2)),
        ]
        assert [e["name"] for e in kept if e["event"] == "checkpoint"] == ["checkpoint-2"]
        assert sum(e["event"] == "begin" for e in kept) == 4
        assert metrics.current(kept) == kept

    def test_a_third_attempt_may_go_further_back(self) -> None:
        third = [begin(at=1, attempt=3), step(2, 0.5, attempt=3)]
        assert metrics.curves([*RESUMED, *third])["loss"] == ((1, 9.0), (2, 0.5))

    def test_an_attempt_that_never_trained_replaces_nothing(self) -> None:
        stopped = [{"event": "runtime", "rank": 0, "attempt": 3}]
        assert metrics.curves([*RESUMED, *stopped]) == metrics.curves(RESUMED)

    def test_one_attempt_alone(self) -> None:
        assert metrics.attempts(RESUMED) == [1, 2]
        assert {e.get("attempt", 1) for e in metrics.of_attempt(RESUMED, 1)} == {1}
        assert metrics.attempts([]) == []

    def test_the_world_is_that_of_the_last_attempt(self) -> None:
        assert metrics.world_problem(RESUMED, 2) == ""
        assert "ranks [0] trained" in metrics.world_problem([*RESUMED, begin(world=2, attempt=3)], 2)
        assert "never began" in metrics.world_problem([*RESUMED, {"event": "runtime", "attempt": 3}], 2)
        assert metrics.steps(RESUMED) == 5


class TestSummary:
    def test_nothing(self) -> None:
        assert metrics.summary([]) == metrics.Summary()
        assert metrics.curves([]) == {}

    def test_of_two_ranks(self) -> None:
        events = [
            *(usage(10, rank=rank, steps=10, seconds=90.0, tokens=1000, padded=2000) for rank in (0, 1)),
            usage(
                20,
                steps=10,
                seconds=10.0,
                tokens=3000,
                padded=4000,
                ram=5,
                ram_peak=7,
                device=4,
                device_peak=6,
            ),
            usage(
                *(20,),
                **{"rank": 1, "steps": 10, "seconds": 20.0, "tokens": 2000, "padded": 2000},
                **{"ram": 6, "ram_peak": 8, "device": 9, "device_peak": 9},
            ),
            step(20, 0.5, learning_rate=1e-5, grad_norm=2.0, eval_loss=0.25),
            {"event": "step", "rank": 0, "step": 20, "train_loss": 0.75},
        ]
        found = metrics.summary(events)
        assert found == metrics.Summary(
            steps=20,
            seconds_per_step=2.0,  # the slower rank's, without the first span
            tokens_per_second=300.0 + 100.0,
            padding=1 - 7000 / 10_000,
            ram_peak=15,
            device_peak=9,
            loss=0.5,
            train_loss=0.75,
            eval={"eval_loss": 0.25},
        )
        assert metrics.curves(events) == {
            "loss": ((20, 0.5),),
            "learning_rate": ((20, 1e-5),),
            "grad_norm": ((20, 2.0),),
            "eval_loss": ((20, 0.25),),
            "seconds_per_step": ((10, 9.0), (20, 2.0)),
            "tokens_per_second": ((10, 2000 / 90), (20, 400.0)),
            "ram": ((20, 11.0),),
            "device": ((20, 9.0),),
        }

    def test_what_rewards_come_to(self) -> None:
        logged = {"reward": 0.5, "rewards/exact/mean": 0.25, "rewards/exact/std": 0.1, "kl": 0.01}
        events = [step(1, 0.1, **logged, **{"completions/mean_length": 30.0, "clip_ratio/low_mean": 0.0})]
        assert set(metrics.curves(events)) == {
            *("loss", "reward", "rewards/exact/mean", "kl", "completions/mean_length"),
        }

    def test_a_single_span_is_better_than_none(self) -> None:
        assert metrics.summary([usage(2, steps=2, seconds=3.0)]).seconds_per_step == 1.5

    def test_the_median_is_of_steps_and_not_of_spans(self) -> None:
        events = [usage(1), usage(2, seconds=5.0), usage(12, steps=10, seconds=20.0), usage(13, seconds=9.0)]
        assert metrics.summary(events).seconds_per_step == 2.0

    def test_a_resumed_runs_mean_is_of_all_its_steps(self) -> None:
        """transformers divides the losses since the checkpoint by all steps."""
        wrong = {"event": "step", "rank": 0, "step": 5, "train_loss": 0.6, "attempt": 2}
        assert metrics.summary([*RESUMED, wrong]).train_loss == pytest.approx((9 + 8 + 1 + 1 + 1) / 5)

    def test_a_loss_that_is_no_number_is_said_and_not_drawn(self) -> None:
        events = [step(1, 1.0), step(2, math.nan)]
        assert metrics.curves(events)["loss"] == ((1, 1.0),)
        assert math.isnan(metrics.summary(events).loss or 0.0)


def failed(rank: int, at: float, kind: str, message: str, **more: Any) -> Event:
    text = f"Traceback …\n{kind}: {message}"
    return {
        "event": "failure",
        "rank": rank,
        "time": at,
        "type": kind,
        "message": message,
        "traceback": text,
    } | more


class TestFailure:
    @pytest.mark.parametrize(
        ("kind", "message"),
        [
            (
                "RuntimeError",
                "[/pytorch/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:4242",
            ),
            (
                "RuntimeError",
                "[…/unbound_buffer.cc:81] Timed out waiting 1800000ms for recv operation to complete",
            ),
            ("RuntimeError", "Application timeout caused pair closure"),
            (
                "torch.distributed.DistBackendError",
                "NCCL error in: …, remote process exited or there was a network error, NCCL version 2.27",
            ),
            ("torch.distributed.DistNetworkError", "failed to recv, got 0 bytes"),
            ("BrokenPipeError", "[Errno 32] Broken pipe"),
        ],
    )
    def test_what_follows_from_another_ranks_end_is_not_the_reason(self, kind: str, message: str) -> None:
        events = [failed(0, 1.0, kind, message), step(3, 0.1), failed(1, 2.0, "ValueError", "bad row")]
        found = metrics.failure(events)
        assert found is not None
        assert (found.rank, found.type, found.message, found.step) == (1, "ValueError", "bad row", 3)
        assert found.ranks == (0, 1)
        alone = metrics.failure(events[:1])
        assert alone is not None
        assert alone.rank == 0  # the one whose end it was may have been killed

    def test_the_first_by_time(self) -> None:
        found = metrics.failure([failed(0, 2.0, "KeyError", "'b'"), failed(3, 1.0, "KeyError", "'a'")])
        assert found is not None
        assert found.rank == 3

    def test_an_out_of_memory_in_a_collective_is_a_reason(self) -> None:
        oom = failed(1, 2.0, "torch.OutOfMemoryError", "CUDA out of memory. Tried to allocate 2.00 GiB.")
        found = metrics.failure([failed(0, 1.0, "RuntimeError", "Connection reset by peer"), oom])
        assert found is not None
        assert found.rank == 1

    def test_of_the_last_attempt(self) -> None:
        assert metrics.failure(RESUMED) is None
        first = metrics.failure(metrics.of_attempt(RESUMED, 1))
        assert first is not None
        assert (first.rank, first.step, first.attempt) == (1, 4, 1)


# ---------------------------------------------------------------------------------- whatever the lines hold
_KEYS = (
    "event rank step steps seconds tokens padded ram ram_peak device device_peak loss train_loss eval_loss"
    " attempt world_size time type message traceback buckets max_steps"
).split()
_KINDS = "runtime buckets begin step usage checkpoint memory end failure".split()
_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
_VALUES = st.recursive(
    _SCALARS | st.integers(0, 9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)
_EVENTS = st.lists(
    st.builds(
        lambda fields, kind: {**fields, **({"event": kind} if kind else {})},
        st.dictionaries(st.sampled_from(_KEYS) | st.text(max_size=4), _VALUES, max_size=10),
        st.sampled_from([*_KINDS, ""]),
    ),
    max_size=12,
)


@given(_EVENTS)
def test_no_events_raise(events: list[Event]) -> None:
    kept = metrics.current(events)
    assert all(event in events for event in kept)
    for points in metrics.curves(events).values():
        assert [at for at, _ in points] == sorted({at for at, _ in points})
        assert all(math.isfinite(value) for _, value in points)
    found = metrics.summary(events)
    assert found.padding is None or found.padding <= 1 or math.isfinite(found.padding)
    failure = metrics.failure(events)
    assert (failure is not None) >= any(
        event.get("event") == "failure"
        for event in metrics.of_attempt(events, max(metrics.attempts(events), default=1))
    )
    assert isinstance(metrics.world_problem(events, 2), str)
    metrics.final_numbers(events)
    metrics.buckets(events)
    metrics.runtime(events)


_STEPS = st.lists(st.tuples(st.integers(1, 50), st.floats(0.1, 9), st.integers(1, 3)), max_size=20)


@given(_STEPS, st.randoms())
def test_the_order_of_the_lines_is_of_no_account(rows: list[tuple[int, float, int]], random: Any) -> None:
    """Ranks and attempts write as they come; only the last line of one rank's one step counts twice."""
    unique = {
        (at, rank): usage(at, rank=rank, seconds=seconds, tokens=10, padded=20) for at, seconds, rank in rows
    }
    events = list(unique.values())
    shuffled = random.sample(events, len(events))
    assert metrics.curves(events).keys() == metrics.curves(shuffled).keys()
    one, other = metrics.summary(events), metrics.summary(shuffled)
    assert one.seconds_per_step == other.seconds_per_step
    assert one.padding == other.padding
    assert one.tokens_per_second == pytest.approx(other.tokens_per_second)


def test_a_growing_file_is_read_by_whole_lines(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    reader = metrics.Reader(file)
    assert reader.new() == []
    lines = [json.dumps(event) for event in RESUMED]
    file.write_text("\n".join([lines[0], "no JSON", "[1]", lines[1][:9]]))
    assert reader.new() == [RESUMED[0]]
    file.write_text("\n".join([lines[0], "no JSON", "[1]", lines[1], ""]))
    assert reader.new() == [RESUMED[1]]
    assert reader.events == RESUMED[:2] == metrics.read(file)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20)), max_size=30))
def test_several_nodes_are_read_as_one(
    tmp_path_factory: pytest.TempPathFactory, written: list[tuple[int, int]]
) -> None:
    """Each node's events stay in its order, and whoever reads while they come sees each of them once."""
    folder = tmp_path_factory.mktemp("run")
    growing, seen = metrics.Reader(folder / "metrics.jsonl"), []
    for number, (node, at) in enumerate(written):
        name = f"metrics.{node}.jsonl" if node else "metrics.jsonl"
        with (folder / name).open("a") as stream:
            stream.write(json.dumps({"event": "usage", "rank": node, "time": at, "number": number}) + "\n")
        if number % 7 == 0:
            seen += growing.new()
    seen += growing.new()
    whole = metrics.read(folder / "metrics.jsonl")
    for events in (whole, seen):
        assert sorted(event["number"] for event in events) == list(range(len(written)))
        for node in range(4):
            of_node = [event["number"] for event in events if event["rank"] == node]
            assert of_node == sorted(of_node)
    if all(at == sorted(at) for node in range(4) if (at := [at for of, at in written if of == node])):
        assert [event["time"] for event in whole] == sorted(at for _, at in written)


def test_the_newest_values_are_those_of_the_first_node(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 7, "loss": 1.5}\n')
    (tmp_path / "metrics.1.jsonl").write_text('{"step": 9, "ram": 3}\n')
    assert metrics.latest(tmp_path / "metrics.jsonl") == {"step": 7, "loss": 1.5, "ram": 3}
    assert [file.name for file in metrics.files(tmp_path)] == ["metrics.jsonl", "metrics.1.jsonl"]
