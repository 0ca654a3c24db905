"""``python fit_llm.py FOLDER SHAPE``: a random Llama of any size, with a tokenizer and a chat template."""

import json
import sys
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "support"))

import tiny_llm  # noqa: E402 - it lies beside the tests


def main() -> None:
    """Write the model; its weights are stored in 16 bit, as published ones are."""
    folder, shape = Path(sys.argv[1]), json.loads(sys.argv[2])
    words = tiny_llm.tokenizer([" ".join(str(number) for number in range(1000))] * 10)
    words.model_max_length = shape["max_position_embeddings"]
    ends = {"eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id, "bos_token_id": None}
    torch.manual_seed(1)
    LlamaForCausalLM(LlamaConfig(**shape, **ends)).to(torch.bfloat16).save_pretrained(folder)
    words.save_pretrained(folder)


if __name__ == "__main__":
    main()
