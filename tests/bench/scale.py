"""What a step becomes on 1, 8, 64 and 512 devices, by formulas: docs/scale.md prints this table.

    .venv/bin/python tests/bench/scale.py [--memory 80] [--wire 25] [--nodes-of 8] [--tflops 400]

Nothing is measured. A device has ``--memory`` GB and computes ``--tflops`` useful 10¹² operations a second;
on one machine (``--nodes-of`` devices) it sends ``--link`` GB a second, between machines ``--wire``. Nothing
overlaps.
"""

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.fit import Setup, Shape, arch, judge, scale

ROOT = Path(__file__).resolve().parents[2]
MODELS = json.loads((ROOT / "tests/support/models.json").read_text())
WORLDS = (1, 8, 64, 512)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A recipe with the parameters of its step."""

    name: str
    model: str
    setup: Setup


def _pairs(**more: object) -> Setup:
    own: dict[str, object] = {
        "batch": 16,
        "group": 8,
        "query_length": 64,
        "passage_length": 512,
        "checkpointing": True,
        **more,
    }
    return Setup(**own)  # type: ignore[arg-type]


def _rows(**more: object) -> Setup:
    own: dict[str, object] = {"batch": 8, "passage_length": 2048, "checkpointing": True, **more}
    return Setup(**own)  # type: ignore[arg-type]


BGE, LLAMA, LARGE = "BAAI/bge-m3", "Llama-3.1-8B", "Llama-3.3-70B"
CASES = (
    Case(name="bge-dense", model=BGE, setup=_pairs(kind="dense", cross_device=True)),
    Case(name="bge-dense, batch 64", model=BGE, setup=_pairs(kind="dense", batch=64, cross_device=True)),
    Case(name="bge-m3-unified", model=BGE, setup=_pairs(kind="m3", unified=True, cross_device=True)),
    Case(
        name="bge-m3-unified, teacher",
        model=BGE,
        setup=_pairs(kind="m3", unified=True, cross_device=True, distilled=True),
    ),
    Case(name="bge-reranker", model=BGE, setup=_pairs(kind="reranker")),
    Case(name="llm-sft, LoRA", model=LLAMA, setup=_rows(kind="sft", method="lora", kernels="unsloth")),
    Case(name="llm-sft, full, stage 2", model=LLAMA, setup=_rows(kind="sft", stage=2)),
    Case(name="llm-sft, full, stage 3", model=LLAMA, setup=_rows(kind="sft", stage=3)),
    Case(name="llm-sft, full, stage 3", model=LARGE, setup=_rows(kind="sft", stage=3, batch=1)),
)


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--memory", type=float, default=80, help="GB of a device (10⁹ bytes)")
    parser.add_argument("--tflops", type=float, default=400, help="useful 10¹² operations a second")
    parser.add_argument("--nodes-of", type=int, default=8, help="devices of a machine")
    parser.add_argument("--link", type=float, default=200, help="GB a second inside a machine")
    parser.add_argument("--wire", type=float, default=25, help="GB a second and device between machines")
    asked = parser.parse_args()
    print("| recipe | model | devices | negatives | GB a device | computing | GB sent | sending |")
    print("|---|---|---|---|---|---|---|---|")
    for case in CASES:
        for world in WORLDS:
            print(_line(case, world, asked))


def _line(case: Case, world: int, asked: argparse.Namespace) -> str:
    shape: Shape = arch.read(MODELS[case.model]["config"])
    step = replace(case.setup, world=world, ddp=case.setup.stage is None and world > 1)
    memory = judge(shape, step, None).total / 1e9
    sent = scale.traffic(shape, step).total / 1e9
    speed = asked.link if world <= asked.nodes_of else asked.wire
    compared = scale.negatives(step) if step.group > 1 else "–"
    size = f"**{memory:.0f}**" if memory > asked.memory else f"{memory:.0f}"
    seconds = scale.operations(shape, step) / asked.tflops / 1e12
    name = case.model.removeprefix("BAAI/")
    return (
        f"| {case.name} | {name} | {world} | {compared} | {size} | {seconds:.2f} s | {sent:.1f} "
        f"| {sent / speed:.2f} s |"
    )


if __name__ == "__main__":
    main()
