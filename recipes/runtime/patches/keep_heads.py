"""The sparse and ColBERT heads of the model that was started from, where the training saves none.

Upstream saves them with unified fine-tuning only. Without, a BGE-M3 that is loaded again gets new random
heads, and says so in a line of a log at most. Training the dense vector alone moves the encoder below the
heads, so they are worth less than before, but far more than noise; the record says that they were kept.
"""

import shutil
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache

from runtime.patches._saving import after_save

HEADS = ("sparse_linear.pt", "colbert_linear.pt")


def apply() -> None:
    """Copy what the start had and the result lacks."""
    after_save(_copy, embedders_only=True)


def _copy(trainer: Any, output: Path) -> None:
    start = trainer.runner.model_args.model_name_or_path
    for name in HEADS:
        source = _found(start, name)
        if source is not None and not (output / name).exists():
            shutil.copyfile(source, output / name)


def _found(start: str, name: str) -> Path | None:
    """The file in a model's folder, or in the hub's cache."""
    if Path(start).is_dir():
        return Path(start, name) if Path(start, name).is_file() else None
    cached = try_to_load_from_cache(start, name)
    return Path(cached) if isinstance(cached, str) else None
