"""Every rank says what it saw: one JSON object per line in ``$LAUNCH_RUN_DIR/metrics.jsonl``.

Schema 1. Every line has ``schema``, ``event``, ``rank``, ``time`` (seconds since the epoch), and

* ``begin``: ``world_size``, ``device``, ``max_steps``, ``epochs``; written by every rank;
* ``step``: ``step``, ``epoch`` and what the trainer logged (``loss``, ``learning_rate``, ``grad_norm``);
  rank 0 only;
* ``end``: ``step``, the number of optimiser steps that were done; written by every rank.

The launcher compares ``begin`` with its plan: an exit code of 0 proves nothing.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments, trainer

SCHEMA = 1


def attach() -> None:
    """Make every Trainer of this process report, however it is made."""
    if os.environ.get("LAUNCH_RUN_DIR"):
        trainer.DEFAULT_CALLBACKS.append(MetricsCallback)


class MetricsCallback(TrainerCallback):
    """Writes the events of one rank; a line is appended with one system call, so ranks never mix."""

    def __init__(self) -> None:
        self._file = Path(os.environ["LAUNCH_RUN_DIR"]) / "metrics.jsonl"

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Say which world this rank sees, and refuse to train in another than was planned."""
        self._write(
            args,
            "begin",
            world_size=args.world_size,
            device=str(args.device),
            max_steps=state.max_steps,
            epochs=state.num_train_epochs,
        )
        planned = os.environ.get("LAUNCH_WORLD_SIZE")
        if planned and int(planned) != args.world_size:
            raise SystemExit(f"world size is {args.world_size}, {planned} was planned: nothing is trained")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Pass on what the trainer logged."""
        if state.is_world_process_zero:
            numbers = {key: value for key, value in (logs or {}).items() if isinstance(value, int | float)}
            self._write(args, "step", **{**numbers, "step": state.global_step, "epoch": state.epoch})

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Say how many steps were really done."""
        self._write(args, "end", step=state.global_step)

    def _write(self, args: TrainingArguments, event: str, **fields: Any) -> None:
        line = {"schema": SCHEMA, "event": event, "rank": args.process_index, "time": time.time(), **fields}
        descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(descriptor, (json.dumps(line) + "\n").encode())
        finally:
            os.close(descriptor)
