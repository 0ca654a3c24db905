"""What a training reports of its steps, its checkpoints and its end: real trainings, and real processes."""

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import configuration, patch
from runtime import checkpoints, events, memory, metrics, usage
from trainings import DENSE, M3, RERANKER, train
from transformers import (
    Trainer,
    TrainerCallback,
    TrainingArguments,
    XLMRobertaForSequenceClassification,
    XLMRobertaModel,
    trainer,
)


@pytest.fixture(autouse=True)
def record(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("LAUNCH_RUN_DIR", str(tmp_path))
    monkeypatch.setattr("transformers.trainer.DEFAULT_CALLBACKS", [*trainer.DEFAULT_CALLBACKS])
    checkpoints.attach()
    metrics.attach()
    memory.attach()
    return tmp_path


def reported(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """What the encoder itself is given, counted in another way than the trainer's inputs."""
    seen = {"tokens": 0, "padded": 0}
    original = XLMRobertaModel.forward

    def forward(self: Any, input_ids: Any = None, attention_mask: Any = None, **more: Any) -> Any:
        seen["tokens"] += int(attention_mask.sum())
        seen["padded"] += input_ids.numel()
        return original(self, input_ids=input_ids, attention_mask=attention_mask, **more)

    monkeypatch.setattr(XLMRobertaModel, "forward", forward)
    return seen


def test_each_node_has_a_file_of_its_own_and_restarts_are_attempts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LAUNCH_NODE_RANK", "0")
    events.report("begin", rank=0)
    monkeypatch.setenv("LAUNCH_NODE_RANK", "3")
    monkeypatch.setenv("LAUNCH_ATTEMPT", "2")
    monkeypatch.setenv("LAUNCH_RESTARTS", "1")
    events.report("begin", rank=6)
    (first,) = (json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines())
    (other,) = (json.loads(line) for line in (tmp_path / "metrics.3.jsonl").read_text().splitlines())
    assert (first["rank"], "attempt" in first) == (0, False)
    assert (other["rank"], other["attempt"]) == (6, 3)


def test_every_node_must_not_write_the_same_files(
    monkeypatch: pytest.MonkeyPatch, model: Path, data: Path, tmp_path: Path
) -> None:
    monkeypatch.setenv("LAUNCH_NODES", "2")
    with pytest.raises(SystemExit, match="save_on_each_node"):
        train(DENSE, model, data, tmp_path / "out", save_on_each_node=True)


def test_a_checkpoint_without_the_parts_of_other_nodes_is_not_whole(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(checkpoints, "_LOOK", 0.5)
    folder = tmp_path / "checkpoint-1"
    folder.mkdir()
    assert checkpoints._all_there(folder, 2)  # weights alone, as --save_only_model leaves it
    (folder / "rng_state_0.pth").touch()
    assert not checkpoints._all_there(folder, 2)
    (folder / "rng_state_1.pth").touch()
    assert checkpoints._all_there(folder, 2)


def sums(folder: Path) -> dict[str, int]:
    found = reported(folder, "usage")
    return {key: sum(event[key] for event in found) for key in ("tokens", "padded")}


class TestUsage:
    @pytest.mark.parametrize("module", [M3, DENSE, RERANKER])
    @pytest.mark.parametrize("accumulated", [1, 3])
    def test_tokens_are_those_that_the_encoder_sees(
        self, model: Path, data: Path, tmp_path: Path, encoded: dict[str, int], module: str, accumulated: int
    ) -> None:
        more = {"logging_steps": 2, "max_steps": 3, "gradient_accumulation_steps": accumulated}
        train(module, model, data, tmp_path / "out", **more)
        assert sums(tmp_path) == encoded
        assert 0 < encoded["tokens"] < encoded["padded"]
        found = reported(tmp_path, "usage")
        assert [(event["step"], event["steps"]) for event in found] == [(2, 2), (3, 1)]
        assert all(50 << 20 < event["ram"] <= event["ram_peak"] for event in found)
        assert all("device" not in event and event["seconds"] > 0 for event in found)

    def test_batches_in_parts(self, model: Path, data: Path, tmp_path: Path, encoded: dict[str, int]) -> None:
        patch("sub-batch")
        train(M3, model, data, tmp_path / "out", sub_batch_size=2, unified_finetuning=True)
        # each part is encoded a second time for its gradient, and is trained on once
        assert sums(tmp_path) == {key: count // 2 for key, count in encoded.items()}

    def test_a_usage_comes_before_its_step(self, model: Path, data: Path, tmp_path: Path) -> None:
        train(DENSE, model, data, tmp_path / "out", logging_steps=1)
        lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
        kinds = [event["event"] for event in lines]
        assert kinds == ["begin", "usage", "step", "usage", "step", "checkpoint", "step", "end", "memory"]

    def test_deep_and_bare_inputs(self) -> None:
        counted = usage.Tokens()
        mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
        one = {"input_ids": torch.ones(2, 3), "attention_mask": mask}
        counted.add(
            {"queries": one, "passages": [one, [one]], "teacher_scores": torch.ones(4), "flag": False}
        )
        counted.add({"input_ids": torch.ones(1, 5), "labels": torch.ones(1)})
        counted.add({"input_ids": torch.ones(2, 3), "attention_mask": torch.ones(2, 1, 3, 3)})
        counted.add([None, {"pixels": torch.ones(9)}])
        assert counted.take() == (3 * 3 + 5 + 6, 3 * 6 + 5 + 6)
        assert counted.take() == (0, 0)


def plain(folder: Path, *callbacks: Any, **more: Any) -> Trainer:
    """transformers' own trainer, with batches as it makes them."""
    rows = [{"input_ids": [0, *range(5, 9 + at % 4), 2], "labels": [0.5]} for at in range(16)]

    def collate(items: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        longest = max(len(item["input_ids"]) for item in items)
        ids = torch.tensor([item["input_ids"] + [1] * (longest - len(item["input_ids"])) for item in items])
        labels = torch.tensor([item["labels"] for item in items])
        return {"input_ids": ids, "attention_mask": (ids != 1).long(), "labels": labels}

    torch.manual_seed(0)
    args = TrainingArguments(
        output_dir=str(folder),
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        **{"per_device_train_batch_size": 2, "logging_steps": 1, "max_steps": 4, **more},
    )
    model = XLMRobertaForSequenceClassification(configuration())
    return Trainer(
        model=model,
        args=args,
        data_collator=collate,
        train_dataset=rows,
        eval_dataset=rows,
        callbacks=list(callbacks),
    )


class Slow(TrainerCallback):
    """An evaluation, or the saving of a checkpoint, that takes half a second."""

    def on_prediction_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        time.sleep(0.5 / 8)


class TestTime:
    def test_evaluations_are_left_out(self, tmp_path: Path, encoded: dict[str, int]) -> None:
        more = {"eval_strategy": "steps", "eval_steps": 1, "logging_steps": 2, "save_strategy": "no"}
        began = time.monotonic()
        plain(tmp_path / "out", Slow, per_device_eval_batch_size=2, **more).train()
        assert time.monotonic() - began > 2
        found = reported(tmp_path, "usage")
        assert [event["steps"] for event in found] == [2, 2]
        assert sum(event["seconds"] for event in found) < 1
        assert sums(tmp_path)["padded"] < encoded["padded"] / 2  # the evaluations' tokens are no training
        assert [e["step"] for e in reported(tmp_path, "step") if "eval_loss" in e] == [1, 2, 3, 4]

    def test_checkpoints_are_left_out(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        original = checkpoints.complete

        def slow(*words: Any, **more: Any) -> int:
            time.sleep(2)
            return original(*words, **more)

        monkeypatch.setattr(checkpoints, "complete", slow)
        plain(tmp_path / "out", save_steps=2).train()
        assert sum(event["seconds"] for event in reported(tmp_path, "usage")) < 2  # on a busy machine, too
        assert all(event["seconds"] > 2 for event in reported(tmp_path, "checkpoint"))

    def test_a_resumed_training_goes_on_where_it_was(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plain(tmp_path / "out", save_steps=2).train()
        monkeypatch.setenv("LAUNCH_ATTEMPT", "2")
        plain(tmp_path / "out", save_steps=2).train(resume_from_checkpoint=str(tmp_path / "out/checkpoint-2"))
        lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
        again = [event for event in lines if event.get("attempt") == 2]
        assert [event["step"] for event in lines if event["event"] == "begin"] == [0, 2]
        assert [event["step"] for event in again if event["event"] == "usage"] == [3, 4]
        assert [event["step"] for event in again if event["event"] == "checkpoint"] == [4]


class TestCheckpoints:
    def test_a_whole_one_says_so(self, tmp_path: Path) -> None:
        plain(tmp_path / "out", save_steps=2).train()
        folder = tmp_path / "out" / "checkpoint-2"
        marker = json.loads((folder / "complete.json").read_text())
        assert (marker["schema"], marker["step"], marker["world_size"]) == (1, 2, 1)
        held = {path.name: path for path in folder.iterdir() if path.name != "complete.json"}
        assert held.keys() == marker["files"].keys() > {"model.safetensors", "optimizer.pt", "rng_state.pth"}
        for name, path in held.items():
            content = path.read_bytes()
            said = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            assert marker["files"][name] == said
        first, second = reported(tmp_path, "checkpoint")
        assert (first["step"], first["name"], second["name"]) == (2, "checkpoint-2", "checkpoint-4")
        assert first["bytes"] == sum(path.stat().st_size for path in held.values())

    def test_what_is_written_again_is_not_whole_meanwhile(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plain(tmp_path / "out", save_steps=2).train()
        seen: list[tuple[str, bool]] = []

        def save(self: Any, output_dir: str, _internal_call: bool = False) -> None:
            seen.append((Path(output_dir).name, (Path(output_dir) / "complete.json").exists()))
            raise RuntimeError("no space left on device")

        monkeypatch.setattr(Trainer, "save_model", save)
        with pytest.raises(RuntimeError, match="no space left"):
            plain(tmp_path / "out", save_steps=2).train()
        assert seen == [("checkpoint-2", False)]
        assert not (tmp_path / "out/checkpoint-2/complete.json").exists()
        assert (tmp_path / "out/checkpoint-4/complete.json").exists()

    def test_of_epochs_too(self, tmp_path: Path) -> None:
        plain(tmp_path / "out", save_strategy="epoch", max_steps=-1, num_train_epochs=2).train()
        found = sorted(path.parent.name for path in tmp_path.glob("out/*/complete.json"))
        assert found == ["checkpoint-16", "checkpoint-8"]


#: A training of two processes; what happens to one of them is its last word on the command line.
TRAINING = """
import os, sys, time
import torch
from pathlib import Path
from transformers import Trainer, TrainerCallback, TrainingArguments

rank, folder, what = int(os.environ["RANK"]), sys.argv[1], sys.argv[2]


class Model(torch.nn.Linear):
    def forward(self, x, labels):
        return {"loss": (super().forward(x) - labels).square().mean()}


class Fate(TrainerCallback):
    def on_step_end(self, args, state, control, **_):
        if state.global_step == 2 and rank == 1 and what == "raise":
            raise ValueError("row 7 cannot be read")
        if state.global_step == 2 and rank == 1 and what == "refuse":
            raise SystemExit("nothing is trained: no rows")


class Slow(Trainer):
    def _save_rng_state(self, output_dir):
        time.sleep(1.5 * (rank == 1 and what == "slow"))
        super()._save_rng_state(output_dir)


args = TrainingArguments(
    output_dir=folder, use_cpu=True, ddp_backend="gloo", report_to="none", disable_tqdm=True, max_steps=4,
    save_steps=4, logging_steps=1, per_device_train_batch_size=2,
)
rows = [{"x": torch.ones(4), "labels": torch.ones(1)} for _ in range(32)]
Slow(model=Model(4, 1), args=args, train_dataset=rows, callbacks=[Fate]).train()
"""


def processes(folder: Path, what: str) -> "subprocess.CompletedProcess[str]":
    """Two ranks under torchrun, on the CPU."""
    (folder / "training_of_tests.py").write_text(TRAINING)
    path = os.pathsep.join([str(folder), *sys.path])
    return subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nnodes", "1", "--nproc_per_node", "2"),
            *("--rdzv_backend", "c10d", "--rdzv_endpoint", "127.0.0.1:0", "--local_addr", "127.0.0.1"),
            *("-m", "runtime", "-m", "training_of_tests", str(folder / "out"), what),
        ],
        env={**os.environ, "PYTHONPATH": path, "LAUNCH_RUN_DIR": str(folder), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


class TestProcesses:
    def test_a_checkpoint_waits_for_every_rank(self, tmp_path: Path) -> None:
        done = processes(tmp_path, "slow")
        assert done.returncode == 0, done.stderr
        marker = json.loads((tmp_path / "out/checkpoint-4/complete.json").read_text())
        assert marker["world_size"] == 2
        assert {"rng_state_0.pth", "rng_state_1.pth"} < marker["files"].keys()
        assert [event["rank"] for event in reported(tmp_path, "checkpoint")] == [0]
        assert sorted((e["rank"], e["step"]) for e in reported(tmp_path, "usage")) == [
            (rank, at) for rank in (0, 1) for at in (1, 2, 3, 4)
        ]
        assert not (tmp_path / "metrics.jsonl").read_text().count("failure")

    def test_the_rank_that_broke_says_why(self, tmp_path: Path) -> None:
        done = processes(tmp_path, "raise")
        assert done.returncode == 1
        assert "ValueError: row 7 cannot be read" in done.stderr  # as without the report
        (own,) = [event for event in reported(tmp_path, "failure") if event["rank"] == 1]
        assert (own["type"], own["message"]) == ("ValueError", "row 7 cannot be read")
        first, *_, last = own["traceback"].splitlines()
        assert first == "Traceback (most recent call last):"
        assert last == "ValueError: row 7 cannot be read"
        assert "training_of_tests.py" in own["traceback"].splitlines()[1]

    def test_so_does_one_that_refuses(self, tmp_path: Path) -> None:
        done = processes(tmp_path, "refuse")
        assert done.returncode == 1
        (own,) = [event for event in reported(tmp_path, "failure") if event["rank"] == 1]
        assert (own["type"], own["message"]) == ("SystemExit", "nothing is trained: no rows")


class TestFailure:
    @pytest.mark.parametrize(
        "end", [KeyboardInterrupt(), SystemExit(), SystemExit(0), GeneratorExit(), SystemExit(None)]
    )
    def test_what_is_none(self, tmp_path: Path, end: BaseException) -> None:
        events.report_failure(end)
        assert not (tmp_path / "metrics.jsonl").exists()

    def test_an_exit_code_and_a_message_of_a_megabyte(self, tmp_path: Path) -> None:
        events.report_failure(SystemExit(2))
        events.report_failure(torch.OutOfMemoryError("x" * 1_000_000))
        first, second = reported(tmp_path, "failure")
        assert first["message"] == "exit code 2"
        assert second["type"] == "torch.OutOfMemoryError"
        assert len(json.dumps(second)) < 40_000

    def test_values_of_secrets_are_masked_before_anything_is_cut(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in {
            "KEY": 'first "line"\nsecond é line\n',
            "SHORT": "x",
            "OTHER": "no secret",
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("LAUNCH_SECRETS", "KEY,SHORT,UNSET")
        events.report("note", texts=['<first "line">', {"it": ("second é line", 3)}], other="no secret x")
        events.report_failure(ValueError("." * 1_990 + 'first "line"'))
        (note,), (failure,) = reported(tmp_path, "note"), reported(tmp_path, "failure")
        assert (note["texts"], note["other"]) == (["<***>", {"it": ["***", 3]}], "no secret x")
        assert failure["message"] == "." * 1_990 + "***"
        assert "first" not in (tmp_path / "metrics.jsonl").read_text()

    def test_a_record_that_cannot_be_written_hides_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LAUNCH_RUN_DIR", str(tmp_path / "gone"))
        events.report_failure(ValueError("x"))
