"""The trainers that the patches and options here know; standard library only."""

from importlib import import_module
from typing import Any

M3 = "FlagEmbedding.finetune.embedder.encoder_only.m3"
DENSE = "FlagEmbedding.finetune.embedder.encoder_only.base"
RERANKER = "FlagEmbedding.finetune.reranker.encoder_only.base"
EMBEDDERS = (M3, DENSE)

#: Language models, by TRL's trainers.
SFT = "llm.sft"
GRPO = "llm.grpo"
LANGUAGE = (SFT, GRPO)

#: The class of each trainer that loads model and data and starts the training.
RUNNERS = {
    M3: "EncoderOnlyEmbedderM3Runner",
    DENSE: "EncoderOnlyEmbedderRunner",
    RERANKER: "EncoderOnlyRerankerRunner",
}


def runner(module: str) -> Any:
    """A known trainer's runner class; imports the trainer."""
    return getattr(import_module(module), RUNNERS[module])
