"""A real training: five steps of BGE-M3 unified fine-tuning of a tiny XLM-R, by FlagEmbedding's own trainer.

The loss must be finite and fall, and the heads must be written. Two layers, random weights, eight rows:
about the plumbing (data, tokenizer, model, trainer, saving), not about quality.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from _common import Failed, device, main, require

STEPS = 5
_WORDS = "red green blue round square small large cold warm soft hard near far old new quick slow".split()


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


def write_model(folder: Path, texts: list[str]) -> None:
    """A two-layer XLM-R with a Unigram tokenizer trained on the texts."""
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
    )
    torch.manual_seed(7)  # the same weights in every check
    XLMRobertaModel(config).save_pretrained(folder)


def command(model: Path, data: Path, output: Path) -> list[str]:
    """The trainer's command line: one process, the whole data set in each step."""
    switches = {
        "model_name_or_path": model,
        "train_data": data,
        "output_dir": output,
        "cache_dir": output.parent / "cache",
        "max_steps": STEPS,
        "per_device_train_batch_size": 8,
        "train_group_size": 2,
        "query_max_len": 32,
        "passage_max_len": 32,
        "learning_rate": 2e-3,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "save_steps": STEPS,
        "temperature": 0.1,
        "query_instruction_for_retrieval": "",
        "knowledge_distillation": True,
        "kd_loss_type": "m3_kd_loss",
        "unified_finetuning": True,
        "use_self_distill": True,
        "self_distill_start_step": 0,
        "sentence_pooling_method": "cls",
        "normalize_embeddings": True,
        "dataloader_drop_last": True,
        "report_to": "none",
    }
    if device() is None:
        switches["use_cpu"] = True
    arguments = [part for key, value in switches.items() for part in (f"--{key}", str(value))]
    return [sys.executable, "-m", "FlagEmbedding.finetune.embedder.encoder_only.m3", *arguments]


def check() -> str:
    """Train, then judge what was logged and written."""
    require("flagembedding")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_model(folder / "model", write_rows(folder / "rows.jsonl"))
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hub")}
        done = subprocess.run(
            command(folder / "model", folder / "rows.jsonl", folder / "out"),
            env=environment,
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
        missing = [
            name
            for name in ("sparse_linear.pt", "colbert_linear.pt")
            if not any((folder / "out").rglob(name))
        ]
    losses = [float(entry["loss"]) for entry in log if "loss" in entry]
    text = " ".join(f"{loss:.4f}" for loss in losses)
    if len(losses) != STEPS:
        raise Failed(f"{len(losses)} of {STEPS} steps were logged: {text}")
    if not all(map(math.isfinite, losses)) or not losses[-1] < losses[0]:
        raise Failed(f"the loss is not finite or does not fall: {text}")
    if missing:
        raise Failed(f"not saved: {', '.join(missing)}")
    return f"loss {text}"


main(check)
