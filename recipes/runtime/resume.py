"""Continue a training from a checkpoint: ``LAUNCH_RESUME`` is its folder.

Every Trainer of transformers is told, also where its program does not pass ``resume_from_checkpoint`` on, so
recipes and copies of them need no argument for it. What the libraries forget between the two halves of a
training is put back by patches; this module holds what they share. What is equal then: docs/runs.md.
"""

import json
import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import transformers
from transformers import (
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    trainer,
)
from transformers.trainer_utils import has_length

from runtime.patches import Patch, choose

#: Without these a resumed training is another training: from the start's weights, or on other batches.
REQUIRED = frozenset({"resume-weights", "resume-position", "skip-batches"})


def attach(module: str, applied: Iterable[Patch]) -> None:
    """Tell every Trainer of this process where to continue; without ``LAUNCH_RESUME`` nothing happens.

    Raises:
        SystemExit: the folder holds no checkpoint that this process can continue, or a patch is off that a
            resumed training needs.
    """
    folder = os.environ.get("LAUNCH_RESUME")
    if not folder:
        return
    if problem := unfit(Path(folder), int(os.environ.get("WORLD_SIZE", "1"))):
        raise SystemExit(f"cannot continue from {folder}: {problem}")
    concerned = {patch.name for patch in choose(module, "all")[0]} & REQUIRED
    if missing := concerned - {patch.name for patch in applied}:
        raise SystemExit(f"cannot continue from {folder} without the patches {', '.join(sorted(missing))}")
    TrainingArguments.__post_init__ = _told(TrainingArguments.__post_init__, folder)
    Trainer.train = _continued(Trainer.train, folder)
    trainer.DEFAULT_CALLBACKS.append(_Refusal)


def unfit(checkpoint: Path, processes: int) -> str:
    """Why a training of so many processes cannot go on from a folder; empty: it can.

    transformers misses most of this without a word: without ``optimizer.pt`` it goes on with a new optimiser,
    without the random states of a rank with those of the start.
    """
    if not (checkpoint / "trainer_state.json").is_file():
        return "it is no checkpoint of a training (there is no trainer_state.json)"
    # DeepSpeed keeps optimiser and scheduler in a folder of its own.
    deepspeed = any(checkpoint.glob("global_step*"))
    if not deepspeed and not (any(checkpoint.glob("optimizer*")) and (checkpoint / "scheduler.pt").is_file()):
        return "it holds weights alone, no state of the optimiser (--save_only_model?)"
    alone = (checkpoint / "rng_state.pth").is_file()
    written = 1 if alone else len(list(checkpoint.glob("rng_state_*.pth")))
    if written != processes:
        return f"its number of processes is {written}, and this training's is {processes}"
    return ""


def _told(original: Any, folder: str) -> Any:
    def __post_init__(self: Any) -> None:  # noqa: N807 - it replaces the class's own
        if self.resume_from_checkpoint not in (None, folder):
            raise SystemExit(
                f"resume_from_checkpoint is {self.resume_from_checkpoint!r}, and the run is resumed from"
                f" {folder}: leave the argument out"
            )
        self.resume_from_checkpoint = folder
        original(self)

    return __post_init__


def _continued(original: Any, folder: str) -> Any:
    def train(self: Any, resume_from_checkpoint: Any = None, *args: Any, **more: Any) -> Any:
        return original(self, resume_from_checkpoint or folder, *args, **more)

    return train


class _Refusal(TrainerCallback):
    """What can be judged when the trainer knows its data.

    Before 4.57 (seen in 4.54.1) transformers counts the batches of a half epoch as if it began there: when
    accumulation does not divide them, the last update is left out, and its gradients go into the next epoch.
    """

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        train_dataloader: Any = None,
        **_: Any,
    ) -> None:
        """Stop before the first step."""
        if tuple(map(int, transformers.__version__.split(".")[:2])) >= (4, 57) or not has_length(
            train_dataloader
        ):
            return
        batches, each = len(train_dataloader), args.gradient_accumulation_steps
        if batches % each and position(args, state, batches)[1]:
            raise SystemExit(
                f"transformers {transformers.__version__} cannot go on in the middle of an epoch whose"
                f" {batches} batches gradient_accumulation_steps ({each}) does not divide: take the"
                " checkpoint of an epoch's end, or train anew"
            )


def position(args: TrainingArguments, state: TrainerState, batches: int) -> tuple[int, int]:
    """Epochs that are done, and batches (of each process) of the next one; as transformers counts them.

    Source: transformers 4.57.6, trainer.py, ``_inner_training_loop``.

    Args:
        batches: of an epoch and process.
    """
    each = args.gradient_accumulation_steps
    epochs, steps = divmod(state.global_step, max(1, math.ceil(batches / each)))
    return epochs, steps * each


def carry(name: str, value: Callable[[Any], Any]) -> None:
    """Keep ``value(trainer)`` in every checkpoint, for each rank its own; None is not kept."""
    original = Trainer._save_rng_state

    def _save_rng_state(self: Any, output_dir: str) -> None:
        original(self, output_dir)
        found = value(self)
        if found is not None:
            file = _file(Path(output_dir), self.args.process_index)
            file.write_text(json.dumps({**_read(file), name: found}) + "\n", encoding="utf-8")

    Trainer._save_rng_state = _save_rng_state


def carried(checkpoint: Path, rank: int, name: str) -> Any:
    """What ``carry`` kept of a rank under a name; None: nothing."""
    return _read(_file(checkpoint, rank)).get(name)


def _file(checkpoint: Path, rank: int) -> Path:
    return checkpoint / f"carried_{rank}.json"


def _read(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}
