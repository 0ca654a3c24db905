"""A real training: five steps of a tiny cross-encoder, by FlagEmbedding's own trainer of rerankers.

The loss must be finite and fall, and the weights must be written.
"""

import tempfile
from pathlib import Path

from _common import Failed, main, require
from _training import train, verdict


def check() -> str:
    """Train, then judge what was logged and written."""
    require("torch")
    version = require("flagembedding")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        losses = train(folder, "FlagEmbedding.finetune.reranker.encoder_only.base", {}, num_labels=1)
        if not any((folder / "out").rglob("model.safetensors")):
            raise Failed("the trainer wrote no weights")
    return verdict(losses, f"FlagEmbedding {version}")


main(check)
