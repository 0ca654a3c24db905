"""launcher.fit against published figures: estimate beside figure, and the median of the errors.

``pytest -s tests/unit/test_fit_published.py`` prints the tables. Nothing here is fitted: the formulas' few
constants are physical, and each has its source where it stands. Source of the language models' figures:
Unsloth's documentation (requirements; long-context benchmarks), GB taken as 10⁹ bytes; of bge-m3's: measured
and computed with FlagEmbedding 1.4.2 and XLM-R large, see docs/fit.md.
"""

import json
import statistics
from collections.abc import Iterator
from dataclasses import replace

from launcher.fit import activations, arch, parts
from launcher.fit.arch import Shape
from launcher.fit.step import Setup
from tests.conftest import ROOT

MODELS = json.loads((ROOT / "tests/support/models.json").read_text())
GB = 10**9

#: GB of GPU → longest context with Unsloth, and with Hugging Face's trainer and FlashAttention 2. QLoRA on
#: all matrices, rank 32, batch 1.
CONTEXT = {
    "Llama-3.1-8B": {
        8: (2972, None),
        12: (21848, 932),
        16: (40724, 2551),
        24: (78475, 5789),
        40: (153977, 12264),
        48: (191728, 15502),
        80: (342733, 28454),
    },
    "Llama-3.3-70B": {48: (12106, None), 80: (89389, 6916)},
}

#: Billions of parameters → the least GB with QLoRA and with LoRA. Neither rank nor length is published: rank
#: 16 and 512 tokens are assumed. Of several models of a size each counts; the table's other rows (11B, 40B,
#: 81B, 90B) name no model whose configuration is known here.
LEAST = {
    "Llama-3.2-3B": (3.5, 8),
    "Mistral-7B-v0.3": (5, 19),
    "Qwen2.5-7B": (5, 19),
    "Llama-3.1-8B": (6, 22),
    "Qwen3-8B": (6, 22),
    "gemma-2-9b": (6.5, 24),
    "Qwen2.5-14B": (8.5, 33),
    "gemma-2-27b": (22, 64),
    "Qwen2.5-32B": (26, 76),
    "Llama-3.3-70B": (41, 164),
    "Llama-3.1-405B": (237, 950),
}


def _shape(name: str) -> Shape:
    return arch.read(MODELS[name]["config"])


def _sft(method: str, *, length: int, rank: int, kernels: str) -> Setup:
    return Setup(
        kind="sft",
        method=method,  # type: ignore[arg-type]
        kernels=kernels,  # type: ignore[arg-type]
        rank=rank,
        passage_length=length,
        checkpointing=True,
        offloaded=kernels == "unsloth",
        prepared=kernels == "plain",
        optimiser="adamw_8bit",
    )


def _line(name: str, estimate: float, published: float, unit: str) -> float:
    print(f"  {name:<34}{estimate:>9.2f}{published:>9.2f} {unit}{estimate / published - 1:>+8.1%}")
    return abs(estimate / published - 1)


def _contexts() -> Iterator[float]:
    for name, rows in CONTEXT.items():
        for gigabytes, lengths in rows.items():
            for kernels, length in zip(("unsloth", "plain"), lengths, strict=True):
                if length is not None:
                    step = _sft("qlora", length=length, rank=32, kernels=kernels)
                    estimate = parts.peak(_shape(name), step).total / GB
                    yield _line(f"{name} {kernels} {length:,} tokens", estimate, gigabytes, "GB")


def _leasts() -> Iterator[float]:
    for name, row in LEAST.items():
        for method, gigabytes in zip(("qlora", "lora"), row, strict=True):
            step = _sft(method, length=512, rank=16, kernels="unsloth")
            yield _line(f"{name} {method}", parts.peak(_shape(name), step).total / GB, gigabytes, "GB")


def test_context_lengths() -> None:
    print("\ncontext length by memory: estimate, published")
    errors = list(_contexts())
    print(f"  median error {statistics.median(errors):.1%} of {len(errors)}, largest {max(errors):.1%}")
    assert len(errors) == 16
    assert statistics.median(errors) < 0.10
    assert max(errors) < 0.25


def test_least_memory() -> None:
    print("\nleast memory: estimate, published")
    errors = list(_leasts())
    print(f"  median error {statistics.median(errors):.1%} of {len(errors)}, largest {max(errors):.1%}")
    assert len(errors) == 22
    assert statistics.median(errors) < 0.20
    assert max(errors) < 0.40


def test_bge_m3() -> None:
    shape = _shape("BAAI/bge-m3")
    # The published sums have no second copy of the gradients: they were made without DDP in mind.
    plain = Setup(kind="m3", batch=2, group=8, query_length=512, passage_length=512, unified=True, ddp=False)
    step = replace(plain, checkpointing=True)
    upstream = replace(step, sparse_patch=False)
    print("\nbge-m3, XLM-R large: estimate, published")
    layers = shape.layers
    # Per token: texts × 512 tokens, of which the published figure has no mask.
    errors = [
        _line("activations a token", layers * activations.layer(shape, plain, 512) / 1e6, 1.10, "MB"),
        _line("checkpoints a token", layers * activations.boundary(shape, plain) / 1e6, 0.098, "MB"),
        _line("batch 2 group 8 512/512", parts.peak(shape, step, context=False).total / GB, 11.0, "GB"),
        _line("the same, upstream's head", parts.peak(shape, upstream, context=False).total / GB, 20.2, "GB"),
    ]
    print(f"  median error {statistics.median(errors):.1%}, largest {max(errors):.1%}")
    assert max(errors) < 0.20
