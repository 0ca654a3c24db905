"""A real training: five steps of supervised fine-tuning with LoRA, by TRL's own trainer, of a tiny Llama.

The loss must be finite and fall, and the adapter must be written.
"""

import os
import tempfile

from _common import main, require
from _language import losses, model, settings, texts, tokenizer
from _training import verdict


def check() -> str:
    """Train, then judge what was logged and written."""
    require("torch")
    version = require("trl")
    with tempfile.TemporaryDirectory() as temporary:
        os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HOME": f"{temporary}/hub"}
        from datasets import Dataset
        from peft import LoraConfig
        from trl import SFTConfig, SFTTrainer

        words = tokenizer(texts())
        trainer = SFTTrainer(
            model=model(len(words)),
            args=SFTConfig(**settings(f"{temporary}/out")),
            train_dataset=Dataset.from_dict({"text": texts()}),
            processing_class=words,
            peft_config=LoraConfig(r=8, target_modules=["q_proj", "up_proj"], task_type="CAUSAL_LM"),
        )
        trainer.train()
        found = losses(trainer)
    return verdict(found, f"trl {version}")


main(check)
