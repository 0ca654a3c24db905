"""ColBERT scores that do not depend on how far a passage was padded.

A query token's score is its best similarity among the passage's tokens. Upstream multiplies the vectors of
padded positions with 0 but lets them take part: wherever a passage is shorter than its batch's longest, a
similarity below 0 becomes 0, and its gradient is lost. The same pair then scores differently from batch to
batch, and differently from inference, which cuts the padding off. Here padded positions cannot be the best.
"""

import torch
from FlagEmbedding.finetune.embedder.encoder_only.m3.modeling import EncoderOnlyEmbedderM3Model
from torch import Tensor


def apply() -> None:
    """Replace the score of the training."""
    EncoderOnlyEmbedderM3Model.compute_colbert_score = _compute_colbert_score


def _compute_colbert_score(
    self: EncoderOnlyEmbedderM3Model, q_reps: Tensor, p_reps: Tensor, q_mask: Tensor
) -> Tensor:
    """MaxSim averaged over the query's tokens, divided by the temperature: queries × passages.

    Args:
        q_reps: queries × their length × dimension; padded positions are zero vectors.
        p_reps: passages × their length × dimension; padded positions are zero vectors.
        q_mask: queries × (1 + their length), 1 for tokens; the first position is CLS, which has no vector.
    """
    padded = ~p_reps.detach().any(-1)
    similar = torch.einsum("qin,pjn->qipj", q_reps, p_reps)
    lowest = torch.finfo(similar.dtype).min
    best = similar.masked_fill_(padded[None, None], lowest).max(-1).values
    return best.sum(1) / q_mask[:, 1:].sum(-1, keepdim=True) / self.temperature
