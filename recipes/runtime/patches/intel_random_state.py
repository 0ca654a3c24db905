"""Random states of Intel GPUs in the checkpoint.

transformers saves and restores those of NVIDIA and five other makers' devices, not of these: after a resume
dropout draws the numbers of the training's start again. Tested with a stand-in for the device alone.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import Trainer

from runtime import resume

_NAME = "xpu_rng_state"


def apply() -> None:
    """Keep the state of each rank's device, and put it back with the others."""
    Trainer._load_rng_state = _then_restored(Trainer._load_rng_state)
    resume.carry(_NAME, _state)


def _state(trainer: Any) -> list[int] | None:
    """The generator's bytes: seed and offset, no more."""
    device = trainer.args.device
    return torch.xpu.get_rng_state(device).tolist() if device.type == "xpu" else None


def _then_restored(original: Any) -> Any:
    def _load_rng_state(self: Any, checkpoint: Any) -> None:
        original(self, checkpoint)
        if checkpoint is None:
            return
        state = resume.carried(Path(checkpoint), self.args.process_index, _NAME)
        if state is not None:
            torch.xpu.set_rng_state(torch.tensor(state, dtype=torch.uint8), self.args.device)

    return _load_rng_state
