"""``python make.py FOLDER SHAPE``: rows of full length, and a random XLM-R with its 250,002 words."""

import json
import random
import sys
from pathlib import Path

import torch
from transformers import XLMRobertaModel

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "recipes" / "tools"))

import tiny_xlmr  # noqa: E402 - it lies beside the recipes

VOCABULARY = 250_002
ROWS = 600


def main() -> None:
    """Write ``rows.jsonl`` and ``model``."""
    folder, shape = Path(sys.argv[1]), json.loads(sys.argv[2])
    draw = random.Random(1)  # noqa: S311 - no secret
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(draw.choices(letters, k=draw.randint(3, 8))) for _ in range(2000)]

    def text(tokens: int) -> str:
        return " ".join(draw.choices(words, k=tokens))  # a word is one token or more

    with (folder / "rows.jsonl").open("w", encoding="utf-8") as file:
        for _ in range(ROWS):
            row = {
                "query": text(shape["queries"]),
                "pos": [text(shape["passages"])],
                "neg": [text(shape["passages"]) for _ in range(shape["group"] - 1)],
            }
            file.write(json.dumps(row) + "\n")
    tokenizer = tiny_xlmr.train_tokenizer([" ".join(words)] * 10, 4000, 512)
    config = tiny_xlmr.configuration(
        vocabulary=VOCABULARY,
        layers=shape["layers"],
        hidden_size=shape["hidden"],
        heads=shape["heads"],
        max_length=512,
    )
    torch.manual_seed(1)
    encoder = XLMRobertaModel(config)
    heads = torch.nn.Linear(shape["hidden"], 1), torch.nn.Linear(shape["hidden"], shape["hidden"])
    tiny_xlmr.save(folder / "model", tokenizer, encoder, *heads)


if __name__ == "__main__":
    main()
