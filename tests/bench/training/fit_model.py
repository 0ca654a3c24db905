"""``python fit_model.py FOLDER SHAPE``: a random XLM-R of any size, with its tokenizer and BGE-M3's heads."""

import json
import sys
from pathlib import Path

import torch
from transformers import XLMRobertaModel

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "recipes" / "tools"))

import tiny_xlmr  # noqa: E402 - it lies beside the recipes


def main() -> None:
    """Write the model; the dropout is that of XLM-R unless the shape says otherwise."""
    folder, shape = Path(sys.argv[1]), json.loads(sys.argv[2])
    words = " ".join(str(number) for number in range(1000))
    tokenizer = tiny_xlmr.train_tokenizer([words] * 10, 2000, shape["length"])
    config = tiny_xlmr.configuration(
        vocabulary=max(shape["vocabulary"], len(tokenizer)),
        layers=shape["layers"],
        hidden_size=shape["hidden"],
        heads=shape["heads"],
        max_length=shape["length"],
    )
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = shape.get("dropout", 0.1)
    torch.manual_seed(1)
    heads = torch.nn.Linear(shape["hidden"], 1), torch.nn.Linear(shape["hidden"], shape["hidden"])
    tiny_xlmr.save(folder, tokenizer, XLMRobertaModel(config), *heads)


if __name__ == "__main__":
    main()
