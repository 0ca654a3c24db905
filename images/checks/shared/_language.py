"""What the checks that train a language model share: texts, a tokenizer trained on them, a tiny Llama.

Two layers, random weights, eight texts: about the plumbing (tokenizer, adapters, trainer, saving), not about
quality.
"""

from pathlib import Path
from typing import Any

from _common import Failed, device
from _training import STEPS

_WORDS = "red green blue round square small large cold".split()


def tokenizer(texts: list[str]) -> Any:
    """A Unigram tokenizer trained on the texts."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=[*special.values()], unk_token=special["unk_token"]
    )
    made.train_from_iterator(texts * 20, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made, **special)


def model(vocabulary: int) -> Any:
    """A two-layer Llama, the same weights in every check."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(7)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=64,
        )
    )


def settings(output: str) -> dict[str, Any]:
    """TRL's arguments of five steps, each with all texts."""
    return {
        "output_dir": output,
        "max_steps": STEPS,
        "per_device_train_batch_size": 8,
        "learning_rate": 2e-2,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "save_steps": STEPS,
        "max_length": 32,
        "report_to": "none",
        "gradient_checkpointing": False,
        "bf16": device() == "xpu",
        "use_cpu": device() is None,
        "dataloader_pin_memory": False,
    }


def texts() -> list[str]:
    """Eight of them."""
    return [f"what is {word} ? {word} is the word for {word} things" for word in _WORDS]


def losses(trainer: Any) -> list[float]:
    """Of each step of a training that has written its adapter."""
    if not list(Path(trainer.args.output_dir).rglob("adapter_model.safetensors")):
        raise Failed("the trainer wrote no adapter")
    return [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
