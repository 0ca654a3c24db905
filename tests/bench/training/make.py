"""``python make.py FOLDER SHAPE``: rows of full length, and a random XLM-R with its 250,002 words."""

import json
import random
import sys
from pathlib import Path

import torch
from transformers import XLMRobertaConfig, XLMRobertaModel

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
    config = XLMRobertaConfig(
        vocab_size=VOCABULARY,
        hidden_size=shape["hidden"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        intermediate_size=4 * shape["hidden"],
        max_position_embeddings=514,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(1)
    encoder = XLMRobertaModel(config)
    heads = torch.nn.Linear(shape["hidden"], 1), torch.nn.Linear(shape["hidden"], shape["hidden"])
    tiny_xlmr.save(folder / "model", tokenizer, encoder, *heads)


if __name__ == "__main__":
    main()
