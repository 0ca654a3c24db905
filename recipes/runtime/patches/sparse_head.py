"""The sparse head's loss without a tensor of batch times length times vocabulary.

Upstream scatters every token's weight into its own row of the vocabulary and takes the maximum over the
tokens: for 16 passages of 512 tokens and XLM-R's 250,002 words that is 8 GB in 32 bit, kept twice for the
backward pass. But only words that occur in the batch can have a weight. Here the columns are those words
alone, and the maximum is taken while scattering: the similarities are the same sums without the zeros, so
the loss and its gradients are the same but for the order of additions.
"""

from collections.abc import Iterator
from typing import Any

import torch
from FlagEmbedding.finetune.embedder.encoder_only.m3.modeling import EncoderOnlyEmbedderM3Model
from torch import Tensor


def apply() -> None:
    """Replace the head of the training; what inference uses stays."""
    EncoderOnlyEmbedderM3Model.forward = _with_words(EncoderOnlyEmbedderM3Model.forward)
    EncoderOnlyEmbedderM3Model._sparse_embedding = _sparse_embedding(
        EncoderOnlyEmbedderM3Model._sparse_embedding
    )


def _with_words(original: Any) -> Any:
    def forward(self: Any, queries: Any = None, passages: Any = None, *args: Any, **more: Any) -> Any:
        # It stays set after the forward pass: checkpointing computes the head again during the backward pass.
        self._batch_words = torch.unique(torch.cat([ids.flatten() for ids in _token_ids(queries, passages)]))
        return original(self, queries, passages, *args, **more)

    return forward


def _token_ids(*inputs: Any) -> Iterator[Tensor]:
    """All ``input_ids`` of queries and passages, which come whole or in sub-batches."""
    for given in inputs:
        if given is not None:
            for features in given if isinstance(given, list) else [given]:
                yield features["input_ids"]


def _sparse_embedding(original: Any) -> Any:
    def embed(self: Any, hidden_state: Tensor, input_ids: Tensor, return_embedding: bool = True) -> Tensor:
        """Weights of texts (rows) for the words of this batch (columns), the maximum over a text's tokens.

        Args:
            hidden_state: batch × length × hidden size.
            input_ids: batch × length.
            return_embedding: False: the tokens' own weights, batch × length × 1.
        """
        words = getattr(self, "_batch_words", None)
        if not (self.training and return_embedding) or words is None:
            return original(self, hidden_state, input_ids, return_embedding)
        weights = torch.relu(self.sparse_linear(hidden_state)).squeeze(-1)
        tokenizer = self.tokenizer
        special = (
            tokenizer.cls_token_id,
            tokenizer.eos_token_id,
            tokenizer.pad_token_id,
            tokenizer.unk_token_id,
        )
        weights = weights.masked_fill(torch.isin(input_ids, input_ids.new_tensor(special)), 0)
        columns = torch.searchsorted(words, input_ids.contiguous())
        embedding = weights.new_zeros(len(input_ids), len(words))
        return embedding.scatter_reduce(1, columns, weights, "amax")

    return embed
