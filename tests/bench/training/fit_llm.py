"""``python fit_llm.py SHAPE METHOD LENGTH``: three steps of a random Llama, and what they took, as JSON.

METHOD is full, lora or qlora (the last two need peft, the last one also bitsandbytes and a GPU). Batch 1,
gradient checkpointing, AdamW; 16-bit autocast for ``full`` on a GPU, 32 bit on a CPU.
"""

import contextlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "recipes"))

from runtime import probe  # noqa: E402 - it lies beside the recipes

STEPS = 3
MATRICES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def made(config: LlamaConfig, method: str, device: str) -> Any:
    """The model, with adapters where they are asked for."""
    if method == "full":
        return AutoModelForCausalLM.from_config(config).to(device)
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    if method == "qlora":  # only a loader quantises
        with tempfile.TemporaryDirectory() as folder:
            AutoModelForCausalLM.from_config(config, torch_dtype=torch.bfloat16).save_pretrained(folder)
            packed = BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=torch.bfloat16,
            )
            base = AutoModelForCausalLM.from_pretrained(
                folder, quantization_config=packed, device_map={"": 0}, torch_dtype=torch.bfloat16
            )
        base = prepare_model_for_kbit_training(base, use_gradient_checkpointing=True)
    else:
        base = AutoModelForCausalLM.from_config(config, torch_dtype=torch.bfloat16).to(device)
        base.enable_input_require_grads()
    return get_peft_model(base, LoraConfig(r=16, target_modules=MATRICES, task_type="CAUSAL_LM"))


def main() -> None:
    """Train, and print before and peak in bytes."""
    shape, method, length = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(1)
    model = made(LlamaConfig(**shape), method, device)
    model.config.use_cache = False
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-5)
    ram = probe.Ram(1)
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_reserved()
    else:
        ram.reset()
        before = ram.before
    for _ in range(STEPS):
        ids = torch.randint(0, shape["vocab_size"], (1, length), device=device)
        mixed = torch.autocast("cuda", dtype=torch.bfloat16) if device == "cuda" else contextlib.nullcontext()
        with mixed:
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    peak = torch.cuda.max_memory_reserved() if device == "cuda" else probe.resident_peak()
    print(json.dumps({"before": before, "peak": peak, "trained": sum(p.numel() for p in trained)}))


if __name__ == "__main__":
    main()
