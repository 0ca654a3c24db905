"""Optimiser states that several processes on a CPU can load again.

accelerate numbers the processes' devices, on a CPU too, and transformers asks torch to load the states onto
``cpu:0`` and ``cpu:1`` (trainer.py, ``_load_optimizer_and_scheduler``). torch has one CPU without a number,
and stops: "don't know how to restore data location". So no such training could be resumed. Here torch is told
that a numbered CPU is the CPU.
"""

from typing import Any

import torch


def apply() -> None:
    """Register the name."""
    torch.serialization.register_package(100, _no_tag, _restored)  # behind torch's own


def _no_tag(storage: Any) -> str | None:
    """Nothing is saved under the name."""
    return None


def _restored(storage: Any, location: str) -> Any:
    return storage if location.startswith("cpu:") else None
