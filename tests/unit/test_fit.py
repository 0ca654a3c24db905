"""launcher.fit: what a step takes, when it fits, what would help, and what a probe changes."""

import json
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher import fit, paths, recipe
from launcher.errors import UsageError
from launcher.fit import Probe, advice, arch, devices, judge, parts, probes, states
from launcher.fit.advice import Question
from launcher.fit.step import Setup, kind_of, setup
from tests.conftest import ROOT

MODELS = json.loads((ROOT / "tests/support/models.json").read_text())
M3 = MODELS["BAAI/bge-m3"]["config"]
SHAPE = arch.read(M3)
LLAMA = arch.read(MODELS["Llama-3.1-8B"]["config"])
GIB = 1 << 30
STEP = Setup(
    kind="m3", batch=2, group=8, query_length=512, passage_length=512, unified=True, checkpointing=True
)


def values(name: str = "bge-m3-unified", target: str = "cuda", **changed: str) -> dict[str, str]:
    """The parameters of a shipped recipe."""
    return dict(recipe.load(paths.recipes() / f"{name}.sh").values(target, changed))


def total(step: Setup, shape: arch.Shape = SHAPE) -> float:
    return parts.peak(shape, step).total


# ------------------------------------------------------------------------------------------------ from a
# recipe
def test_a_recipe_says_what_is_trained() -> None:
    step = setup(values(), data_format="embedder", device="cuda")
    assert (step.kind, step.unified, step.checkpointing, step.precision) == ("m3", True, True, "bf16")
    assert step.texts == ((2, 512), (16, 512))
    assert step.sparse_patch
    reranker = setup(values("bge-reranker"), data_format="reranker", device="cuda")
    assert reranker.texts == ((reranker.batch * reranker.group, 1024),)
    assert setup(values("bge-dense"), data_format="embedder", device="cuda").kind == "dense"


@pytest.mark.parametrize(
    ("patches", "on"),
    [
        ("all", True),
        ("none", False),
        ("all,-sparse-head", False),
        ("prompts", False),
        ("prompts,sparse-head", True),
    ],
)
def test_the_sparse_patch(patches: str, on: bool) -> None:
    assert setup(values(patches=patches), data_format="embedder", device="cuda").sparse_patch is on


def test_what_nobody_counts_is_refused() -> None:
    for data_format in ("retrieval", "texts", "documents", ""):
        with pytest.raises(UsageError, match="not counted"):
            kind_of(data_format, {})
    assert kind_of("", {}, declared="generate") == "generate"
    assert kind_of("embedder", {"unified_finetuning": "true"}) == "m3"


def test_length_buckets_are_judged_by_their_largest_batch() -> None:
    free = setup(values(length_bucketing="true"), data_format="embedder", device="cuda")
    assert (free.batch, free.passage_length) == (1, 512)
    sizes = values(length_bucketing="true", bucket_batch_sizes="128:32,512:4")
    given_ = setup(sizes, data_format="embedder", device="cuda")
    assert (given_.batch, given_.passage_length) == (32, 128)
    long = values(length_bucketing="true", bucket_batch_sizes=" 128:032, 1/8192:2,")  # no passage has 8192
    assert setup(long, data_format="embedder", device="cuda").batch == 32


@pytest.mark.parametrize("text", ["foo", "8", "128:0", "128:8;512:2", "-1:2", "1:2:3", "９:1"])
def test_sizes_that_the_trainer_would_refuse(text: str) -> None:
    with pytest.raises(UsageError, match="--bucket-batch-sizes"):
        setup(values(bucket_batch_sizes=text), data_format="embedder", device="cuda")


def test_a_rerankers_passage_may_take_what_its_query_leaves() -> None:
    """Source: FlagEmbedding 1.4.2, AbsDataset.create_one_example: 512 + 512 // 2 tokens, 1024 with the
    query."""
    own = values("bge-reranker")
    for bound, lengths in (
        ((16, 9999), (16, 768)),
        ((9999, 16), (640, 16)),
        ((512, 9999), (512, 512)),
        ((9999, 9999), (640, 384)),
    ):
        step = setup(own, data_format="reranker", device="cuda", longest=bound)
        assert (step.query_length, step.passage_length) == lengths


def test_one_process_is_wrapped_in_ddp_on_a_cpu_alone() -> None:
    for device, world, wrapped in (
        ("cuda", 1, False),
        ("xpu", 1, False),
        ("cpu", 1, True),
        ("cuda", 2, True),
    ):
        step = setup(values(), data_format="embedder", device=device, world=world)  # type: ignore[arg-type]
        assert step.ddp is wrapped
        assert (states.states(SHAPE, step).buckets > 0) is wrapped
    assert not setup(values(deepspeed="stage1"), data_format="embedder", device="cuda", world=2).ddp


def test_short_data_bounds_the_lengths() -> None:
    step = setup(values(), data_format="embedder", device="cuda", longest=(30, 90))
    assert (step.query_length, step.passage_length) == (32, 96)  # padded to multiples of 8


@pytest.mark.parametrize("text", ["", "many", "-1", "0", "1.5", "²", "9" * 30, "1048577"])
def test_odd_values_are_usage_errors(text: str) -> None:
    with pytest.raises(UsageError, match="per-device-train-batch-size"):
        setup({**values(), "per_device_train_batch_size": text}, data_format="embedder", device="cuda")


# -------------------------------------------------------------------------------------------------- the
# formulas
def test_parts_add_up_and_nothing_is_negative() -> None:
    for moment in parts.moments(SHAPE, STEP):
        assert moment.total == pytest.approx(sum(part.bytes for part in moment.parts))
        assert all(part.bytes > 0 for part in moment.parts)


def test_states_of_full_training_are_16_bytes_a_parameter() -> None:
    found = states.states(SHAPE, STEP)
    counted = states.count(SHAPE, STEP)
    # The pooler is loaded, and not trained.
    assert found.weights + found.gradients + found.optimiser == 4 * counted.all + 12 * counted.trained
    assert counted.all - counted.trained == SHAPE.pooler
    assert counted.all == SHAPE.backbone + 1024 * 1024 + 1024 + 1024 + 1


def test_frozen_words_save_their_gradient_and_moments() -> None:
    frozen = states.states(SHAPE, replace(STEP, frozen_embeddings=True))
    found = states.states(SHAPE, STEP)
    saved = found.gradients + found.optimiser - frozen.gradients - frozen.optimiser
    assert saved == 12 * 250_002 * 1024  # docs/patches.md: 3.1 GB


def test_8_bit_adam_leaves_embeddings_in_32_bit() -> None:
    eight = states.states(SHAPE, replace(STEP, optimiser="adamw_bnb_8bit")).optimiser
    assert 8 * SHAPE.embeddings < eight < 8 * SHAPE.embeddings + 2.1 * 303e6


@pytest.mark.parametrize("name", ["bge-m3-unified", "bge-dense", "bge-reranker"])
def test_the_help_of_8_bit_adam_says_what_it_saves(name: str) -> None:
    found = recipe.load(paths.recipes() / f"{name}.sh")
    step = setup(values(name), data_format=found.data.format if found.data else "", device="cuda")
    eight = replace(step, optimiser="adamw_bnb_8bit")
    saved = (states.states(SHAPE, step).optimiser - states.states(SHAPE, eight).optimiser) / 1e9
    help_ = next(parameter.help for parameter in found.parameters if parameter.name == "optim")
    assert f"bge-m3: {saved:.1f} GB" in help_.en
    assert f"bge-m3 省 {saved:.1f} GB" in help_.zh


def test_the_sparse_head_is_what_the_patch_is_for() -> None:
    def head(patched: bool) -> float:
        moment = next(
            m for m in parts.moments(SHAPE, replace(STEP, sparse_patch=patched)) if m.name == "loss"
        )
        return next(part.bytes for part in moment.parts if part.name == "sparse head")

    assert head(False) == pytest.approx(8192 * 250_002 * 2 * 2, rel=0.01)
    assert head(True) < 2 << 20


@pytest.mark.parametrize(
    ("stage", "weights", "gradients", "optimiser"), [(1, 2, 2, 4), (2, 2, 0.5, 4), (3, 0.5, 0.5, 4)]
)
def test_deepspeed_shares_out(stage: int, weights: float, gradients: float, optimiser: float) -> None:
    """Four devices. Source: ZeRO, figure 1, with 4 bytes of 32-bit gradients beside the 12 of the
    optimiser."""
    step = Setup(kind="sft", stage=stage, world=4)
    found = states.states(LLAMA, step)
    each = (found.weights, found.gradients, found.optimiser)
    assert [size / LLAMA.causal for size in each] == pytest.approx([weights, gradients, optimiser])


def test_offload_leaves_one_layer() -> None:
    found = states.states(LLAMA, Setup(kind="sft", stage=3, offload=True))
    assert found.weights == found.gradients == found.optimiser == 0
    assert found.gathered == 4 * LLAMA.word_embeddings


def test_qlora_and_lora_of_8b() -> None:
    qlora = states.states(LLAMA, Setup(kind="sft", method="qlora", kernels="unsloth"))
    lora = states.states(LLAMA, Setup(kind="sft", method="lora"))
    assert (
        states.count(LLAMA, Setup(kind="sft", method="lora")).trained == 41_943_040
    )  # peft's count for rank 16
    assert 5.5e9 < qlora.weights < 6.0e9
    assert 16.0e9 < lora.weights < 16.4e9


def test_attention_scores_where_they_are_not_fused() -> None:
    dense = Setup(
        kind="dense", device="cpu", precision="fp32", batch=4, group=4, query_length=64, passage_length=512
    )
    plain, fused = total(dense), total(replace(dense, attention_dropout=0.0))
    assert plain > 1.5 * fused
    assert total(replace(dense, device="cuda")) < plain


STEPS = st.builds(
    Setup,
    kind=st.sampled_from(["dense", "m3", "reranker"]),
    device=st.sampled_from(["cpu", "cuda", "xpu"]),
    batch=st.integers(1, 64),
    group=st.integers(1, 16),
    query_length=st.integers(1, 512),
    passage_length=st.integers(1, 8192),
    precision=st.sampled_from(["fp32", "bf16"]),
    world=st.integers(1, 8),
    accumulation=st.integers(1, 4),
    checkpointing=st.booleans(),
    sub_batch=st.sampled_from([0, 1, 4]),
    optimiser=st.sampled_from(["adamw_torch", "adamw_torch_fused", "adamw_bnb_8bit"]),
    stage=st.sampled_from([None, 0, 1, 2, 3]),
    frozen_embeddings=st.booleans(),
    unified=st.booleans(),
    sparse_patch=st.booleans(),
    attention_dropout=st.sampled_from([None, 0.0, 0.1]),
)


@given(step=STEPS)
def test_more_of_everything_is_never_less_memory(step: Setup) -> None:
    for name in ("batch", "group", "query_length", "passage_length"):
        assert total(replace(step, **{name: getattr(step, name) + 8})) >= total(step)


@given(step=STEPS)
def test_what_saves_memory_never_costs_any(step: Setup) -> None:
    for name, value in (("frozen_embeddings", True), ("sparse_patch", True), ("optimiser", "adamw_bnb_8bit")):
        assert total(replace(step, **{name: value})) <= total(step) * (1 + 1e-9)


# ------------------------------------------------------------------------------------------------------
# verdicts
@pytest.mark.parametrize(
    ("memory", "verdict"), [(1.2, "fits"), (1.05, "tight"), (0.99, "does not fit"), (None, "unknown")]
)
def test_verdicts(memory: float | None, verdict: str) -> None:
    need = total(STEP)
    assert judge(SHAPE, STEP, None if memory is None else int(memory * need)).verdict == verdict


def test_an_estimate_takes_milliseconds() -> None:
    """``launch run`` asks before every start."""
    config, own = dict(M3), values()
    begun = time.perf_counter()
    for _ in range(20):
        fit.estimate(own, config, 24 * GIB, data_format="embedder", device="cuda")
    assert (time.perf_counter() - begun) / 20 < 0.02


# --------------------------------------------------------------------------------------------------------
# advice
def question(memory: float | None, **changed: Any) -> Question:
    base: dict[str, Any] = {
        "shape": SHAPE,
        "values": values(),
        "data_format": "embedder",
        "device": "cuda",
        "memory": None if memory is None else int(memory * GIB),
    }
    return Question(**{**base, **changed})


def test_the_largest_batch_and_length_fit_and_the_next_ones_do_not() -> None:
    asked = question(22)
    advised = advice.advise(asked)
    assert advised.batch
    assert advised.length
    assert asked.answer({"per_device_train_batch_size": str(advised.batch)}).verdict == "fits"
    assert asked.answer({"per_device_train_batch_size": str(advised.batch + 1)}).verdict != "fits"
    assert asked.answer({"passage_max_len": str(advised.length)}).verdict == "fits"
    assert asked.answer({"passage_max_len": str(advised.length + 8)}).verdict != "fits"
    assert advised.cheapest is None


def test_the_cheapest_change_makes_it_fit() -> None:
    own = values(gradient_checkpointing="false", per_device_train_batch_size="4")
    asked = question(22, values=own)
    assert asked.answer().verdict == "does not fit"
    advised = advice.advise(asked)
    assert advised.cheapest is not None
    assert advised.cheapest.options == "--gradient-checkpointing true"
    assert advised.cheapest.estimate.verdict == "fits"


def test_a_patch_that_was_switched_off_comes_first() -> None:
    advised = advice.advise(question(16, values=values(patches="all,-sparse-head")))
    assert advised.cheapest is not None
    assert advised.cheapest.options == "--patches all"


def test_several_changes_where_one_is_not_enough() -> None:
    advised = advice.advise(question(7))
    assert advised.cheapest is not None
    assert len(advised.cheapest.values) > 1
    assert advised.cheapest.estimate.verdict == "fits"


def test_only_what_the_recipe_has_and_takes_is_offered() -> None:
    given_ = values("bge-reranker", gradient_checkpointing="false")
    own = {name: text for name, text in given_.items() if name != "optim"}
    asked = question(
        4, values=own, data_format="reranker", allowed=lambda v: v["freeze_word_embeddings"] != "true"
    )
    names = {name for change in advice.advise(asked).changes for name, _ in change.values}
    assert names
    assert names <= set(own) - {"optim", "freeze_word_embeddings", "sub_batch_size"}


def test_as_a_last_resort_several_sizes_shrink() -> None:
    """One query, two passages and shorter texts: no single size is enough here."""
    large = values(passage_max_len="8192", per_device_train_batch_size="64")
    for own, memory in ((large, 14.6), ({**large, "sub_batch_size": "1"}, 12), (large, 7)):
        asked = question(memory, values=own)
        advised = advice.advise(asked)
        assert advised.cheapest is not None, memory
        assert advised.cheapest.estimate.verdict == "fits"
        assert asked.answer(dict(advised.cheapest.values)) == advised.cheapest.estimate
        assert "--per-device-train-batch-size 1 " in advised.cheapest.options


def test_no_length_beyond_the_model_is_offered() -> None:
    assert advice.advise(question(400)).length == 8192
    own = values("bge-reranker", passage_max_len="8192")
    reranker = question(400, values=own, data_format="reranker")
    assert advice.advise(reranker).length == 8192 - 512
    offered = [dict(change.values) for change in advice.advise(replace(reranker, memory=60 * GIB)).changes]
    assert all(int(change.get("passage_max_len", 0)) <= 8192 - 512 for change in offered)


def test_length_buckets_are_offered_no_batch_size() -> None:
    for sizes, length in (("", True), ("128:32,512:8", False)):
        own = values(length_bucketing="true", bucket_batch_sizes=sizes)
        advised = advice.advise(question(140, values=own))
        assert (advised.batch, advised.length is not None) == (None, length)
        offered = {
            name for change in advice.advise(question(7, values=own)).changes for name, _ in change.values
        }
        assert offered
        assert "per_device_train_batch_size" not in offered
    assert advice.advise(question(1, values=own)).cheapest is None


def test_nothing_helps_on_a_device_that_is_too_small() -> None:
    advised = advice.advise(question(1))
    assert advised.cheapest is None
    assert (advised.batch, advised.length) == (0, 0)


def test_without_a_memory_there_is_no_verdict() -> None:
    advised = advice.advise(question(None))
    assert (advised.batch, advised.length, advised.cheapest) == (None, None, None)


def test_adapters_are_offered_where_a_recipe_has_them() -> None:
    own = {**SFT, "method": "full", "unsloth": "true"}
    advised = advice.advise(question(80, shape=LLAMA, values=own, declared="sft", data_format=""))
    assert advised.cheapest is not None
    assert advised.cheapest.options == "--method lora"
    assert advised.length_name == "max_seq_length"
    small = advice.advise(question(12, shape=LLAMA, values={**own, "method": "lora"}, declared="sft"))
    assert small.cheapest is not None
    assert small.cheapest.options == "--load-in-4bit true"


# --------------------------------------------------------------------------------------------------------
# language models
SFT = {
    "method": "lora",
    "load_in_4bit": "false",
    "r": "16",
    "target_modules": "all-linear",
    "max_seq_length": "1024",
    "per_device_train_batch_size": "1",
    "gradient_accumulation_steps": "1",
    "use_gradient_checkpointing": "true",
    "precision": "bf16",
    "unsloth": "false",
}
GRPO = {
    **{name: value for name, value in SFT.items() if name != "max_seq_length"},
    "per_device_train_batch_size": "8",
    "num_generations": "8",
    "max_prompt_length": "512",
    "max_completion_length": "512",
    "beta": "0.04",
    "use_vllm": "false",
    "vllm_standby": "true",
    "gpu_memory_utilization": "0.5",
}


def language(kind: str, own: dict[str, str], **changed: str) -> Setup:
    return setup({**own, **changed}, data_format="", declared=kind, device="cuda", memory=80 * GIB)


def test_adapters_on_fewer_matrices_are_fewer_parameters() -> None:
    every = states.count(LLAMA, language("sft", SFT)).trained
    assert every == 41_943_040  # peft: LoRA of rank 16 on all linear layers of Llama 3.1 8B
    two = states.count(LLAMA, language("sft", SFT, target_modules="q_proj, v_proj")).trained
    assert two == 16 * 32 * (2 * 4096 + 4096 + 1024)
    with pytest.raises(UsageError, match="none of them"):
        states.count(LLAMA, language("sft", SFT, target_modules="query_key_value"))


def test_four_bits_go_with_adapters_alone() -> None:
    assert language("sft", SFT, load_in_4bit="true").method == "qlora"
    assert language("sft", SFT, load_in_4bit="true", method="full").method == "full"
    whole, packed = (total(language("generate", GRPO, load_in_4bit=on), LLAMA) for on in ("false", "true"))
    assert packed < 0.5 * whole


def test_packed_rows_are_as_long_as_the_limit() -> None:
    for packing, length in (("true", 1024), ("false", 90)):
        own = {**SFT, "packing": packing}
        assert (
            setup(own, data_format="", declared="sft", device="cuda", longest=(90, 90)).passage_length
            == length
        )


def test_checkpoints_of_unsloth_lie_on_the_host() -> None:
    plain = language("sft", SFT, unsloth="true", max_seq_length="32768")
    moved = language("sft", SFT, unsloth="true", max_seq_length="32768", use_gradient_checkpointing="unsloth")
    layers = LLAMA.layers * LLAMA.hidden * 2 * 32768
    assert total(plain, LLAMA) - total(moved, LLAMA) == pytest.approx(1.1 * layers)
    assert not language("sft", SFT, use_gradient_checkpointing="unsloth").offloaded  # nobody moves them


def test_grpo_generates_for_all_steps_until_the_optimisers() -> None:
    one, four = (language("grpo", GRPO, gradient_accumulation_steps=n) for n in ("1", "4"))
    assert (one.generated, four.generated) == (8, 32)
    cache = {m.name: {p.name: p.bytes for p in m.parts} for m in parts.moments(LLAMA, four)}["generation"]
    # Keys and values, 32 layers of 8 heads of 128, 16 bit, 1024 tokens of 32 answers.
    assert cache["KV cache"] == 2 * 32 * 8 * 128 * 2 * 1024 * 32


def test_grpo_compares_with_a_second_model_only_where_it_must() -> None:
    assert not language("grpo", GRPO).reference  # a LoRA without its adapter is the first model
    full = language("grpo", GRPO, method="full")
    assert full.reference
    assert not language("grpo", GRPO, method="full", beta="0").reference
    assert states.states(LLAMA, full).reference == 4 * LLAMA.causal


def test_vllm_takes_its_share_of_the_device() -> None:
    def at(name: str, **changed: str) -> float:
        step = language("grpo", GRPO, use_vllm="true", **changed)
        moment = next(m for m in parts.moments(LLAMA, step) if m.name == name)
        return sum(part.bytes for part in moment.parts if part.name == "vLLM")

    assert at("loss") == at("generation") == 40 * GIB  # TRL: weights of its own, and always there
    shared = 40 * GIB - states.states(LLAMA, language("grpo", GRPO)).weights
    assert at("generation", unsloth="true") == pytest.approx(shared)
    assert at("loss", unsloth="true") == 0  # standby
    assert at("loss", unsloth="true", vllm_standby="false") == pytest.approx(shared)


def test_a_share_that_cannot_hold_the_weights_does_not_fit() -> None:
    own = {**GRPO, "use_vllm": "true", "unsloth": "true", "gradient_accumulation_steps": "1"}
    asked = question(24, shape=LLAMA, values=own, declared="grpo")
    found = asked.answer()
    assert found.verdict == "does not fit"
    answer = 2 * 2 * 32 * 8 * 128 * 1024
    weights = states.states(LLAMA, asked.setup()).weights
    assert found.lacking == pytest.approx(min(weights, 2 * LLAMA.causal) + answer - 12 * GIB)
    offered = {change.options: change.estimate for change in advice.advise(asked).changes}
    assert offered["--gpu-memory-utilization 0.85"].lacking == 0
    assert offered["--load-in-4bit true"].verdict == "fits"


def test_a_smaller_batch_keeps_the_answers_to_a_prompt_together() -> None:
    own = {**GRPO, "per_device_train_batch_size": "64"}
    asked = question(30, shape=LLAMA, values=own, declared="grpo")
    assert asked.batches == (8, 8)
    offered = [dict(change.values) for change in advice.advise(asked).changes]
    sizes = [int(o["per_device_train_batch_size"]) for o in offered if "per_device_train_batch_size" in o]
    assert sizes
    assert all(size % 8 == 0 for size in sizes)
    assert question(30, values={**own, "gradient_accumulation_steps": "4"}, declared="grpo").batches == (2, 2)


def test_answering_takes_the_weights_and_the_cache() -> None:
    step = language("generate", {"precision": "bf16", "max_prompt_length": "0", "max_new_tokens": "2048"})
    assert not step.trains
    assert states.count(LLAMA, step).trained == 0
    assert total(step, LLAMA) == pytest.approx(2 * LLAMA.causal + 2 * 32 * 8 * 128 * 2 * 2048 * 1.1, rel=0.05)


# --------------------------------------------------------------------------------------------------------
# probes
def probe_of(step: Setup, *, scale: float, before: float = 3e9) -> Probe:
    loaded, stepped = probes.split(parts.peak(SHAPE, step, context=step.device == "cpu"))
    return Probe(setup=step, before=before, peak=before + scale * stepped, loaded=loaded, stepped=stepped)


@pytest.mark.parametrize("scale", [0.7, 1.0, 1.4])
def test_after_a_probe_the_same_step_is_what_was_measured(scale: float) -> None:
    step = replace(STEP, device="cpu", precision="fp32")
    probe = probe_of(step, scale=scale, before=1e9)
    assert judge(SHAPE, step, None, probe).total == pytest.approx(probe.peak)


def test_on_a_gpu_the_context_comes_on_top() -> None:
    probe = probe_of(STEP, scale=1.2)
    corrected = judge(SHAPE, STEP, None, probe)
    added = sum(part.bytes for part in corrected.parts if part.name == "context")
    assert added == parts.CONTEXT["cuda"]
    assert corrected.total > probe.peak + added * 0.99


def test_a_probe_speaks_of_other_sizes_and_of_no_other_options() -> None:
    probe = probe_of(STEP, scale=1.2)
    larger = replace(STEP, batch=4, passage_length=1024)
    assert judge(SHAPE, larger, None, probe).total > total(larger)
    other = replace(STEP, checkpointing=False)
    assert judge(SHAPE, other, None, probe).probe is None
    assert probes.best([probe], other) is None


def test_the_nearest_probe_counts() -> None:
    small, large = (probe_of(replace(STEP, batch=batch), scale=1.0) for batch in (1, 8))
    assert probes.best([small, large], replace(STEP, batch=7)) == large


@given(before=st.floats(0, 1e12), peak=st.floats(0, 1e12))
def test_a_mad_measurement_stays_bounded(before: float, peak: float) -> None:
    loaded, stepped = probes.split(parts.peak(SHAPE, STEP, context=False))
    probe = Probe(setup=STEP, before=before, peak=peak, loaded=loaded, stepped=stepped)
    assert 0.25 <= probe.factor <= 4


# -------------------------------------------------------------------------------------------------------
# devices
@pytest.mark.parametrize(
    ("text", "memory"),
    [
        ("24GB", 24 * 10**9),
        ("24gib", 24 * GIB),
        ("1.5 GB", 1.5e9),
        ("A10G", 22510 << 20),
        ("b60", 23256 << 20),
    ],
)
def test_devices(text: str, memory: float) -> None:
    assert devices.find(text)[1] == int(memory)


@pytest.mark.parametrize("text", ["", "gtx9000", "0GB", "24", "-1GB", "24TB", "GB"])
def test_unknown_devices_list_the_known_ones(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        devices.find(text)
    assert "a10g" in caught.value.hint
    assert "b60" in caught.value.hint


def test_cards_by_the_name_of_their_driver() -> None:
    assert devices.by_name("Arc Pro B60") == 23256 << 20
    assert devices.by_name("Arc B580") is None
    assert devices.by_name("") is None
