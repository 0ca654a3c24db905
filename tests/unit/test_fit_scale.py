"""launcher.fit.scale, and what an embedder's loss takes on many devices, against sums by hand."""

import json
from dataclasses import replace

import pytest

from launcher.fit import arch, parts, scale, states
from launcher.fit.step import Setup
from tests.conftest import ROOT

MODELS = json.loads((ROOT / "tests/support/models.json").read_text())
M3 = arch.read(MODELS["BAAI/bge-m3"]["config"])
LLAMA = arch.read(MODELS["Llama-3.1-8B"]["config"])
DENSE = Setup(
    kind="dense", batch=4, group=8, query_length=64, passage_length=256, cross_device=True, checkpointing=True
)


def similarities(step: Setup) -> float:
    """The largest there is at any moment of the step."""
    return max(p.bytes for m in parts.moments(M3, step) for p in m.parts if p.name == "similarities")


def test_one_device_sends_nothing() -> None:
    assert scale.traffic(M3, DENSE).total == 0
    assert scale.negatives(DENSE) == 31


def test_ddp_sends_each_gradient_nearly_twice() -> None:
    sent = scale.traffic(M3, replace(DENSE, world=8))
    assert sent.gradients == 2 * 7 / 8 * 4 * states.count(M3, DENSE).trained
    assert sent.vectors == 7 * 4 * 9 * 1024 * 2


def test_deepspeed_sends_16_bits_and_stage_3_once_more() -> None:
    full = Setup(kind="sft", stage=2, world=64)
    two, three = (scale.traffic(LLAMA, replace(full, stage=stage)).gradients for stage in (2, 3))
    assert two == 2 * 63 / 64 * 2 * LLAMA.causal
    assert three == 1.5 * two


def test_adapters_alone_are_sent() -> None:
    lora = Setup(kind="sft", method="lora", rank=16, world=8)
    assert scale.traffic(LLAMA, lora).gradients == 2 * 7 / 8 * 4 * 41_943_040


@pytest.mark.parametrize(("cross", "compared"), [(True, 8 * 4 * 8 - 1), (False, 4 * 8 - 1)])
def test_negatives_come_from_all_devices_where_they_are_shared(cross: bool, compared: int) -> None:
    assert scale.negatives(replace(DENSE, world=8, cross_device=cross)) == compared


def test_the_table_of_similarities_grows_with_the_square_of_the_devices() -> None:
    def table(world: int, **more: bool) -> float:
        step = replace(DENSE, world=world, **more)  # type: ignore[arg-type]
        vectors = 3 * 2 * 1024 * 4 * world * 9 if world > 1 else 0
        return similarities(step) - vectors

    assert table(1) == 14 * 4 * 4 * 8
    assert table(64) == 14 * (64 * 4) ** 2 * 8
    assert table(64, distilled=True) == (12 + 4 * 8) * (64 * 4) ** 2 * 8
    assert similarities(replace(DENSE, world=64, cross_device=False)) == table(1)


def test_checkpoints_and_adapters_change_the_operations() -> None:
    step = Setup(kind="sft", batch=1, passage_length=1)
    once = LLAMA.layers * LLAMA.matrices + LLAMA.word_embeddings
    assert scale.operations(LLAMA, step) == 6 * once
    assert scale.operations(LLAMA, replace(step, checkpointing=True)) == 8 * once
    assert scale.operations(LLAMA, replace(step, method="lora", accumulation=2)) == 2 * 4 * once
