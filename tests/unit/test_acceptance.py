"""Acceptance, the pure part: rows that never change, losses judged by their fall, paces, what is unsaid."""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher import data, paths
from launcher.acceptance import (
    CURVES,
    GROUP_SIZE,
    PRECISIONS,
    WARM_UP,
    Check,
    Curve,
    Report,
    Speed,
    judging,
    private,
    texts,
)
from launcher.acceptance import report as rendering
from launcher.acceptance.private import Secrets
from launcher.data import Rules
from launcher.errors import RecordError

Golden = Callable[[str, str], None]

RECORD = judging.read((paths.images() / "acceptance.toml").read_text(), source="acceptance.toml")


def events(
    losses: Any, *, device: str = "cpu:0", first: float = 100.0, pace: float = 2.0
) -> list[dict[str, Any]]:
    """What a trainer reports of a training."""
    lines: list[dict[str, Any]] = [{"event": "begin", "rank": 0, "device": device, "time": first - 9}]
    lines += [
        {"event": "step", "loss": loss, "step": number, "time": first + number * pace}
        for number, loss in enumerate(losses)
    ]
    lines += [{"event": "step", "train_loss": 1.0, "time": first + 999}]
    return [*lines, {"event": "end", "rank": 0}, {"event": "memory", "before": 1, "peak": 7, "allocated": 5}]


def test_the_record_belongs_to_the_rows_and_the_recipes() -> None:
    assert hashlib.sha256(texts.short().encode()).hexdigest() == RECORD.data_sha256
    assert set(RECORD.curves) == {recipe for recipe, _ in CURVES}
    assert set(RECORD.tolerance) == set(PRECISIONS)
    assert RECORD.tolerance["fp32"] < RECORD.tolerance["bf16"]
    assert all(len(each.losses) == 5 and len(each.weights_sha256) == 64 for each in RECORD.curves.values())
    assert all(each.source for each in RECORD.reported())


@pytest.mark.parametrize("text", ["schema = 1", "schema = [", "schema = 2\nmachine = 'm'"])
def test_a_damaged_record(text: str) -> None:
    with pytest.raises(RecordError, match=r"a\.toml cannot be read"):
        judging.read(text, source="a.toml")


def test_rows_that_decide_nothing_by_chance(tmp_path: Any) -> None:
    """A batch holds all rows and a group all negatives; no text comes twice, so no negative is an answer."""
    (tmp_path / "short.jsonl").write_text(texts.short())
    (file,) = data.check((tmp_path / "short.jsonl",), Rules(format="reranker", scores=False, unified=False))
    assert file.rows == texts.ROWS
    rows = [json.loads(line) for line in texts.short().splitlines()]
    assert all((len(row["pos"]), len(row["neg"])) == (1, GROUP_SIZE - 1) for row in rows)
    passages = [text for row in rows for text in (*row["pos"], *row["neg"])]
    assert len(set(passages)) == len(passages)


def test_every_pair_is_as_long_as_it_may_be() -> None:
    rows = [json.loads(line) for line in texts.long(9).splitlines()]
    assert len(rows) == 9
    assert all(len(row["query"].split()) >= 512 for row in rows)
    assert all(len(text.split()) >= 512 for row in rows for text in (*row["pos"], *row["neg"]))
    assert all(len(row["neg"]) >= GROUP_SIZE - 1 for row in rows)


def judged(recipe: str, precision: str, losses: Any, device: str = "cpu:0", **more: str) -> Curve:
    return judging.curve(RECORD, recipe, precision, events(losses, device=device), device="cpu", **more)


@pytest.mark.parametrize("recipe", list(RECORD.curves))
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_curve_may_be_off_by_its_share_of_the_fall(recipe: str, precision: str) -> None:
    recorded = RECORD.curves[recipe].losses
    allowed = RECORD.tolerance[precision] * (recorded[0] - recorded[-1])
    good = judged(recipe, precision, [loss + 0.9 * allowed for loss in recorded])
    assert (good.status, good.detail) == ("ok", "")
    bad = judged(recipe, precision, [*recorded[:-1], recorded[-1] + 1.1 * allowed + 1e-4])
    assert bad.status == "failed"
    assert "is allowed" in bad.detail
    # A training that does not learn at all never passes, in whatever precision.
    assert judged(recipe, precision, [recorded[0]] * len(recorded)).status == "failed"


@pytest.mark.parametrize(
    ("losses", "said"),
    [([], "0 of 5 steps"), ([2.0] * 4, "4 of 5 steps"), ([2.0, math.nan, 1.0, 1.0, 1.0], "not finite")],
)
def test_a_curve_that_cannot_be_compared(losses: list[float], said: str) -> None:
    found = judged("bge-reranker", "bf16", losses)
    assert (found.status, found.off) == ("failed", None)
    assert said in found.detail


def test_a_training_on_another_device_has_failed() -> None:
    losses = RECORD.curves["bge-reranker"].losses
    found = judging.curve(RECORD, "bge-reranker", "fp32", events(losses), device="xpu")
    assert (found.status, found.detail) == ("failed", "it trained on cpu:0, not on xpu")
    assert judging.speed(slow("fp32"), events([1.0] * 9), device="xpu").status == "failed"
    assert judging.curve(RECORD, "bge-reranker", "fp32", [], device="xpu").detail.startswith(
        "it trained on an"
    )


def test_other_first_weights_are_said() -> None:
    curve = RECORD.curves["bge-reranker"]
    same = judged("bge-reranker", "fp32", curve.losses, weights_sha256=curve.weights_sha256)
    assert same.same_start is True
    other = judged("bge-reranker", "fp32", [1.0] * 5, weights_sha256="0" * 64)
    assert other.same_start is False
    assert "not those of the record" in other.detail
    assert judged("bge-reranker", "fp32", curve.losses).same_start is None


def slow(precision: str, *, unsloth: bool = False) -> Speed:
    return Speed(precision=precision, unsloth=unsloth, status="failed")


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=20))
def test_the_pace_is_the_median_after_the_warm_up(paces: list[float]) -> None:
    times = [0.0]
    for pace in [1000.0] * (WARM_UP - 1) + paces:
        times.append(times[-1] + pace)
    steps = [{"event": "step", "loss": 1.0, "time": time} for time in times]
    lines = [{"event": "begin", "device": "xpu:0"}, *steps, {"event": "end"}, {"event": "memory", "peak": 3}]
    found = judging.speed(slow("bf16"), lines, device="xpu")
    assert (found.status, found.steps, found.peak_memory, found.peak_reserved) == ("ok", len(paces), 3, None)
    assert found.fastest is not None
    assert found.step_seconds is not None
    assert found.slowest is not None
    assert found.fastest <= found.step_seconds <= found.slowest
    assert found.slowest == pytest.approx(max(paces), abs=1e-3)


def test_too_few_steps_to_measure() -> None:
    found = judging.speed(slow("bf16"), events([1.0] * WARM_UP), device="cpu")
    assert (found.status, found.detail) == ("failed", f"{WARM_UP} steps were logged, too few to measure")


SECRETS = Secrets(
    folders={"/home/jo": "~", "/home/jo/.cache/launch": "[cache]", "/": "[root]"},
    names={"box": "[host]", "jo": "[user]", "": "[none]"},
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("/home/jo/.cache/launch/x and /home/jo/y", "[cache]/x and ~/y"),
        ("/home/joanna/data", "/home/[user]/data"),
        ("on box: jo, not a boxer or a joke", "on [host]: [user], not a boxer or a joke"),
        ("/mnt/jo/data", "/mnt/[user]/data"),
        ("host : box.example.org\n", "host : [host]\n"),
    ],
)
def test_what_is_unsaid(text: str, said: str) -> None:
    assert SECRETS.cleaned(text) == said


def made_up() -> Report:
    """A machine with one Arc Pro B60, where one training failed and one could not be had."""
    recorded = RECORD.curves["bge-reranker"].losses
    measured = judging.speed(
        Speed(
            precision="bf16",
            unsloth=False,
            status="failed",
            seconds=80.0,
            parameters=(("precision", "bf16"),),
        ),
        [
            *events([2.0] * (WARM_UP + 3), device="xpu:0", pace=1.5)[:-1],
            {"event": "memory", "before": 1, "peak": 9_800_000_000, "allocated": 9_000_000_000},
        ],
        device="xpu",
    )
    return Report(
        created="2026-11-21T12:00:00+00:00",
        target="xpu",
        engine="docker",
        complete=True,
        steps=("facts", "checks", "curves", "speed"),
        size="large",
        model={"num_hidden_layers": 24, "vocab_size": 250002},
        facts={
            "launcher": "1.2.3",
            "image": {"reference": "finetune:xpu-0123456789ab", "digest": "sha256:0"},
            "system": {"os": "Ubuntu 24.04", "cpu": "", "ram_bytes": 64_000_000_000},
            "left_out": [],
            "intel": {
                "others": 1,
                "gpu": [
                    {
                        "name": "Arc Pro B60",
                        "device": "8086:e211",
                        "driver": "xe",
                        "bar_bytes": 25_769_803_776,
                    }
                ],
            },
        },
        checks=(
            Check(name="imports", status="ok", detail="90 modules imported", seconds=12.3),
            Check(
                name="triton", status="failed", detail="a|b <x>\n```\nat /home/jo/kernel on box", seconds=2.0
            ),
            Check(name="bitsandbytes", status="needs-gpu", detail="which one it takes shows with a GPU"),
        ),
        curves=(
            judging.curve(RECORD, "bge-reranker", "fp32", events(recorded, device="xpu:0"), device="xpu"),
            judging.curve(RECORD, "bge-m3-unified", "bf16", events([1.0] * 5, device="xpu:0"), device="xpu"),
        ),
        speed=(measured, replace(slow("fp32", unsloth=True), status="left-out", detail="not in this target")),
        known=RECORD.reported(),
        notes=("the image is partial | a note",),
        seconds=601.2,
    )


def test_golden_report(golden: Golden) -> None:
    golden("accept/xpu.md", rendering.render(private.cleaned(made_up(), SECRETS)))


def test_the_report_ends_with_all_its_data() -> None:
    text = rendering.render(made_up())
    said = json.loads(text.rpartition("```json\n")[2].removesuffix("```\n"))
    assert said == json.loads(json.dumps(rendering.as_data(made_up())))
    assert said["speed"][0]["parameters"] == {"precision": "bf16"}


def test_the_verdict() -> None:
    report = made_up()
    assert [name for name, _ in report.failed] == ["check triton", "losses of bge-m3-unified, bf16"]
    assert rendering.verdict(report) == "2 failed; undecided without a GPU: bitsandbytes"
    good = replace(report, checks=(), curves=())
    assert rendering.verdict(good) == "nothing failed"
    broken = replace(good, complete=False, speed=())
    assert rendering.verdict(broken) == "INCOMPLETE, it was interrupted; so far nothing failed"
    assert "Not run." in rendering.render(broken)
