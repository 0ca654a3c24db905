"""What would train the wrong thing, or nothing, without a word: refused before the model is loaded.

The recipes' headers refuse the same earlier, by the names of their parameters; here the trainer's own parsed
arguments are judged, whoever gave them.
"""

from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from runtime import trainers
from runtime.patches import Patch

#: What the recipes offer for report_to; transformers would miss them only after the model is loaded.
_LOGGERS = ("tensorboard", "wandb", "mlflow")


def attach(module: str, applied: Iterable[Patch]) -> None:
    """Judge the arguments of a known trainer when its runner gets them."""
    if module not in trainers.RUNNERS:
        return
    runner = trainers.runner(module)
    on = {patch.name for patch in applied}
    original = runner.__init__

    def __init__(self: Any, model_args: Any, data_args: Any, training_args: Any) -> None:  # noqa: N807
        found = list(problems(model_args, data_args, training_args, on))
        if found:
            raise SystemExit("\n".join(["nothing is trained:", *found]))
        original(self, model_args=model_args, data_args=data_args, training_args=training_args)

    runner.__init__ = __init__


def problems(model_args: Any, data_args: Any, training_args: Any, patches: set[str]) -> Iterator[str]:
    """Why these arguments should not be trained with; nothing: go ahead.

    Args:
        patches: names of those that are on.
    """
    unified = getattr(training_args, "unified_finetuning", False)
    reranker = hasattr(data_args, "max_len")
    for path in data_args.train_data if unified else ():
        if any(name.endswith("no_in_batch_neg") for name in (Path(path).name, Path(path).stem)):
            yield f"{path}: unified fine-tuning without in-batch negatives trains on a constant loss"
    if training_args.sub_batch_size and reranker:
        yield "sub_batch_size: the reranker never reads it; use gradient_accumulation_steps"
    elif (training_args.sub_batch_size or 0) > 0 and "sub-batch" not in patches:
        yield "sub_batch_size: without the patch sub-batch it saves no memory and stops at unequal lengths"
    if unified and getattr(training_args, "use_mrl", False):
        yield "use_mrl: BGE-M3's trainer does not implement it"
    if reranker and data_args.max_len != type(data_args).max_len:
        yield "max_len: never read; the length is query_max_len + passage_max_len"
    if model_args.tokenizer_name:
        yield "tokenizer_name: never read; the tokenizer comes from model_name_or_path"
    if getattr(training_args, "group_by_length", False):
        yield "group_by_length: transformers' sampler cannot read these rows; use length bucketing"
    for logger in training_args.report_to:
        if logger in _LOGGERS and find_spec(logger) is None:
            yield (
                f"report_to {logger}: it is not in this environment; take one that has it, or report_to none:"
                " metrics.jsonl has the same numbers"
            )
    if training_args.fp16 and training_args.device.type == "cpu":
        yield "fp16: without effect on a CPU; use fp32 or bf16"
    if not training_args.dataloader_drop_last and reranker and "reranker-batch" not in patches:
        yield "dataloader_drop_last: without the patch reranker-batch the last, smaller batch is mis-grouped"
