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


def test_stages_2_and_3_send_for_every_batch_that_is_accumulated() -> None:
    def sent(stage: int | None) -> float:
        full = Setup(kind="sft", stage=stage, world=64, accumulation=4)
        return scale.traffic(LLAMA, full).gradients / (63 / 64 * 2 * LLAMA.causal)

    assert [sent(stage) for stage in (1, 2, 3)] == [2, 5, 12]
    assert sent(None) == 2 * 2, "DDP sums in 32 bit, once"


def test_grpo_tells_all_processes_of_all_answers() -> None:
    grpo = Setup(
        kind="grpo", method="lora", world=8, batch=8, generated=32, query_length=100, passage_length=300
    )
    sent = scale.traffic(LLAMA, grpo)
    assert sent.answers == 7 * 32 * (8 + 8 + 1 + 4 + 4 * 400)
    assert sent.total == sent.gradients + sent.answers


def test_sparse_and_colbert_vectors_would_be_far_more_than_dense_ones() -> None:
    step = replace(DENSE, world=64, unified=True)
    assert scale.dense_vectors(M3, step) == 63 * 36 * 1024 * 2
    assert scale.sparse_vectors(M3, step) == 63 * 36 * 250_002 * 2
    assert scale.colbert_vectors(M3, step) == 63 * (4 * 64 + 32 * 256) * 1024 * 2
    assert scale.traffic(M3, step).vectors == scale.dense_vectors(M3, step), "these alone are shared"


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


def test_every_device_compares_everything() -> None:
    assert scale.comparing(M3, replace(DENSE, world=8)) == 6 * 32 * (32 * 8) * 1024
    assert scale.comparing(M3, replace(DENSE, world=8, cross_device=False)) == 6 * 4 * (4 * 8) * 1024


def test_the_devices_whose_table_still_fits() -> None:
    assert scale.devices_within(DENSE, 14 * (64 * 4) ** 2 * 8) == 64
    assert scale.devices_within(DENSE, 14 * (64 * 4) ** 2 * 8 - 1) == 63
    assert scale.devices_within(replace(DENSE, batch=16), 10e9) == 590


@pytest.mark.parametrize(("cross", "left"), [(True, 1 / 8), (False, 1.0)])
def test_the_mean_of_the_processes_divides_a_loss_that_each_has_a_share_of(cross: bool, left: float) -> None:
    assert scale.weight(replace(DENSE, world=8, cross_device=cross)) == left


def test_an_epoch_leaves_out_each_files_rest_or_the_datas() -> None:
    step = replace(DENSE, world=8)  # 32 rows at a time
    files = [100, 31, 64]
    assert scale.epoch(files, step, same_dataset=True) == scale.Epoch(rows=32, steps=5, left_out=4 + 31)
    assert scale.epoch(files, step, same_dataset=False) == scale.Epoch(rows=32, steps=6, left_out=3)
    four = replace(step, accumulation=4)
    assert scale.epoch(files, four, same_dataset=True) == scale.Epoch(rows=128, steps=2, left_out=35)


def test_the_longest_of_many_answers_is_soon_the_longest_there_is() -> None:
    assert scale.reached(0.5, 2) == 0.75
    assert scale.reached(0.01, 0) == 0
