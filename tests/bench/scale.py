"""What a step becomes on 1, 8, 64 and 512 devices, by formulas: docs/scale.md holds these tables.

    .venv/bin/python tests/bench/scale.py [--memory 80] [--link 200] [--wire 25] [--nodes-of 8] [--tflops 400]

Nothing is measured. A device has ``--memory`` GB and computes ``--tflops`` useful 10¹² operations a second;
on one machine (``--nodes-of`` devices) it sends ``--link`` GB a second, between machines ``--wire``. Nothing
overlaps. Without options the tables are those of the page, which ``docs/generate.py --check`` compares.
"""

import argparse
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from launcher.fit import Setup, Shape, arch, judge, scale, states

ROOT = Path(__file__).resolve().parents[2]
MODELS = json.loads((ROOT / "tests/support/models.json").read_text(encoding="utf-8"))
WORLDS = (1, 8, 64, 512)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the tables assume.

    Attributes:
        memory: GB of a device, 10⁹ bytes.
        tflops: 10¹² operations that a device computes in a second.
        nodes_of: devices of a machine.
        link, wire: GB that a device sends in a second inside a machine, and between machines.
    """

    memory: float = 80
    tflops: float = 400
    nodes_of: int = 8
    link: float = 200
    wire: float = 25

    def sending(self, size: float, world: int) -> float:
        """Seconds for so many bytes."""
        return size / 1e9 / (self.link if world <= self.nodes_of else self.wire)

    def size(self, amount: float) -> str:
        """Memory of a device; bold where it has not as much."""
        text = _size(amount)
        return f"**{text}**" if amount / 1e9 > self.memory else text


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A recipe with the parameters of its step."""

    name: str
    model: str
    setup: Setup


def _shape(model: str) -> Shape:
    return arch.read(MODELS[model]["config"])


def _pairs(**more: Any) -> Setup:
    own = {"batch": 16, "group": 8, "query_length": 64, "passage_length": 512, "checkpointing": True}
    return Setup(**(own | more))


def _rows(**more: Any) -> Setup:
    own = {"kind": "sft", "batch": 8, "passage_length": 2048, "checkpointing": True}
    return Setup(**(own | more))


BGE, LLAMA, LARGE = "BAAI/bge-m3", "Llama-3.1-8B", "Llama-3.3-70B"
UNIFIED = _pairs(kind="m3", unified=True, cross_device=True)
DENSE = _pairs(kind="dense", cross_device=True)
CASES = (
    Case(name="bge-m3-unified", model=BGE, setup=UNIFIED),
    Case(name="bge-dense", model=BGE, setup=DENSE),
    Case(name="bge-dense, batch 64", model=BGE, setup=replace(DENSE, batch=64)),
    Case(name="bge-reranker", model=BGE, setup=_pairs(kind="reranker")),
    Case(name="llm-sft, LoRA, 8B", model=LLAMA, setup=_rows(method="lora", kernels="unsloth")),
    Case(name="llm-sft, full, 8B", model=LLAMA, setup=_rows(batch=1, accumulation=8)),
    Case(
        name="llm-grpo, LoRA, 8B",
        model=LLAMA,
        setup=_rows(
            kind="grpo",
            query_length=512,
            passage_length=1024,
            method="lora",
            kernels="unsloth",
            generated=8,
        ),
    ),
)


def steps(machine: Machine) -> Iterator[Sequence[str]]:
    """Memory, time and bytes of an optimiser step."""
    yield ("recipe", "devices", "memory", "computing", "sent", "sending")
    for case in CASES:
        shape = _shape(case.model)
        for world in WORLDS:
            step = replace(case.setup, world=world, ddp=world > 1)
            sent = scale.traffic(shape, step).total
            seconds = scale.operations(shape, step) / machine.tflops / 1e12
            yield (
                case.name,
                str(world),
                machine.size(judge(shape, step, None).total),
                f"{seconds:.2f} s",
                _size(sent),
                f"{machine.sending(sent, world):.2f} s",
            )


def negatives(machine: Machine) -> Iterator[Sequence[str]]:
    """What the dense vector's negatives cost, and what those of the other heads would."""
    yield (
        "batch",
        "devices",
        "negatives",
        "table",
        "with a teacher",
        "comparing",
        "dense",
        "sparse",
        "colbert",
    )
    shape = _shape(BGE)
    for batch in (2, 16, 64):
        for world in WORLDS:
            step = replace(UNIFIED, batch=batch, world=world)
            queries = batch * world
            table = scale.parts.pair(step) * queries**2 * step.group
            taught = scale.parts.pair(replace(step, distilled=True)) * queries**2 * step.group
            yield (
                str(batch),
                str(world),
                f"{scale.negatives(step):,}",
                machine.size(table),
                machine.size(taught),
                f"{scale.comparing(shape, step) / machine.tflops / 1e12:.3f} s",
                *(
                    _size(sent(shape, step))
                    for sent in (scale.dense_vectors, scale.sparse_vectors, scale.colbert_vectors)
                ),
            )


def stages(machine: Machine) -> Iterator[Sequence[str]]:
    """Weights, gradients and optimiser, and the bytes of a step, by DeepSpeed's stage."""
    yield ("model", "devices", *(f"{name}: kept, sent" for name in ("none", "stage 1", "stage 2", "stage 3")))
    for model in (BGE, LLAMA, LARGE):
        shape = _shape(model)
        for world in WORLDS[1:]:
            cells = []
            for stage in (None, 1, 2, 3):
                step = (
                    _rows(batch=1, stage=stage, world=world)
                    if model != BGE
                    else replace(DENSE, stage=stage, world=world)
                )
                found = states.states(shape, step)
                kept = found.weights + found.gradients + found.optimiser
                cells.append(f"{machine.size(kept)}, {_size(scale.traffic(shape, step).gradients)}")
            yield (model.removeprefix("BAAI/"), str(world), *cells)


def epochs(machine: Machine) -> Iterator[Sequence[str]]:
    """Steps of a pass over 100,000 rows, in one file and in ten of different size."""
    del machine
    yield ("batch", "devices", "rows a step", "one file: steps, left out", "ten files: steps, left out")
    one, ten = (100_000,), tuple(1000 * rows for rows in (40, 20, 12, 8, 6, 5, 4, 3, 1, 1))
    for batch in (2, 16, 64):
        for world in WORLDS:
            step = replace(UNIFIED, batch=batch, world=world)
            made = [scale.epoch(files, step, same_dataset=True) for files in (one, ten)]
            cells = [f"{each.steps:,}, {each.left_out / 1000:.1f} %" for each in made]
            yield (str(batch), str(world), f"{made[0].rows:,}", *cells)


def answers(machine: Machine) -> Iterator[Sequence[str]]:
    """GRPO's answers until the optimiser's step, and how likely one is as long as can be."""
    del machine
    yield ("devices", "answers", "prompts", "steps of 10,000 prompts", "if 0.1 % are cut off", "if 1 % are")
    batch, accumulated, generations, rows = 8, 4, 8, 10_000
    for world in WORLDS:
        made = world * batch * accumulated
        prompts = made // generations
        waiting = [f"{scale.reached(share, made):.0%}" for share in (0.001, 0.01)]
        yield (str(world), f"{made:,}", f"{prompts:,}", f"{math.ceil(rows / prompts):,}", *waiting)


#: Name of a table in the page -> what makes its rows, the first the titles.
TABLES = {"steps": steps, "negatives": negatives, "stages": stages, "epochs": epochs, "answers": answers}


def tables(machine: Machine) -> Mapping[str, Sequence[Sequence[str]]]:
    """All tables."""
    return {name: list(make(machine)) for name, make in TABLES.items()}


def _size(amount: float) -> str:
    """Bytes to two digits or more: ``7.5 GB``, ``120 GB``, ``29 kB``."""
    power = min(3, int(math.log10(amount)) // 3) if amount >= 1 else 0
    value, unit = amount / 1000**power, ("B", "kB", "MB", "GB")[power]
    return f"{value:,.1f} {unit}" if 0 < value < 10 else f"{value:,.0f} {unit}"


def main() -> None:
    """Print the tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    usual = Machine()
    parser.add_argument("--memory", type=float, default=usual.memory, help="GB of a device (10⁹ bytes)")
    parser.add_argument("--tflops", type=float, default=usual.tflops, help="useful 10¹² operations a second")
    parser.add_argument("--nodes-of", type=int, default=usual.nodes_of, help="devices of a machine")
    parser.add_argument("--link", type=float, default=usual.link, help="GB a second inside a machine")
    parser.add_argument("--wire", type=float, default=usual.wire, help="GB a second and device between them")
    for name, rows in tables(Machine(**vars(parser.parse_args()))).items():
        print(f"\n{name}\n")
        for row in [rows[0], ["---"] * len(rows[0]), *rows[1:]]:
            print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
