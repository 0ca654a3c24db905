"""Every rank says what it saw: one JSON object per line in ``$LAUNCH_RUN_DIR/metrics.jsonl``.

Schema 1. Every line has ``schema``, ``event``, ``rank``, ``time`` (seconds since the epoch), and

* ``runtime``: ``patches`` (name, version, library), ``off``, ``options``; rank 0 only, before the trainer
  starts;
* ``buckets``: the batch size of every length; rank 0 only, with length bucketing;
* ``begin``: ``world_size``, ``device``, ``max_steps``, ``epochs``; written by every rank;
* ``step``: ``step``, ``epoch`` and what the trainer logged (``loss``, ``learning_rate``, ``grad_norm``);
  rank 0 only;
* ``memory``: ``before`` and ``peak`` in bytes (see ``memory``), at the end; written by every rank;
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


def report(event: str, *, rank: int | None = None, **fields: Any) -> None:
    """Append one event to the run's record, with one system call, so that ranks never mix.

    Without a rank it is this process's, and only rank 0 writes. Without a record nothing is written.
    """
    own = int(os.environ.get("RANK", "0"))
    if not os.environ.get("LAUNCH_RUN_DIR") or (rank is None and own != 0):
        return
    line = {"schema": SCHEMA, "event": event, "rank": own if rank is None else rank, "time": time.time()}
    file = Path(os.environ["LAUNCH_RUN_DIR"]) / "metrics.jsonl"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, (json.dumps({**line, **fields}) + "\n").encode())
    finally:
        os.close(descriptor)


def attach() -> None:
    """Make every Trainer of this process report, however it is made."""
    if os.environ.get("LAUNCH_RUN_DIR"):
        trainer.DEFAULT_CALLBACKS.append(MetricsCallback)


class MetricsCallback(TrainerCallback):
    """Writes the events of one rank."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Say which world and device this rank sees, and refuse to train in others than were planned."""
        report(
            "begin",
            rank=args.process_index,
            world_size=args.world_size,
            device=str(args.device),
            max_steps=state.max_steps,
            epochs=state.num_train_epochs,
        )
        planned = os.environ.get("LAUNCH_WORLD_SIZE")
        if planned and int(planned) != args.world_size:
            raise SystemExit(f"world size is {args.world_size}, {planned} was planned: nothing is trained")
        # Trainers fall back to the CPU without a word where torch does not see the device.
        wanted = os.environ.get("LAUNCH_DEVICE")
        if wanted and args.device.type != wanted and not args.use_cpu:
            raise SystemExit(f"torch sees {args.device.type}, {wanted} was planned: nothing is trained")

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
            where = {"step": state.global_step, "epoch": state.epoch}
            report("step", rank=args.process_index, **{**numbers, **where})

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Say how many steps were really done."""
        report("end", rank=args.process_index, step=state.global_step)
