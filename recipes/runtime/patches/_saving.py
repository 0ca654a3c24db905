"""Hooks behind a trainer's ``_save``, which writes a checkpoint as well as the result."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from FlagEmbedding.finetune.embedder.encoder_only.base.runner import EncoderOnlyEmbedderRunner
from FlagEmbedding.finetune.embedder.encoder_only.base.trainer import EncoderOnlyEmbedderTrainer
from FlagEmbedding.finetune.embedder.encoder_only.m3.runner import EncoderOnlyEmbedderM3Runner
from FlagEmbedding.finetune.embedder.encoder_only.m3.trainer import EncoderOnlyEmbedderM3Trainer
from FlagEmbedding.finetune.reranker.encoder_only.base.runner import EncoderOnlyRerankerRunner
from FlagEmbedding.finetune.reranker.encoder_only.base.trainer import EncoderOnlyRerankerTrainer

_EMBEDDERS = (
    (EncoderOnlyEmbedderM3Runner, EncoderOnlyEmbedderM3Trainer),
    (EncoderOnlyEmbedderRunner, EncoderOnlyEmbedderTrainer),
)
_RERANKERS = ((EncoderOnlyRerankerRunner, EncoderOnlyRerankerTrainer),)


def after_save(hook: Callable[[Any, Path], None], *, embedders_only: bool = False) -> None:
    """Call ``hook(trainer, folder)`` after every save; ``trainer.runner`` holds all arguments."""
    for runner, trainer in _EMBEDDERS if embedders_only else (*_EMBEDDERS, *_RERANKERS):
        runner.load_trainer = _known(runner.load_trainer)
        trainer._save = _followed(trainer._save, hook)


def _known(original: Any) -> Any:
    def load_trainer(self: Any) -> Any:
        trainer = original(self)
        trainer.runner = self
        return trainer

    return load_trainer


def _followed(original: Any, hook: Callable[[Any, Path], None]) -> Any:
    def _save(self: Any, output_dir: str | None = None, state_dict: Any = None) -> None:
        original(self, output_dir, state_dict)
        hook(self, Path(output_dir or self.args.output_dir))

    return _save
