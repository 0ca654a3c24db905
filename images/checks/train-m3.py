"""A real training: five steps of BGE-M3 unified fine-tuning of a tiny XLM-R, by FlagEmbedding's own trainer.

The loss must be finite and fall, and the heads must be written.
"""

import tempfile
from pathlib import Path

from _common import Failed, main, require
from _training import train, verdict

_SWITCHES = {
    "temperature": 0.1,
    "query_instruction_for_retrieval": "",
    "knowledge_distillation": True,
    "kd_loss_type": "m3_kd_loss",
    "unified_finetuning": True,
    "use_self_distill": True,
    "self_distill_start_step": 0,
    "sentence_pooling_method": "cls",
    "normalize_embeddings": True,
}
_HEADS = ("sparse_linear.pt", "colbert_linear.pt")


def check() -> str:
    """Train, then judge what was logged and written."""
    require("torch")
    version = require("flagembedding")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        losses = train(folder, "FlagEmbedding.finetune.embedder.encoder_only.m3", _SWITCHES)
        missing = [name for name in _HEADS if not any((folder / "out").rglob(name))]
    if missing:
        raise Failed(f"not saved: {', '.join(missing)}")
    return verdict(losses, f"FlagEmbedding {version}")


main(check)
