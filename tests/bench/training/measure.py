"""``python measure.py OUT.json -m MODULE ARGS``: run a trainer and write down what its steps cost.

Time of every step, its loss, its tokens (padding counts), and the peak of the memory: allocated bytes on a
GPU, the resident set on a CPU, beside what the process held before the first step.
"""

import json
import runpy
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import Trainer, TrainerCallback, trainer


class Steps(TrainerCallback):
    """Collects the figures; shared by the callback and the wrapped loss."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.losses: list[float] = []
        self.tokens: list[int] = []
        self.queries: list[int] = []
        self.peak = self.before = 0
        self._begun = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Forget what loading the model took."""
        self.before = _resident()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        else:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock when the device is idle."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self._begun = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop the clock when the device is done."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - self._begun)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Keep the loss of every step."""
        if logs and "loss" in logs:
            self.losses.append(logs["loss"])

    def result(self) -> dict[str, Any]:
        """All figures; bytes, seconds."""
        on_gpu = torch.cuda.is_available()
        peak = torch.cuda.max_memory_allocated() if on_gpu else _highest() - self.before
        fields = ("seconds", "losses", "tokens", "queries")
        return {"peak": peak, **{name: getattr(self, name) for name in fields}}


def _resident() -> int:
    return int(psutil.Process().memory_info().rss)


def _highest() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def main() -> None:
    """Run the module with the counting parts in it."""
    out, module = Path(sys.argv[1]), sys.argv[3]
    sys.argv = [module, *sys.argv[4:]]
    steps = Steps()
    trainer.DEFAULT_CALLBACKS.append(steps)
    original = Trainer.training_step

    def training_step(self: Any, model: Any, inputs: Any, *more: Any, **named: Any) -> Any:
        sizes = [part["input_ids"].shape for key in ("queries", "passages") for part in _parts(inputs[key])]
        steps.tokens.append(sum(count * length for count, length in sizes))
        steps.queries.append(sum(part["input_ids"].shape[0] for part in _parts(inputs["queries"])))
        return original(self, model, inputs, *more, **named)

    Trainer.training_step = training_step
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except torch.OutOfMemoryError:
        out.write_text(json.dumps({"out_of_memory": True}), encoding="utf-8")
        return
    out.write_text(json.dumps(steps.result()), encoding="utf-8")


def _parts(given: Any) -> list[Any]:
    return given if isinstance(given, list) else [given]


if __name__ == "__main__":
    main()
