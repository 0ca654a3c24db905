"""Models loaded through Unsloth: compiled layers and less memory, in images that have it.

Unsloth wants to be imported before transformers. Language models' own modules load theirs by it. Of rerankers
it returns an ordinary classification model, so the trainer and what is saved stay the same: full fine-tuning,
no adapters, for a reranker is small, and its head is new.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from runtime.trainers import LANGUAGE, RERANKER


def attach(module: str) -> None:
    """Import Unsloth, and let the reranker's runner load its model through it.

    Raises:
        SystemExit: another trainer, or Unsloth is not installed.
    """
    if module not in (RERANKER, *LANGUAGE):
        raise SystemExit(
            f"unsloth: only {RERANKER} and language models can be loaded through it, not {module}"
        )
    if find_spec("unsloth") is None:
        raise SystemExit("unsloth: it is not in this environment; the locked ones have it")
    fast = import_module("unsloth").FastModel
    if module in LANGUAGE:
        return
    runner: Any = import_module(f"{RERANKER}.runner")
    runner.AutoModelForSequenceClassification = _loader(fast, runner.AutoModelForSequenceClassification)


def _loader(fast: Any, original: Any) -> Any:
    class Loader:
        """What the runner calls instead of transformers' own class."""

        @staticmethod
        def from_pretrained(path: str, *, config: Any, trust_remote_code: bool = False, **_: Any) -> Any:
            """The model with one score per pair, all weights to be trained."""
            import torch

            model, _tokenizer = fast.from_pretrained(
                model_name=path,
                auto_model=original,
                num_labels=config.num_labels,
                max_seq_length=config.max_position_embeddings,
                load_in_4bit=False,
                full_finetuning=True,
                dtype=torch.float32,  # small updates are lost in 16 bit; autocast makes the activations small
                trust_remote_code=trust_remote_code,
            )
            return model

    return Loader
