"""What the checks that train a retrieval model share: data, a tiny model, the trainer's run, the verdict.

Two layers, random weights, eight rows: about the plumbing (data, tokenizer, model, trainer, saving), not
about quality.
"""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from _common import Failed, NeedsGpu, a_gpu, device

STEPS = 5
_WORDS = "red green blue round square small large cold warm soft hard near far old new quick slow".split()

# As recipes start a trainer: 1.3.5 asks torch.distributed for the rank, which has to be there. Loopback by
# address, because a container without network cannot resolve its own name.
_TORCHRUN = (
    *("-m", "torch.distributed.run", "--nnodes", "1", "--nproc_per_node", "1"),
    *("--rdzv_backend", "c10d", "--rdzv_endpoint", "127.0.0.1:0", "--local_addr", "127.0.0.1"),
)

# What every trainer of FlagEmbedding gets: one process, the whole data set in each step.
_SWITCHES = {
    "max_steps": STEPS,
    "per_device_train_batch_size": 8,
    "train_group_size": 2,
    "query_max_len": 32,
    "passage_max_len": 32,
    "learning_rate": 2e-3,
    "lr_scheduler_type": "constant",
    "logging_steps": 1,
    "save_steps": STEPS,
    "dataloader_drop_last": True,
    "report_to": "none",
}


def write_rows(path: Path) -> list[str]:
    """Eight rows, each with one positive and one negative; returns all texts."""
    rows = []
    for i in range(8):
        key, other = _WORDS[i], _WORDS[i + 8]
        rows.append(
            {
                "query": f"what is {key}",
                "pos": [f"{key} is the word for {key} things"],
                "neg": [f"{other} is the word for {other} things"],
                "pos_scores": [0.9],
                "neg_scores": [0.1],
            }
        )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return [text for row in rows for text in (row["query"], *row["pos"], *row["neg"])]


def write_model(folder: Path, texts: list[str], **more: Any) -> None:
    """A two-layer XLM-R, its Unigram tokenizer trained on the texts; ``more`` is of its configuration."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import XLMRobertaConfig, XLMRobertaModel, XLMRobertaTokenizerFast

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=special, unk_token="<unk>")  # noqa: S106
    tokenizer.train_from_iterator(texts * 20, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    XLMRobertaTokenizerFast(tokenizer_object=tokenizer, model_max_length=64).save_pretrained(folder)
    config = XLMRobertaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=80,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        **more,
    )
    torch.manual_seed(7)  # the same weights in every check
    XLMRobertaModel(config).save_pretrained(folder)


def train(folder: Path, module: str, switches: dict[str, Any], **more: Any) -> list[float]:
    """Run one of FlagEmbedding's trainers; returns the loss of each step.

    Args:
        folder: an empty one; the result is in ``out``.
        module: the trainer's.
        switches: its arguments, beside those that all get.
        more: for the model's configuration.
    """
    write_model(folder / "model", write_rows(folder / "rows.jsonl"), **more)
    given = {
        "model_name_or_path": folder / "model",
        "train_data": folder / "rows.jsonl",
        "output_dir": folder / "out",
        "cache_dir": folder / "cache",
        **_SWITCHES,
        **switches,
    }
    found = device()
    if found is None:
        given |= {"use_cpu": True, "ddp_backend": "gloo"}
    elif found == "xpu":
        given["bf16"] = True  # fp16 takes a gradient scaler, which asks for fp64: not every Intel GPU has it
    arguments = [part for key, value in given.items() for part in (f"--{key}", str(value))]
    done = subprocess.run(
        [sys.executable, *_TORCHRUN, "-m", module, *arguments],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hub")},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        tail = " | ".join((done.stderr or done.stdout).strip().splitlines()[-4:])
        raise Failed(f"the trainer exited with code {done.returncode}: {tail}")
    states = sorted((folder / "out").glob("checkpoint-*/trainer_state.json"))
    if not states:
        raise Failed("the trainer wrote no checkpoint")
    log = json.loads(states[-1].read_text(encoding="utf-8"))["log_history"]
    return [float(entry["loss"]) for entry in log if "loss" in entry]


def verdict(losses: list[float], about: str) -> str:
    """What a check says of a training; undecided when the target's device was not there for it.

    Args:
        losses: of each step.
        about: what was trained, for people.
    """
    text = f"{about} on {device() or 'the CPU'}, loss {' '.join(f'{loss:.4f}' for loss in losses)}"
    if len(losses) != STEPS:
        raise Failed(f"{len(losses)} of {STEPS} steps were logged: {text}")
    if not all(map(math.isfinite, losses)) or not losses[-1] < losses[0]:
        raise Failed(f"the loss is not finite or does not fall: {text}")
    if device() is None and os.environ["TARGET"] != "cpu":
        raise NeedsGpu(f"{text}; the rest needs {a_gpu()}")
    return text
