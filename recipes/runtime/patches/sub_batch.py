"""``sub_batch_size`` that saves memory, and fits texts of unequal length.

Upstream encodes a batch in parts and keeps the activations of all of them: nothing is saved. With unified
fine-tuning it also stops, because each part has another length. Here a part keeps its input and its vectors
alone, and is computed again when its gradient is due (activation checkpointing around the whole encoder, with
dropout's random state restored): memory is that of one part and of the vectors, while the loss still sees
every query with every passage. Gradients are those of the whole batch.

Source of the idea: Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup",
2021 (GradCache). Checkpointing does the same within one backward pass, so DDP needs no special care.
"""

from typing import Any

import torch
from FlagEmbedding.finetune.embedder.encoder_only.base.modeling import BiEncoderOnlyEmbedderModel
from FlagEmbedding.finetune.embedder.encoder_only.m3.modeling import EncoderOnlyEmbedderM3Model
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint


def apply() -> None:
    """Wrap both embedders' ``encode``."""
    for model in (EncoderOnlyEmbedderM3Model, BiEncoderOnlyEmbedderModel):
        model.encode = _in_parts(model.encode)


def _in_parts(original: Any) -> Any:
    def encode(self: Any, features: Any) -> Any:
        if not isinstance(features, list):
            return original(self, features)
        parts = [checkpoint(original, self, part, use_reentrant=False) for part in features]
        if isinstance(parts[0], Tensor):
            return torch.cat(parts)
        # M3 gives (dense, sparse, colbert), nested dimensions give one tensor each.
        joined = [
            None if same[0] is None else torch.cat(_of_one_length(same, self.tokenizer.padding_side))
            for same in zip(*parts, strict=True)
        ]
        return type(parts[0])(joined)

    return encode


def _of_one_length(parts: tuple[Tensor, ...], side: str) -> list[Tensor]:
    """Token vectors (texts × length × dimension) padded with zero vectors to the longest part's length."""
    if parts[0].dim() < 3:
        return list(parts)
    longest = max(part.size(1) for part in parts)
    missing = [longest - part.size(1) for part in parts]
    return [
        pad(part, (0, 0, 0, short) if side == "right" else (0, 0, short, 0))
        for part, short in zip(parts, missing, strict=True)
    ]
