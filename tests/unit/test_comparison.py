"""launcher.comparison: what differs between runs, which figure is the best one, and what is not compared."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher import comparison
from launcher.comparison import Comparison, Fact, Outcome, Run, compare


def run(name: str, *, parameters: dict[str, str] | None = None, **figures: float) -> Run:
    facts = (
        Fact(group="recipe", name="recipe", value="bge-m3-unified"),
        *(Fact(group="parameter", name=key, value=value) for key, value in (parameters or {}).items()),
        Fact(group="data", name="train.jsonl sha256", value="d1"),
        Fact(group="host", name="cpus", value="2"),
    )
    return Run(
        name=name,
        recipe="bge-m3-unified",
        state="done",
        said="",
        trains=True,
        facts=facts,
        figures=tuple({"steps": 10, **figures}.items()),
    )


def outcome(found: Comparison, key: str) -> Outcome:
    return next(each for each in found.outcomes if each.figure.key == key)


def best(found: Comparison, key: str) -> list[bool]:
    return [cell.best for cell in outcome(found, key).cells]


def test_only_what_differs() -> None:
    found = compare(
        [
            run("a", parameters={"learning_rate": "2e-3", "seed": "1", "warmup_ratio": "0.1"}),
            run("b", parameters={"learning_rate": "0.002", "seed": "2"}),
        ]
    )
    # one number in two spellings is the same; what one of the runs does not have is not
    assert [(row.name, row.values) for row in found.differing] == [
        ("seed", ("1", "2")),
        ("warmup_ratio", ("0.1", None)),
    ]
    assert {row.name for row in found.rows} >= {"learning_rate", "cpus"}
    assert not found.notes


def test_the_best_has_a_direction() -> None:
    a = run("a", seconds_per_step=0.2, tokens_per_second=100, loss=1.0, eval_ndcg=0.5, eval_margin=2)
    b = run("b", seconds_per_step=0.1, tokens_per_second=300, loss=0.5, eval_ndcg=0.4, eval_margin=1)
    found = compare([a, b])
    assert best(found, "seconds_per_step") == [False, True]
    assert best(found, "tokens_per_second") == [False, True]
    assert best(found, "loss") == [False, True]
    assert best(found, "eval_ndcg") == [True, False]
    assert best(found, "eval_margin") == [False, False]  # nobody knows which is better
    assert [cell.ratio for cell in outcome(found, "seconds_per_step").cells] == [1, 0.5]
    assert [cell.measure for cell in outcome(found, "tokens_per_second").cells] == ["", "×3"]


def test_nothing_is_the_best_of_equals_or_alone() -> None:
    found = compare([run("a", loss=1.0, seconds=3), run("b", loss=1.0)])
    assert best(found, "loss") == [False, False]
    assert best(found, "seconds") == [False, False]
    assert [cell.ratio for cell in outcome(found, "seconds").cells] == [1, None]


def test_fewer_steps_are_marked_and_win_in_speed_alone() -> None:
    long = run("a", loss=1.0, seconds=100, seconds_per_step=0.2)
    short = run("b", loss=0.1, seconds=3, seconds_per_step=0.1, steps=5)
    found = compare([long, short])
    for key in ("loss", "seconds"):
        assert best(found, key) == [False, False]
        assert [cell.fewer for cell in outcome(found, key).cells] == [False, True]
    assert best(found, "seconds_per_step") == [False, True]
    assert any("fewer steps" in note for note in found.notes)
    assert not any(cell.fewer for cell in outcome(found, "steps").cells)


@pytest.mark.parametrize("state", ["failed", "stopped", "open"])
def test_a_run_that_is_not_done_is_never_the_best(state: Any) -> None:
    broken = replace(run("b", seconds_per_step=0.1, loss=0.1), state=state, said="it broke")
    found = compare([run("a", seconds_per_step=0.2, loss=1.0), broken])
    assert best(found, "seconds_per_step") == best(found, "loss") == [False, False]
    assert "b: it broke" in found.notes


@pytest.mark.parametrize("name", ["temperature", "per_device_train_batch_size", "train_group_size"])
def test_losses_that_measure_other_things_have_no_best(name: str) -> None:
    a = run("a", parameters={name: "1"}, loss=1.0, seconds=2)
    b = run("b", parameters={name: "2"}, loss=0.5, seconds=1)
    found = compare([a, b])
    assert best(found, "loss") == [False, False]
    assert best(found, "seconds") == [False, True]
    assert any(name in note for note in found.notes)


def test_other_data_make_other_losses() -> None:
    other = run("b", loss=0.5)
    facts = tuple(replace(fact, value="d2") if fact.group == "data" else fact for fact in other.facts)
    found = compare([run("a", loss=1.0), replace(other, facts=facts)])
    assert best(found, "loss") == [False, False]
    assert any("data" in note for note in found.notes)


def test_different_recipes_are_shown_and_not_judged() -> None:
    tool = Run(
        name="b",
        recipe="evaluate",
        state="done",
        said="",
        trains=False,
        facts=(
            Fact(group="recipe", name="recipe", value="evaluate"),
            Fact(group="parameter", name="k", value="10"),
        ),
        figures=(("seconds", 1.0),),
    )
    found = compare([run("a", parameters={"seed": "1"}, seconds=100), tool])
    assert best(found, "seconds") == [False, False]
    assert not any(cell.fewer for cell in outcome(found, "seconds").cells)
    # a parameter that only one of the recipes knows is no difference between the runs
    assert "seed" not in {row.name for row in found.differing}
    assert any("different recipes" in note for note in found.notes)
    assert any("does not train" in note for note in found.notes)


def test_what_an_open_run_cannot_know_yet_is_no_difference() -> None:
    running = run("b")
    facts = tuple(fact for fact in running.facts if fact.group != "host")
    assert [row.name for row in compare([run("a"), replace(running, facts=facts)]).differing] == ["cpus"]
    assert not compare([run("a"), replace(running, facts=facts, state="open")]).differing


def test_a_loss_that_is_no_number_beats_nobody() -> None:
    found = compare([run("a", loss=math.nan), run("b", loss=1.0), run("c", loss=2.0)])
    assert best(found, "loss") == [False, True, False]
    assert [cell.ratio for cell in outcome(found, "loss").cells] == [None, None, None]


@given(st.lists(st.tuples(st.integers(1, 20), st.floats(0.01, 100)), min_size=1, max_size=5))
def test_marks_keep_their_word(given_runs: list[tuple[int, float]]) -> None:
    runs = [run(str(at), steps=steps, loss=loss) for at, (steps, loss) in enumerate(given_runs)]
    found = compare(runs)
    cells = outcome(found, "loss").cells
    most = max(steps for steps, _ in given_runs)
    for (steps, _), cell in zip(given_runs, cells, strict=True):
        assert cell.fewer == (steps < most)
        assert not (cell.best and cell.fewer)
    full = [cell.value for cell in cells if not cell.fewer and cell.value is not None]
    assert all(cell.value == min(full) for cell in cells if cell.best)


def test_facts_of_a_plan(bench: Any) -> None:
    data = bench.data()
    plan = bench.plan(target="cpu", data=(data,), model=str(bench.model()), parameters={"seed": "7"}).plan
    result = {
        "model": {"weights_sha256": "w" * 64},
        "versions": {"launcher": "1", "python": "3.11.7", "docker": "26"},
        "runtime": {"patches": [{"name": "prompts", "version": 1}], "off": [], "options": {"unsloth": False}},
        "host": {"cpus": 8, "memory": 64 << 30, "cards": None},
    }
    found = {(fact.group, fact.name): fact.value for fact in comparison.of_run(plan, result)}
    assert found["parameter", "seed"] == "7"
    assert found["data", "train.jsonl"].startswith("4 rows, ")
    assert found["model", "model identity"] == "w" * 64
    assert found["packages", "python"] == "3.11.7"
    assert found["runtime", "patch prompts"] == "version 1"
    assert found["runtime", "options: unsloth"] == "false"
    assert found["host", "RAM"] == "64.00 GiB"
    assert ("host", "cards") not in found
    # before the end: the same, without what nobody knows yet
    assert {key for key in found if key[0] == "parameter"} <= {
        (fact.group, fact.name) for fact in comparison.of_run(plan, None)
    }


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (0.1504, "s", "0.15 s"),
        (12345.6, "tokens/s", "12,346/s"),
        (0.267, "share", "26.7 %"),
        (3 << 30, "bytes", "3.00 GiB"),
        (700 << 20, "bytes", "700 MiB"),
        (1500, "bytes", "1 KiB"),
        (300, "steps", "300"),
        (0.52684, "", "0.5268"),
        (math.nan, "", "nan"),
        (42.04, "duration", "42 s"),
        (185, "duration", "3 min 05 s"),
        (7625, "duration", "2 h 07 min"),
        (3599.7, "duration", "1 h 00 min"),
    ],
)
def test_numbers_have_units(value: float, unit: str, expected: str) -> None:
    assert comparison.text(value, unit) == expected


def test_letters_and_hashes() -> None:
    assert comparison.letters(28)[-3:] == ["Z", "27", "28"]
    assert comparison.shortened("image digest", "sha256:" + "a" * 64) == "a" * 12
    assert comparison.shortened("seed", "1" * 64) == "1" * 64
