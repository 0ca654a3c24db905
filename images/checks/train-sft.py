"""A real training: five steps of supervised fine-tuning with LoRA, by TRL's own trainer, of a tiny Llama.

The loss must be finite and fall, and the adapter must be written. Two layers, random weights, eight texts:
about the plumbing (chat data, tokenizer, adapters, trainer, saving), not about quality.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

from _common import Failed, device, main, require
from _training import STEPS, verdict

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


def check() -> str:
    """Train, then judge what was logged and written."""
    require("torch")
    version = require("trl")
    with tempfile.TemporaryDirectory() as temporary:
        os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HOME": f"{temporary}/hub"}
        from datasets import Dataset
        from peft import LoraConfig
        from trl import SFTConfig, SFTTrainer

        texts = [f"what is {word} ? {word} is the word for {word} things" for word in _WORDS]
        words = tokenizer(texts)
        settings = SFTConfig(
            output_dir=f"{temporary}/out",
            max_steps=STEPS,
            per_device_train_batch_size=8,
            learning_rate=2e-2,
            lr_scheduler_type="constant",
            logging_steps=1,
            save_steps=STEPS,
            max_length=32,
            report_to="none",
            gradient_checkpointing=False,
            bf16=device() == "xpu",
            use_cpu=device() is None,
            dataloader_pin_memory=False,
        )
        trainer = SFTTrainer(
            model=model(len(words)),
            args=settings,
            train_dataset=Dataset.from_dict({"text": texts}),
            processing_class=words,
            peft_config=LoraConfig(r=8, target_modules=["q_proj", "up_proj"], task_type="CAUSAL_LM"),
        )
        trainer.train()
        losses = [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
        saved = list(Path(temporary, "out").rglob("adapter_model.safetensors"))
    if not saved:
        raise Failed("the trainer wrote no adapter")
    return verdict(losses, f"trl {version}")


main(check)
