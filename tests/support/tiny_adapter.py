"""Adapters on a model, with random weights that change its answers.

    python tests/support/tiny_adapter.py BASE FOLDER [--name WRITTEN]

Runs inside an environment that has peft. WRITTEN is what the adapters call their base.
"""

import argparse
from pathlib import Path


def main() -> None:
    """Write the adapters and the base's tokenizer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("base", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--name", default="")
    asked = parser.parse_args()
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(1)
    config = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(asked.base), config)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "lora_B" in name:
                weights.normal_(0, 0.05)
    model.peft_config["default"].base_model_name_or_path = asked.name or str(asked.base.absolute())
    model.save_pretrained(asked.folder)
    AutoTokenizer.from_pretrained(asked.base).save_pretrained(asked.folder)


if __name__ == "__main__":
    main()
