"""A tiny language model with random weights, and instructions with a pattern that it can learn.

    python tests/support/tiny_llm.py FOLDER [--family llama|qwen3] [--hidden 128] [--layers 4] [--seed 7]

Runs inside an environment that has transformers. FOLDER gets ``model/`` (weights, tokenizer, chat template),
``train.jsonl`` and ``held-out.jsonl`` (chat messages). Asked for colour, size or shape of a thing, the answer
is one word of the question; which of three words it is has to be learned, and no held-out thing is in the
training.
"""

import argparse
import itertools
import json
import random
from pathlib import Path
from typing import Any

SIZES = "small large tiny huge narrow wide".split()
COLOURS = "red green blue black white yellow".split()
SHAPES = "ball cube ring box cone disc".split()
KINDS = ("size", "colour", "shape")

#: ChatML, as many models have it.
TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def rows(seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows to train on, and rows about other things."""
    things = list(itertools.product(SIZES, COLOURS, SHAPES))
    random.Random(seed).shuffle(things)  # noqa: S311 - rows, no secrets

    def made(chosen: list[tuple[str, str, str]]) -> list[dict[str, Any]]:
        return [
            {
                "messages": [
                    {"role": "user", "content": f"what {kind} has the {' '.join(thing)} ?"},
                    {"role": "assistant", "content": thing[position]},
                ]
            }
            for thing in chosen
            for position, kind in enumerate(KINDS)
        ]

    return made(things[24:]), made(things[:24])


def tokenizer(texts: list[str]) -> Any:
    """Byte-level BPE, trained on the texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=[*SPECIAL], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    made.train_from_iterator(texts, trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token=SPECIAL[2], pad_token=SPECIAL[0], model_max_length=256
    )
    wrapped.chat_template = TEMPLATE
    return wrapped


def model(family: str, vocabulary: int, hidden: int, layers: int, words: Any) -> Any:
    """A decoder of the family with random weights."""
    import transformers

    names = {"llama": ("LlamaConfig", "LlamaForCausalLM"), "qwen3": ("Qwen3Config", "Qwen3ForCausalLM")}
    config_name, model_name = names[family]
    config = getattr(transformers, config_name)(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=hidden // 4,
        max_position_embeddings=256,
        pad_token_id=words.pad_token_id,
        eos_token_id=words.eos_token_id,
        bos_token_id=None,
        # Wider than usual: adapters cannot make the logits of a narrow, frozen output layer large.
        initializer_range=0.1,
    )
    return getattr(transformers, model_name)(config)


def main() -> None:
    """Write the model and its rows."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--family", choices=["llama", "qwen3"], default="llama")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=7)
    asked = parser.parse_args()
    import torch

    torch.manual_seed(asked.seed)
    training, held_out = rows(asked.seed)
    words = tokenizer([message["content"] for row in training for message in row["messages"]])
    asked.folder.mkdir(parents=True, exist_ok=True)
    model(asked.family, len(words), asked.hidden, asked.layers, words).save_pretrained(asked.folder / "model")
    words.save_pretrained(asked.folder / "model")
    for name, chosen in (("train.jsonl", training), ("held-out.jsonl", held_out)):
        text = "".join(json.dumps(row) + "\n" for row in chosen)
        (asked.folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
