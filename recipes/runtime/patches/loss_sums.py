"""Logged losses of a resumed training that count what came before.

transformers forgets both of its sums: ``train_loss`` at the end is the losses since the resume divided by all
steps, so a tenth of the training reports a tenth of the loss; and the first line after the resume leaves out
the steps between the last line and the checkpoint. Here both sums, of each rank, lie in the checkpoint.
"""

from pathlib import Path
from typing import Any

from transformers import Trainer

from runtime import resume

_NAME = "loss_sums"


def apply() -> None:
    """Keep the sums, and put them back when the random states are put back: before the first step."""
    Trainer._load_rng_state = _then_read(Trainer._load_rng_state)
    Trainer._maybe_log_save_evaluate = _then_added(Trainer._maybe_log_save_evaluate)
    resume.carry(_NAME, _sums)


def _sums(trainer: Any) -> dict[str, float] | None:
    if not hasattr(trainer, "_unlogged"):
        return None
    return {
        "logged": float(trainer._total_loss_scalar),
        "unlogged": float(trainer._unlogged),
        "step": trainer._globalstep_last_logged,
    }


def _then_read(original: Any) -> Any:
    def _load_rng_state(self: Any, checkpoint: Any) -> None:
        original(self, checkpoint)
        if checkpoint is not None:
            self._before = resume.carried(Path(checkpoint), self.args.process_index, _NAME)

    return _load_rng_state


def _then_added(original: Any) -> Any:
    def _maybe_log_save_evaluate(self: Any, tr_loss: Any, *args: Any, **more: Any) -> None:
        before = vars(self).pop("_before", None)
        if before is not None:
            tr_loss += before["unlogged"]  # in place, as transformers itself sets it to 0
            self._total_loss_scalar = before["logged"]
            self._globalstep_last_logged = before["step"]
        self._unlogged = tr_loss
        original(self, tr_loss, *args, **more)

    return _maybe_log_save_evaluate
