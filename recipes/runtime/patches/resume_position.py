"""A resumed training that goes on with the batch that was next.

transformers skips the batches that are done, by their numbers. In same-dataset mode upstream ignores the
numbers: its data set counts for itself, from 0, and shuffles once per epoch that it has seen; a resumed
training gets the first epoch's first batches again. BGE-M3's model counts its batches too, until
self-distillation starts, and would wait once more. Here both are set to where the checkpoint was written.
"""

from typing import Any

from FlagEmbedding.finetune.embedder.encoder_only.base.runner import EncoderOnlyEmbedderRunner
from FlagEmbedding.finetune.embedder.encoder_only.m3.runner import EncoderOnlyEmbedderM3Runner
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from runtime import resume


def apply() -> None:
    """Add a callback to both embedders' trainers."""
    for runner in (EncoderOnlyEmbedderM3Runner, EncoderOnlyEmbedderRunner):
        runner.load_trainer = _with_callback(runner.load_trainer)


def _with_callback(original: Any) -> Any:
    def load_trainer(self: Any) -> Any:
        trainer = original(self)
        trainer.add_callback(_Position(trainer))
        return trainer

    return load_trainer


class _Position(TrainerCallback):
    """Moves data set and model on before the first batch is drawn."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        train_dataloader: Any = None,
        **_: Any,
    ) -> None:
        """A training that starts anew has done nothing, and nothing is changed."""
        if state.global_step == 0:
            return
        batches = len(train_dataloader)
        epochs, done = resume.position(args, state, batches)
        model, dataset = self._trainer.model, self._trainer.train_dataset
        if hasattr(model, "self_distill_start_step"):
            model.step = epochs * batches + done
        if hasattr(dataset, "refresh_epoch"):
            for _epoch in range(epochs):
                dataset.refresh_epoch()
            dataset.step = 0 if args.ignore_data_skip else done
