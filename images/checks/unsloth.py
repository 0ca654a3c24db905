"""Unsloth imports: it patches transformers, TRL and peft, and breaks where one is too new for it.

In an image for CPUs its backend for them trains: five steps of LoRA, of a tiny Llama. In the others it asks
for a GPU before anything else.
"""

import os
import tempfile

from _common import main, need_device, require
from _language import losses, model, settings, texts, tokenizer
from _training import verdict


def check() -> str:
    """Train where no GPU is meant to be; elsewhere the import is the check."""
    require("torch")
    version = require("unsloth")
    if os.environ["TARGET"] == "cpu":
        return trained(f"unsloth {version}")
    found = need_device()
    from unsloth import FastLanguageModel

    return f"unsloth {version} on {found}, {FastLanguageModel.__name__} is there"


def trained(about: str) -> str:
    """Load, adapt and train by its backend for CPUs."""
    with tempfile.TemporaryDirectory() as temporary:
        os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HOME": f"{temporary}/hub"}
        from unsloth import DEVICE_TYPE, FastLanguageModel  # before transformers and TRL

        if DEVICE_TYPE != "cpu":
            return verdict([], f"{about} for {DEVICE_TYPE}")
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer

        words = tokenizer(texts())
        model(len(words)).save_pretrained(f"{temporary}/model")
        words.save_pretrained(f"{temporary}/model")
        loaded, words = FastLanguageModel.from_pretrained(
            f"{temporary}/model", max_seq_length=32, load_in_4bit=False, use_gradient_checkpointing=False
        )
        adapted = FastLanguageModel.get_peft_model(loaded, r=8, target_modules=["q_proj", "up_proj"])
        trainer = SFTTrainer(
            model=adapted,
            args=SFTConfig(**settings(f"{temporary}/out")),
            train_dataset=Dataset.from_dict({"text": texts()}),
            processing_class=words,
        )
        trainer.train()
        found = losses(trainer)
    return verdict(found, about)


main(check)
