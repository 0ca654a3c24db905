"""Every rank says what it saw: one JSON object per line in ``$LAUNCH_RUN_DIR/metrics.jsonl``; node K > 0 has
``metrics.K.jsonl``.

Schema 1. Every line has ``schema``, ``event``, ``rank``, ``time`` (seconds since the epoch), from the second
attempt on ``attempt``, and

* ``runtime``: ``patches`` (name, version, library), ``off``, ``options``; rank 0 only, before the trainer
  starts;
* ``buckets``: the batch size of every length; rank 0 only, with length bucketing;
* ``rows``: what a language model learns from: ``rows``, ``made`` of them, ``tokens``, ``answer_tokens`` that
  carry loss, ``cut``, ``split``, ``longest``; rank 0 only;
* ``begin``: ``world_size``, ``device``, ``max_steps``, ``epochs``, and the ``step`` that the training starts
  behind (0, or the checkpoint's); written by every rank;
* ``step``: ``step``, ``epoch`` and what the trainer logged (``loss``, ``learning_rate``, ``grad_norm``);
  rank 0 only;
* ``usage``: tokens, time and memory of the steps since the last one; written by every rank (see ``usage``);
* ``checkpoint``: ``step``, ``name``, ``bytes``, ``seconds``; rank 0 only (see ``checkpoints``);
* ``memory``: ``before`` and ``peak`` in bytes (see ``memory``), at the end; written by every rank;
* ``end``: ``step``, the number of optimiser steps that were done; written by every rank;
* ``failure``: ``type``, ``message``, ``traceback``; by every rank whose trainer ended by an exception.

The launcher compares ``begin`` with its plan: an exit code of 0 proves nothing.
"""

import os
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments, trainer

from runtime import usage
from runtime.events import report

__all__ = ["MetricsCallback", "attach", "report"]


def attach() -> None:
    """Make every Trainer of this process report, however it is made.

    ``usage`` comes before ``step``: who reads a step knows what it took.
    """
    if os.environ.get("LAUNCH_RUN_DIR"):
        usage.count_tokens()
        trainer.DEFAULT_CALLBACKS += [usage.UsageCallback, MetricsCallback]


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
            step=state.global_step,
        )
        planned = os.environ.get("LAUNCH_WORLD_SIZE")
        if planned and int(planned) != args.world_size:
            raise SystemExit(f"world size is {args.world_size}, {planned} was planned: nothing is trained")
        if args.save_on_each_node and int(os.environ.get("LAUNCH_NODES") or 1) > 1:
            raise SystemExit(
                "save_on_each_node: every node would write the same files into the same folder at once;"
                " node 0 writes them: nothing is trained"
            )
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
