"""Positives and negatives that follow from seed, epoch and row.

Upstream draws them with Python's global ``random``, whenever the loader reads a row: one batch ahead of the
training, in another process with workers. Which negatives a row gets then depends on everything drawn
before, and the random state of a checkpoint is one batch ahead of the batch that a resumed training draws
next. Here each row (in same-dataset mode each batch of a rank) has a seed of its own, made of the training's
seed and the epoch; the global state is left as it was. Folders are read in the order of their files' names:
upstream takes the file system's.
"""

import os
import random
from types import SimpleNamespace
from typing import Any

import torch
from FlagEmbedding.abc.finetune import embedder, reranker
from FlagEmbedding.finetune.embedder.encoder_only.base.runner import EncoderOnlyEmbedderRunner
from FlagEmbedding.finetune.embedder.encoder_only.m3.runner import EncoderOnlyEmbedderM3Runner
from FlagEmbedding.finetune.reranker.encoder_only.base.runner import EncoderOnlyRerankerRunner
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


def apply() -> None:
    """Wrap what reads a row, and tell it seed and epoch."""
    for data in (embedder.AbsDataset, reranker.AbsDataset):
        data.os = SimpleNamespace(path=os.path, listdir=_by_name)
    for rows in (embedder.AbsEmbedderTrainDataset, reranker.AbsRerankerTrainDataset):
        rows.__getitem__ = _seeded(rows.__getitem__, lambda _, item: (int(item),))
    batches = embedder.AbsDataset.AbsEmbedderSameDatasetTrainDataset
    batches.__getitem__ = _seeded(batches.__getitem__, lambda data, _: (data.step, data.process_index))
    for runner in (EncoderOnlyEmbedderM3Runner, EncoderOnlyEmbedderRunner, EncoderOnlyRerankerRunner):
        runner.load_trainer = _with_epoch(runner.load_trainer)


def _by_name(folder: str) -> list[str]:
    return sorted(os.listdir(folder))  # noqa: PTH208 - names, as upstream wants them


def _seeded(original: Any, place: Any) -> Any:
    def __getitem__(self: Any, item: Any) -> Any:  # noqa: N807 - it replaces the class's own
        if not hasattr(self, "sampling"):  # asked for outside of a training
            return original(self, item)
        seed, epoch = self.sampling
        before = random.getstate()
        random.seed(" ".join(str(part) for part in (seed, int(epoch), *place(self, item))))
        try:
            return original(self, item)
        finally:
            random.setstate(before)

    return __getitem__


def _with_epoch(original: Any) -> Any:
    def load_trainer(self: Any) -> Any:
        trainer = original(self)
        # In shared memory: workers that live longer than an epoch have copies of the data set.
        epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self.train_dataset.sampling = (self.training_args.seed, epoch)
        trainer.add_callback(_Epoch(epoch))
        return trainer

    return load_trainer


class _Epoch(TrainerCallback):
    """Writes the number of the epoch before its first row is read."""

    def __init__(self, epoch: torch.Tensor) -> None:
        self._epoch = epoch

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """From 0; that of a resumed training may have begun before."""
        self._epoch.fill_(int(state.epoch or 0))
