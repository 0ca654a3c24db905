"""What the steps took of tokens, time and memory, on every rank, with each of the trainer's logs: ``usage``.

Nothing here waits for the device between two logs: what a batch holds is added up where the batch lies, and
read when the trainer has just waited for its loss.
"""

import contextlib
import functools
import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from runtime import events, probe


class Tokens:
    """Positions of the batches that were trained on, and how many of them are no padding."""

    def __init__(self) -> None:
        self._attended: torch.Tensor | int = 0
        self._padded = 0

    def add(self, inputs: Any) -> None:
        """Count one batch, however deep its texts lie in it; asks the device nothing."""
        for ids, mask in _texts(inputs):
            self._padded += ids.numel()
            # A mask of another shape is about pairs of positions, and none means that all of them count.
            counted = mask.sum() if mask is not None and mask.shape == ids.shape else ids.numel()
            self._attended = self._attended + counted

    def take(self) -> tuple[int, int]:
        """Attended and all positions since the last call; waits for the device."""
        found = int(self._attended), self._padded
        self._attended, self._padded = 0, 0
        return found


def _texts(inputs: Any) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
    """Each ``input_ids`` with its ``attention_mask``; FlagEmbedding's batches hold dicts and lists."""
    if isinstance(inputs, Mapping):
        ids, mask = inputs.get("input_ids"), inputs.get("attention_mask")
        if isinstance(ids, torch.Tensor):
            yield ids, mask if isinstance(mask, torch.Tensor) else None
            return
        inputs = inputs.values()
    elif not isinstance(inputs, list | tuple):
        return
    for part in inputs:
        if isinstance(part, Mapping | list | tuple):
            yield from _texts(part)


#: Of this process: a trainer's callbacks are made by the trainer, and one process trains with one.
_tokens = Tokens()


def count_tokens() -> None:
    """Let every Trainer of this process count what it trains on; evaluations are left out."""
    original = Trainer._prepare_inputs
    if hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    def _prepare_inputs(self: Any, inputs: Any) -> Any:
        prepared = original(self, inputs)
        if self.model.training:
            _tokens.add(prepared)
        return prepared

    Trainer._prepare_inputs = _prepare_inputs


class UsageCallback(TrainerCallback):
    """Writes the ``usage`` events of one rank."""

    def __init__(self) -> None:
        self._step = 0
        self._since = self._mark = time.monotonic()
        self._away = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Start counting; a resumed training starts behind its checkpoint's steps."""
        _tokens.take()
        probe.forget_resident_peak()
        self._start(state.global_step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """From here to the next step the trainer logs, evaluates and saves."""
        self._mark = time.monotonic()

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """The evaluation is no training."""
        self._leave_out()

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Nor is the checkpoint."""
        self._leave_out()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Say what the steps since the last time took."""
        if any(name.startswith("eval_") for name in logs or {}):
            self._leave_out()  # an evaluation logs before it is over
            return
        steps = state.global_step - self._step
        if steps <= 0:
            return
        tokens, padded = _tokens.take()
        seconds = time.monotonic() - self._since - self._away
        events.report(
            "usage",
            rank=args.process_index,
            step=state.global_step,
            steps=steps,
            seconds=round(seconds, 6),
            tokens=tokens,
            padded=padded,
            **memory(args.device),
        )
        self._start(state.global_step)

    def _start(self, step: int) -> None:
        self._step, self._away = step, 0.0
        self._since = self._mark = time.monotonic()

    def _leave_out(self) -> None:
        now = time.monotonic()
        self._away += now - self._mark
        self._mark = now


def memory(device: torch.device) -> dict[str, int]:
    """Bytes now and at the peak since the training began: of the process, and what torch reserved."""
    ram, ram_peak = probe.resident()
    found = {"ram": ram, "ram_peak": ram_peak}
    module: Any = getattr(torch, device.type, None)
    # Only cuda (NVIDIA's and AMD's) and xpu count for themselves in one way.
    if device.type in ("cuda", "xpu"):
        with contextlib.suppress(RuntimeError, AttributeError):
            reserved, peak = module.memory_reserved(device), module.max_memory_reserved(device)
            found |= {"device": int(reserved), "device_peak": int(peak)}
    return found
