"""What the reports cost: ``python overhead.py [--model tiny|minilm|base]``, side by side in one process.

Trainings with and without the callbacks alternate; each repeat gives a ratio of median step times. The time
inside the callbacks themselves is taken too, which is the sharper figure: microseconds per step, and their
share of the step. Every step is logged, as the recipes do unless told otherwise; more they cannot cost.

On a CPU it is processor time that counts, so that other programs do not; on a GPU it is the clock's.

Run it with the Python of the embedded environment, with ``recipes`` on PYTHONPATH (CONTRIBUTING.md).
"""

import argparse
import functools
import os
import statistics
import tempfile
import time
from typing import Any

import torch
from runtime import checkpoints, metrics, usage
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

#: Layers, width, and texts × tokens of a batch; minilm is all-MiniLM-L6's shape, base is bge-base's.
MODELS = {"tiny": (2, 64, 4, 32), "minilm": (6, 384, 16, 64), "base": (12, 768, 8, 64)}
NOW = time.perf_counter if torch.cuda.is_available() else time.process_time
OURS = (checkpoints.CheckpointCallback, usage.UsageCallback, metrics.MetricsCallback)


class Clock(TrainerCallback):
    """From the beginning of a step to that of the next: logging is in it."""

    def __init__(self) -> None:
        self.begun: list[float] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Take the time."""
        self.begun.append(NOW())

    def median(self) -> float:
        """Seconds per step, without the first two."""
        steps = [later - earlier for earlier, later in zip(self.begun, self.begun[1:], strict=False)]
        return statistics.median(steps[2:])


class Inside:
    """Adds up the time inside functions; not their parts' twice."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def of(self, function: Any) -> Any:
        """The same function, timed."""

        @functools.wraps(function)
        def timed(*words: Any, **more: Any) -> Any:
            begun = NOW()
            try:
                return function(*words, **more)
            finally:
                self.seconds += NOW() - begun

        return timed


def train(
    shape: tuple[int, int, int, int], steps: int, folder: str, *, reporting: bool
) -> tuple[float, float]:
    """One training; seconds per step, and seconds per step inside the reports."""
    layers, width, batch, length = shape
    torch.manual_seed(0)
    ids = torch.randint(5, 1000, (length,))
    row = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.tensor(1)}
    clock, inside = Clock(), Inside()
    args = TrainingArguments(
        output_dir=folder,
        use_cpu=not torch.cuda.is_available(),
        report_to="none",
        disable_tqdm=True,
        logging_steps=1,
        max_steps=steps,
        save_strategy="no",
        per_device_train_batch_size=batch,
    )
    config = BertConfig(
        vocab_size=30522,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        intermediate_size=4 * width,
    )
    trainer = Trainer(
        model=BertForSequenceClassification(config), args=args, train_dataset=[row] * batch * steps
    )
    trainer.add_callback(clock)
    original = Trainer._prepare_inputs
    if reporting:
        for kind in OURS:
            callback = kind()
            for name in [name for name in vars(kind) if name.startswith("on_")]:
                setattr(callback, name, inside.of(getattr(callback, name)))
            trainer.add_callback(callback)
        usage.count_tokens()
        usage.Tokens.add, add = inside.of(usage.Tokens.add), usage.Tokens.add
    try:
        trainer.train()
    finally:
        if reporting:
            Trainer._prepare_inputs, usage.Tokens.add = original, add
    return clock.median(), inside.seconds / steps


def main() -> None:
    """Alternate, and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", choices=MODELS, default="minilm")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    ratios, paces, costs = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LAUNCH_RUN_DIR"] = folder
        for repeat in range(given.repeats):
            found = {}
            for reporting in ((False, True), (True, False))[repeat % 2]:
                found[reporting], cost = train(MODELS[given.model], given.steps, folder, reporting=reporting)
                costs += [cost] if reporting else []
            ratios.append(found[True] / found[False])
            paces.append(found[False])
            print(
                f"{1000 * found[False]:9.2f} ms without  {1000 * found[True]:9.2f} ms with  {ratios[-1]:.4f}"
            )
    pace, cost = statistics.median(paces), statistics.median(costs)
    print(
        f"{given.model}: ratio {statistics.median(ratios):.4f} ({min(ratios):.4f} to {max(ratios):.4f});"
        f" inside the reports {1e6 * cost:.0f} µs of {1e6 * pace:.0f} µs a step: {cost / pace:.2%}"
    )


if __name__ == "__main__":
    main()
