"""BGE-M3 unified fine-tuning: upstream's plain arguments against the recipe's, in turn, on the same rows.

``make bench-train`` runs it in the embedded cpu environment with a toy model whose vocabulary is XLM-R's
250,002 words. On an NVIDIA GPU, inside the cuda image or environment:

    python tests/bench/training/compare.py --size large

takes XLM-R large with random weights, batch 2, group 8, lengths 512/512, and looks for the largest batch too.
Dropout is 0 on both sides, so the loss curves must agree. Figures are medians over the steps after the first.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
MODULE = "FlagEmbedding.finetune.embedder.encoder_only.m3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What is trained: the encoder's shape, the lengths in tokens, and the batch that is compared."""

    layers: int
    hidden: int
    heads: int
    queries: int
    passages: int
    group: int
    batch: int
    precision: tuple[str, ...]
    steps: int
    largest: int


SIZES = {
    "toy": Size(layers=2, hidden=64, heads=2, queries=32, passages=128, group=4, batch=4, precision=(),
                steps=5, largest=0),
    "large": Size(layers=24, hidden=1024, heads=16, queries=512, passages=512, group=8, batch=2,
                  precision=("--bf16", "true"), steps=6, largest=128),
}  # fmt: skip


def main() -> None:
    """Compare at the same batch, then, on a GPU, each at its largest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="toy")
    parser.add_argument("--rounds", type=int, default=2)
    chosen = parser.parse_args()
    size = SIZES[chosen.size]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        subprocess.run([sys.executable, Path(__file__).with_name("make.py"), folder, json.dumps(_as(size))],
                       check=True)  # fmt: skip
        pairs = [
            [run(side, size, size.batch, folder) for side in ("upstream", "ours")]
            for _ in range(chosen.rounds)
        ]
        report(f"{chosen.size}, batch {size.batch}", *pairs[-1])
        for round_, (theirs, ours) in enumerate(pairs):
            apart = max(abs(a - b) / abs(a) for a, b in zip(theirs["losses"], ours["losses"], strict=True))
            print(f"  round {round_ + 1}: losses at most {apart:.1e} apart, of {len(ours['losses'])} steps")
        if size.largest:
            best = [largest(side, size, folder) for side in ("upstream", "ours")]
            report(f"{chosen.size}, each at its largest batch", *best)


def _as(size: Size) -> dict[str, Any]:
    return {name: getattr(size, name) for name in Size.__slots__}


def run(side: str, size: Size, batch: int, folder: Path) -> dict[str, Any]:
    """One training; its figures, or ``out_of_memory``."""
    output = Path(tempfile.mkdtemp(dir=folder))
    arguments = [
        *("--model_name_or_path", folder / "model", "--train_data", folder / "rows.jsonl"),
        *("--output_dir", output / "out", "--cache_path", folder / "cache"),
        *("--query_max_len", size.queries, "--passage_max_len", size.passages),
        *("--train_group_size", size.group, "--per_device_train_batch_size", batch),
        *("--max_steps", size.steps, "--learning_rate", "1e-5", "--temperature", "0.02"),
        *("--unified_finetuning", "true", "--use_self_distill", "true", "--self_distill_start_step", 0),
        *("--query_instruction_for_retrieval", "", "--normalize_embeddings", "true"),
        *("--save_strategy", "no", "--logging_steps", 1, "--report_to", "none", "--disable_tqdm", "true"),
        *("--negatives_cross_device", "false", "--dataloader_drop_last", "true", "--seed", 1),
        *size.precision,
    ]
    if size.precision:  # both need it: what is compared is the head, not whether activations are kept
        kind = "false" if side == "ours" else "true"
        arguments += ["--gradient_checkpointing", "true"]
        arguments += ["--gradient_checkpointing_kwargs", f'{{"use_reentrant": {kind}}}']
    else:
        arguments += ["--use_cpu", "true"]
    through = ["-m", "runtime", "-m", MODULE] if side == "ours" else ["-m", MODULE]
    program = [sys.executable, Path(__file__).with_name("measure.py"), output / "figures.json", *through]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "recipes"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [str(word) for word in (*program, *arguments)], env=environment, capture_output=True, text=True
    )
    if not (output / "figures.json").exists():
        sys.exit(f"{side} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return dict(json.loads((output / "figures.json").read_text(encoding="utf-8")))


def largest(side: str, size: Size, folder: Path) -> dict[str, Any]:
    """The figures at the largest batch that fits, a power of two."""
    batch, best = size.batch, {}
    while batch <= size.largest:
        found = run(side, size, batch, folder)
        if found.get("out_of_memory"):
            break
        best, batch = {**found, "batch": batch}, 2 * batch
    return best


def report(title: str, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    """Print both sides' figures and the ratios."""
    print(title)
    for name, side in (("upstream", theirs), ("ours", ours)):
        seconds = statistics.median(side["seconds"][1:])
        batch = f"batch {side['batch']}, " if "batch" in side else ""
        print(
            f"  {name:<9}{batch}{side['peak'] / 2**30:8.2f} GiB, {seconds:8.3f} s a step,"
            f" {speed(side):9.0f} tokens/s"
        )
    print(
        f"  ratio    {ours['peak'] / theirs['peak']:8.3f} of the memory,"
        f" {speed(ours) / speed(theirs):.2f} times the tokens/s",
        flush=True,
    )


def speed(side: dict[str, Any]) -> float:
    """Tokens per second over the steps after the first."""
    return sum(side["tokens"][1:]) / sum(side["seconds"][1:])


if __name__ == "__main__":
    main()
