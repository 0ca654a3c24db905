"""A training that was ended after a checkpoint and is resumed is the training that was not ended."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import patch
from runtime import bucketing, resume
from runtime.options import Options
from runtime.patches import PATCHES, choose
from safetensors.torch import load_file
from test_training import DENSE, M3, RERANKER, model, rows, train, write
from transformers import TrainerCallback, trainer

__all__ = ["model"]  # a fixture

ALL = tuple(p.name for p in PATCHES)


class Log(TrainerCallback):
    """Every line that a trainer logs, with the gradient's norm, which is not rounded."""

    lines: list[dict[str, Any]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        kept = {k: v for k, v in logs.items() if k in ("loss", "grad_norm", "learning_rate", "train_loss")}
        self.lines.append({"step": state.global_step, "epoch": state.epoch, **kept})


@pytest.fixture(autouse=True)
def log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "DEFAULT_CALLBACKS", [*trainer.DEFAULT_CALLBACKS, Log])
    monkeypatch.setattr(trainer, "skip_first_batches", trainer.skip_first_batches)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """13 rows of 3 negatives with teachers' scores: no batch size divides them."""
    scored = [{**row, "pos_scores": [2.0], "neg_scores": [1.0, 0.5, 0.25]} for row in rows(13)]
    return write(tmp_path / "rows.jsonl", scored)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What the trainer logged."""
    Log.lines = []
    return Log.lines


def curve(module: str, start: Path, data: Path, output: Path, **more: Any) -> list[dict[str, Any]]:
    """Train, with a checkpoint after every step; what was logged."""
    Log.lines.clear()
    settings = {"save_steps": 1, "logging_steps": 1, "max_steps": -1, "num_train_epochs": 2, **more}
    train(module, start, data, output, **settings)
    return list(Log.lines)


def resumed(
    module: str, start: Path, data: Path, checkpoint: Path, output: Path, **more: Any
) -> list[dict[str, Any]]:
    """The same from a checkpoint on, as the runtime does it."""
    with pytest.MonkeyPatch.context() as patched:
        for cls, name in ((resume.TrainingArguments, "__post_init__"), (resume.Trainer, "train")):
            patched.setattr(cls, name, getattr(cls, name))
        patched.setenv("LAUNCH_RESUME", str(checkpoint))
        resume.attach(module, choose(module, "all")[0])
        return curve(module, start, data, output, **more)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The encoder's and the heads'."""
    found = dict(load_file(folder / "model.safetensors"))
    for head in folder.glob("*_linear.pt"):
        found |= {f"{head.stem}.{key}": value for key, value in torch.load(head).items()}
    return found


def same(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    return all(torch.equal(first[key], second[key]) for key in first)


#: 7 batches an epoch: a checkpoint in the first epoch, at its end, in the second.
POINTS = (3, 7, 9)
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "M3, dropout": (M3, {"unified_finetuning": True, "use_self_distill": True, "self_distill_start_step": 4}),
    "M3, a head that is not trained": (M3, {}),
    "M3, two files": (
        M3,
        {"unified_finetuning": True, "same_dataset_within_batch": True, "train_data": "two files"},
    ),
    "M3, parts of a batch": (M3, {"unified_finetuning": True, "sub_batch_size": 1}),
    "dense, no dropout": (DENSE, {"dropout": 0.0, "max_steps": 12, "logging_steps": 2}),
    "dense, dropout": (DENSE, {"lr_scheduler_type": "cosine", "warmup_ratio": 0.3, "bf16": True}),
    "dense, distillation": (DENSE, {"knowledge_distillation": True, "same_dataset_within_batch": True}),
    "dense, workers": (DENSE, {"dataloader_num_workers": 1}),
    "reranker, dropout": (RERANKER, {"knowledge_distillation": True, "dataloader_drop_last": False}),
    "reranker, no dropout": (RERANKER, {"dropout": 0.0}),
}


def prepared(start: Path, data: Path, folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The arguments of ``curve``, with what is not the trainer's own made here."""
    settings = dict(settings)
    given = settings.pop("dropout", None)
    if given is not None:
        shutil.copytree(start, folder / "start")
        about = folder / "start" / "config.json"
        changed = {"hidden_dropout_prob": given, "attention_probs_dropout_prob": given}
        about.write_text(json.dumps({**json.loads(about.read_text()), **changed}))
        start = folder / "start"
    if settings.pop("train_data", None) == "two files":
        data = folder / "both"
        data.mkdir()
        write(data / "b.jsonl", rows(9))
        write(data / "a.jsonl", rows(7, seed=3))
    return {"start": start, "data": data, **settings}


class TestEqual:
    """With dropout unless said otherwise: the losses, the gradients' norms and the weights, to the bit."""

    @pytest.mark.parametrize("name", SETTINGS)
    def test_the_rest(self, model: Path, data: Path, tmp_path: Path, name: str) -> None:
        patch(*ALL)
        module, settings = SETTINGS[name]
        arguments = prepared(model, data, tmp_path, settings)
        whole = curve(module, output=tmp_path / "whole", **arguments)
        for step in POINTS:
            checkpoint, output = tmp_path / "whole" / f"checkpoint-{step}", tmp_path / f"from-{step}"
            rest = resumed(module, checkpoint=checkpoint, output=output, **arguments)
            assert rest == [line for line in whole if line["step"] > step]
            assert len(rest) > 1
            assert same(output, tmp_path / "whole")
