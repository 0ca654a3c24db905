"""A resumed training that goes on with the checkpoint's weights, its heads included.

Upstream trains a wrapper and saves the model inside it, with the heads in files of their own. transformers
loads a checkpoint into the wrapper and does not insist on the names: not one of them fits, so nothing is
loaded, and then it stops in the warning about it, because the wrapper is no model of transformers
(``_keys_to_ignore_on_save``). Here the weights are loaded where they came from, and every name must fit.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from FlagEmbedding.finetune.embedder.encoder_only.base.trainer import EncoderOnlyEmbedderTrainer
from FlagEmbedding.finetune.embedder.encoder_only.m3.trainer import EncoderOnlyEmbedderM3Trainer
from FlagEmbedding.finetune.reranker.encoder_only.base.trainer import EncoderOnlyRerankerTrainer
from safetensors.torch import load_file
from torch import nn

#: The parts of the wrapper that have a file of their own.
_HEADS = ("colbert_linear", "sparse_linear")


def apply() -> None:
    """Replace the loading of all three trainers."""
    for trainer in (EncoderOnlyEmbedderM3Trainer, EncoderOnlyEmbedderTrainer, EncoderOnlyRerankerTrainer):
        trainer._load_from_checkpoint = _load_from_checkpoint


def _load_from_checkpoint(self: Any, resume_from_checkpoint: str, model: Any = None) -> None:
    wrapper, folder = self.model if model is None else model, Path(resume_from_checkpoint)
    states = {"model": dict(item for file in _weights(folder) for item in _state(file).items())}
    for head in _HEADS:
        if isinstance(getattr(wrapper, head, None), nn.Module):
            states[head] = _state(folder / f"{head}.pt")
    for part, state in states.items():
        _fill(getattr(wrapper, part), state, f"{part} in {folder}")


def _weights(folder: Path) -> Iterator[Path]:
    """The files of the encoder, which ``save_pretrained`` splits when they are large."""
    found = sorted([*folder.glob("model*.safetensors"), *folder.glob("pytorch_model*.bin")])
    yield from found or [folder / "model.safetensors"]


def _state(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise SystemExit(f"the checkpoint is not whole: there is no {file}")
    if file.suffix == ".safetensors":
        return dict(load_file(file, device="cpu"))
    return dict(torch.load(file, map_location="cpu", weights_only=True))


def _fill(module: nn.Module, state: dict[str, Any], what: str) -> None:
    """Load all weights of a module; tied ones are saved once."""
    result = module.load_state_dict(state, strict=False)
    tied = set(getattr(module, "_tied_weights_keys", None) or ())
    if wrong := [*sorted(set(result.missing_keys) - tied), *result.unexpected_keys]:
        names = ", ".join(wrong[:5])
        raise SystemExit(
            f"the checkpoint's weights do not fit the model: {what}, {len(wrong)} names: {names}"
        )
    if tied:
        module.tie_weights()
