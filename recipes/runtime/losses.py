"""A training whose loss is lost ends: what is learned from then on is noise.

transformers hides it: with ``logging_nan_inf_filter``, its default, it logs an average, or 0, in place of a
loss that is none, trains on, and saves weights that are none either (4.57.6, trainer.py).
"""

import math
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments, trainer


def attach() -> None:
    """Let every Trainer of this process end there, however it is made."""
    trainer.DEFAULT_CALLBACKS.append(LossCallback)


class LossCallback(TrainerCallback):
    """Ends the training on every rank: all of them log the same mean."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Let a lost loss be seen."""
        args.logging_nan_inf_filter = False

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Look at what is logged.

        Raises:
            SystemExit: the loss is no number.
        """
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            raise SystemExit(
                f"the loss is {loss} at step {state.global_step}: nothing usable is trained. Lower"
                " --learning-rate, or take --precision bf16 or fp32 where it was fp16"
            )
