"""What a training took of the memory: one event per rank, ``memory``, when the training ends.

``before`` is when the model is loaded and nothing has been trained, ``peak`` the most that there was from
then on, in
bytes: reserved by torch's allocator on a GPU (``allocated`` is what tensors took of it), the resident set of
the process on a CPU.

With ``LAUNCH_PROBE=1`` the training ends there: ``launch fit --probe`` wants the figures and no model.
"""

import os
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments, trainer

from runtime import metrics, probe


class Probed(Exception):  # noqa: N818 - it ends a probe, and is no error
    """The steps of a probe are done."""


def attach() -> None:
    """Make every Trainer of this process report what it took; after the metrics, whose last word comes
    first."""
    if os.environ.get("LAUNCH_RUN_DIR"):
        trainer.DEFAULT_CALLBACKS.append(MemoryCallback)


class MemoryCallback(TrainerCallback):
    """Reads the memory of one rank."""

    def __init__(self) -> None:
        self._before = 0
        self._module: Any = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Forget what loading the model took."""
        device = args.device
        self._module = None if device.type == "cpu" else getattr(__import__("torch"), device.type)
        if self._module is not None:
            self._module.empty_cache()
            self._module.reset_peak_memory_stats(device)
            self._before = int(self._module.memory_reserved(device))
            return
        ram = probe.Ram(1)
        ram.reset()
        self._before = ram.before

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """A probe saves nothing: transformers would write a checkpoint with its last step."""
        if _probing():
            control.should_save = False

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Say the figures; a probe goes no further."""
        if self._module is None:
            figures = {"before": self._before, "peak": probe.resident_peak()}
        else:
            figures = {
                "before": self._before,
                "peak": int(self._module.max_memory_reserved(args.device)),
                "allocated": int(self._module.max_memory_allocated(args.device)),
            }
        metrics.report("memory", rank=args.process_index, **figures)
        if _probing():
            raise Probed


def _probing() -> bool:
    return os.environ.get("LAUNCH_PROBE") == "1"
