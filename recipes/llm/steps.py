"""What a training of a language model is watched for: a loss that is none, tokens that are counted."""

import math
import os
from pathlib import Path
from typing import Any


def watch(trainer: Any) -> None:
    """End a training that learns noise, and let one that is resumed go on counting its tokens."""
    _count_on(trainer)
    trainer.add_callback(_finite())


def _finite() -> Any:
    """A callback that ends a training whose loss is none any more: what is learned from then on is noise."""
    from transformers import TrainerCallback

    class Finite(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            loss = (logs or {}).get("loss", 0.0)
            if not math.isfinite(loss):
                raise SystemExit(
                    f"the loss is {loss} at step {state.global_step}: nothing usable is trained. Lower"
                    " --learning-rate, or take --precision bf16 or fp32 where it was fp16"
                )

    return Finite()


def _count_on(trainer: Any) -> None:
    """Let a resumed training go on counting its tokens; TRL begins at 0."""
    from runtime import resume

    resume.carry("num_tokens", lambda each: getattr(each, "_total_train_tokens", None))
    if folder := os.environ.get("LAUNCH_RESUME"):
        done = resume.carried(Path(folder), trainer.args.process_index, "num_tokens")
        trainer._total_train_tokens = done or 0
