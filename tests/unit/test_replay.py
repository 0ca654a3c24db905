"""launcher.replay: what differs, what may, and whether two runs came out equal."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher import replay
from launcher.errors import UsageError
from launcher.replay import KINDS, Fact
from launcher.replay.differences import allowed

SHA = "0123456789abcdef" * 4


def fact(kind: str, was: str, now: str, subject: str = "it") -> Fact:
    return Fact(kind=kind, subject=subject, was=was, now=now)


def test_everything_that_differs_is_said_at_once() -> None:
    found = replay.compare(
        [
            fact("data", SHA, "f" * 64, "rows.jsonl"),
            fact("recipe", "same", "same"),
            fact("image", "", "sha256:1", "the image x"),
            fact("model", SHA, "", "the model y"),
            fact("host", "6.1", "6.2", "the kernel"),
        ]
    )
    assert found.kinds() == ("data", "model")
    data, model = found.differences
    assert str(data) == "rows.jsonl has changed: was 0123456789ab, is ffffffffffff"
    assert str(model) == "the model y is not on this machine: was 0123456789ab"
    assert found.unknown == (("image", "the image x"),)
    assert [str(note) for note in found.notes] == ["the kernel has changed: was 6.1, is 6.2"]


def test_what_is_missing_cannot_be_allowed() -> None:
    found = replay.compare([fact("data", "1", "2"), fact("lock", "1", "2"), fact("model", "1", "")])
    assert [each.kind for each in found.refused(())] == ["data", "lock", "model"]
    assert [each.kind for each in found.refused(("data",))] == ["lock", "model"]
    assert [each.kind for each in found.refused(("all",))] == ["model"]


def test_allow_takes_kinds() -> None:
    assert allowed(["data", "all"]) == {"data", "all"}
    for wrong in ("host", "dta"):  # what is always a note needs no leave
        with pytest.raises(UsageError, match=repr(wrong)):
            allowed(["data", wrong])


@given(st.lists(st.tuples(st.sampled_from(list(KINDS)), st.text(max_size=2), st.text(max_size=2))))
def test_every_fact_is_equal_different_noted_or_unknown(pairs: list[tuple[str, str, str]]) -> None:
    found = replay.compare([fact(kind, was, now) for kind, was, now in pairs])
    equal = sum(was == now != "" for _, was, now in pairs)
    assert equal + len(found.differences) + len(found.notes) + len(found.unknown) == len(pairs)
    assert set(found.refused(())) >= set(found.refused(tuple(KINDS)))


def steps(*losses: float, attempt: int = 1, first: int = 1) -> list[dict[str, Any]]:
    return [
        {"event": "step", "rank": 0, "step": first + n, "loss": loss, "time": n, "attempt": attempt}
        for n, loss in enumerate(losses)
    ]


def test_equal_to_the_bit() -> None:
    found = replay.judge(
        steps(2.0, 1.0), steps(2.0, 1.0), {"model.safetensors": SHA}, {"model.safetensors": SHA}
    )
    assert found.equal
    assert str(found) == f"equal to the bit: 2 steps, model.safetensors sha256 {SHA}"


def test_from_which_step_and_by_how_much() -> None:
    found = replay.judge(
        steps(2.0, 1.0, 1.0), steps(2.0, 1.5, 1.1), {"a": "1", "b": "2"}, {"a": "1", "b": "3"}
    )
    assert not found.equal
    assert (found.first, found.relative) == (2, (pytest.approx(1 / 3), "loss"))
    said = str(found)
    assert "differs from step 2 on, loss by 0.333" in said
    assert "b differs" in said
    assert "equal: a" in said


def test_another_number_of_steps_and_other_files() -> None:
    found = replay.judge(steps(2.0), steps(2.0, 1.0), {"a": "1"}, {"b": "1"})
    assert not found.equal
    for part in ("reported 1 steps, this one 2", "a is not in this result", "b is new"):
        assert part in str(found)


def test_what_nobody_knows_is_not_called_equal() -> None:
    assert not replay.judge([], [], None, {"a": "1"}).equal
    assert not replay.judge([], [], {}, {}).equal
    known = replay.judge(steps(1.0), steps(1.0), None, {"a": "1"})
    assert known.equal
    assert "files are not known" in str(known)


def test_no_number_equals_itself_here() -> None:
    assert replay.judge(steps(math.nan), steps(math.nan), {}, {}).equal
    found = replay.judge(steps(math.nan), steps(1.0), {}, {})
    assert (found.first, found.relative[0]) == (1, math.inf)


def test_a_resumed_run_counts_as_it_ended() -> None:
    resumed = [
        *steps(2.0, 9.0),
        {"event": "begin", "rank": 0, "step": 1, "attempt": 2},
        *steps(1.0, attempt=2, first=2),
    ]
    assert replay.judge(steps(2.0, 1.0), resumed, {}, {}).equal
