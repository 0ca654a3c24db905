"""Which checkpoint is whole: ``complete.json``, written into it last.

A training that is killed while it saves leaves a folder that looks like a checkpoint. One that holds
``complete.json`` had every file of every rank on the disk before it was written; the sums in it say whether
they still are what they were.
"""

import hashlib
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments, trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from runtime import events

MARKER = "complete.json"
SCHEMA = 1

#: Files that are hashed at once: the two that count are the weights and the optimiser's states.
_THREADS = 4

#: Seconds for which the parts of other nodes are looked for: NFS keeps a folder for 60 (acdirmax: nfs(5)).
_LOOK = 90.0


def attach() -> None:
    """Let every Trainer of this process mark its checkpoints, with or without a record."""
    trainer.DEFAULT_CALLBACKS.append(CheckpointCallback)


class CheckpointCallback(TrainerCallback):
    """Completes each checkpoint after the trainer has written it."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """What is about to be written again is no longer whole."""
        if control.should_save:
            self._begin(args, state)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """The same, for checkpoints of epochs."""
        if control.should_save:
            self._begin(args, state)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """An evaluation before the saving is no part of it."""
        self._since = time.monotonic()

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Wait for every rank's part, then mark the whole."""
        _barrier(args)
        folder = _folder(args, state)
        if not state.is_world_process_zero or not folder.is_dir():
            return
        if not _all_there(folder, args.world_size):
            print(f"{folder} is not complete: what other nodes wrote there is not seen on this one")
            return
        size = complete(folder, step=state.global_step, world_size=args.world_size)
        events.report(
            "checkpoint",
            rank=args.process_index,
            step=state.global_step,
            name=folder.name,
            bytes=size,
            seconds=round(time.monotonic() - self._since, 3),
        )

    def _begin(self, args: TrainingArguments, state: TrainerState) -> None:
        self._since = time.monotonic()
        if state.is_world_process_zero:
            (_folder(args, state) / MARKER).unlink(missing_ok=True)


def _folder(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"


def _barrier(args: TrainingArguments) -> None:
    if args.distributed_state is not None:
        args.distributed_state.wait_for_everyone()


def _all_there(folder: Path, world_size: int) -> bool:
    """Whether every rank's part is seen here; a network file system may show another node's with delay."""
    if world_size == 1 or not (folder / "rng_state_0.pth").is_file():  # weights alone
        return True
    until = time.monotonic() + _LOOK
    while len(list(folder.glob("rng_state_*.pth"))) < world_size:
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    return True


def complete(folder: Path, *, step: int, world_size: int) -> int:
    """Bring every file of a checkpoint to the disk, and write its marker, in one piece.

    Returns:
        Bytes of all files, without the marker.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MARKER)
    with ThreadPoolExecutor(_THREADS) as pool:
        sums = dict(zip(files, pool.map(_seal, files), strict=True))
    for inner in {folder, *(path.parent for path in files)}:
        _sync(inner)
    content = {
        "schema": SCHEMA,
        "step": step,
        "world_size": world_size,
        "files": {str(path.relative_to(folder)): about for path, about in sums.items()},
    }
    temporary = folder / f".{MARKER}.{os.getpid()}"
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(json.dumps(content, indent=1) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(folder / MARKER)
    _sync(folder)
    return sum(int(about["size"]) for about in sums.values())


def _seal(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file that is on the disk."""
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
        size = stream.tell()
        os.fsync(stream.fileno())
    return {"size": size, "sha256": found}


def _sync(folder: Path) -> None:
    """A file's name is data of its folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
