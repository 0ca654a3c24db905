"""A training that was ended after a checkpoint and is resumed is the training that was not ended."""

import contextlib
import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
import transformers
from conftest import patch
from runtime import bucketing, resume
from runtime.__main__ import leave
from runtime.options import Options
from runtime.patches import PATCHES, choose
from safetensors.torch import load_file, save_file
from trainings import DENSE, M3, RERANKER, rows, train, write
from transformers import AutoModelForSequenceClassification, TrainerCallback, TrainingArguments, trainer

ALL = tuple(p.name for p in PATCHES)
OLD = transformers.__version__.startswith("4.54.")


class Log(TrainerCallback):
    """Every line that a trainer logs, with the gradient's norm, which is not rounded."""

    lines: ClassVar[list[dict[str, Any]]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        kept = {k: v for k, v in logs.items() if k in ("loss", "grad_norm", "learning_rate", "train_loss")}
        self.lines.append({"step": state.global_step, "epoch": state.epoch, **kept})


@pytest.fixture(autouse=True)
def log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "DEFAULT_CALLBACKS", [*trainer.DEFAULT_CALLBACKS, Log])
    monkeypatch.setattr(trainer, "skip_first_batches", trainer.skip_first_batches)
    kinds = torch.serialization._package_registry
    monkeypatch.setattr(torch.serialization, "_package_registry", list(kinds))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """13 rows of 3 negatives with teachers' scores: no batch size divides them."""
    scored = [{**row, "pos_scores": [2.0], "neg_scores": [1.0, 0.5, 0.25]} for row in rows(13)]
    return write(tmp_path / "rows.jsonl", scored)


def curve(module: str, start: Path, data: Path, output: Path, **more: Any) -> list[dict[str, Any]]:
    """Train, with a checkpoint after every step; what was logged."""
    Log.lines.clear()
    settings = {"save_steps": 1, "logging_steps": 1, "max_steps": -1, "num_train_epochs": 2, **more}
    train(module, start, data, output, **settings)
    return list(Log.lines)


@contextlib.contextmanager
def continuing(module: str, checkpoint: Path) -> Iterator[None]:
    """The runtime's part of resuming, for one training."""
    with pytest.MonkeyPatch.context() as patched:
        for cls, name in ((TrainingArguments, "__post_init__"), (trainer.Trainer, "train")):
            patched.setattr(cls, name, getattr(cls, name))
        patched.setattr(trainer, "DEFAULT_CALLBACKS", list(trainer.DEFAULT_CALLBACKS))
        patched.setenv("LAUNCH_RESUME", str(checkpoint))
        resume.attach(module, choose(module, "all")[0])
        yield


def resumed(module: str, checkpoint: Path, **arguments: Any) -> list[dict[str, Any]]:
    """``curve`` from a checkpoint on, without new checkpoints."""
    with continuing(module, checkpoint):
        return curve(module, **{"save_strategy": "no", **arguments})


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


#: Of 7 batches an epoch, in 2 epochs: checkpoints in the first, at its end, in the second.
POINTS = (3, 7, 9)
SETTINGS: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
    "M3": (
        M3,
        POINTS,
        {"unified_finetuning": True, "use_self_distill": True, "self_distill_start_step": 5},
    ),
    "M3, heads that are not trained": (M3, (9,), {"gradient_checkpointing": True}),
    "M3, two files": (
        M3,
        POINTS,
        {"unified_finetuning": True, "same_dataset_within_batch": True, "train_data": "two files"},
    ),
    "M3, parts of a batch": (M3, (9,), {"unified_finetuning": True, "sub_batch_size": 1}),
    "M3, four and a half steps of two batches": (
        M3,
        (3, 5),
        {
            "unified_finetuning": True,
            "use_self_distill": True,
            "self_distill_start_step": 9,
            "gradient_accumulation_steps": 2,
        },
    ),
    "dense, no dropout": (DENSE, (7,), {"dropout": 0.0, "max_steps": 12, "logging_steps": 2}),
    "dense": (DENSE, (9,), {"lr_scheduler_type": "cosine", "warmup_ratio": 0.3, "bf16": True}),
    "dense, distillation": (
        DENSE,
        (9,),
        {"knowledge_distillation": True, "same_dataset_within_batch": True},
    ),
    "dense, workers": (DENSE, (9,), {"dataloader_num_workers": 1}),
    "reranker": (RERANKER, (3, 9), {"knowledge_distillation": True, "dataloader_drop_last": False}),
    "reranker, no dropout": (RERANKER, (9,), {"dropout": 0.0, "max_steps": 10}),
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


def after(step: int, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was logged behind a checkpoint."""
    return [line for line in lines if line["step"] > step]


def losses(lines: list[dict[str, Any]]) -> list[float]:
    """The curve; the last line sums up and has none."""
    return [line["loss"] for line in lines if "loss" in line]


class TestEqual:
    """Losses, norms of gradients and final weights to the bit, with XLM-R's dropout unless said otherwise."""

    @pytest.mark.parametrize("name", SETTINGS)
    def test_what_comes_after_the_checkpoint(
        self, model: Path, data: Path, tmp_path: Path, name: str
    ) -> None:
        patch(*ALL)
        module, points, settings = SETTINGS[name]
        if "gradient_accumulation_steps" in settings and OLD:
            pytest.skip("refused, see below")
        arguments = prepared(model, data, tmp_path, settings)
        whole = curve(module, output=tmp_path / "whole", **arguments)
        for step in points:
            output = tmp_path / f"from-{step}"
            rest = resumed(module, tmp_path / "whole" / f"checkpoint-{step}", output=output, **arguments)
            assert rest == after(step, whole)
            assert len(rest) > 1
            assert same(output, tmp_path / "whole")

    def test_several_times_in_one_folder(self, model: Path, data: Path, tmp_path: Path) -> None:
        patch(*ALL)
        arguments = {"start": model, "data": data, "unified_finetuning": True}
        whole = curve(M3, output=tmp_path / "whole", **arguments)
        again = shutil.copytree(tmp_path / "whole", tmp_path / "again")
        for step in (2, 9):
            shutil.rmtree(again / f"checkpoint-{step + 1}")  # the one that was being written
            rest = resumed(M3, again / f"checkpoint-{step}", output=again, save_strategy="steps", **arguments)
            assert rest == after(step, whole)
        assert same(again, tmp_path / "whole")

    def test_buckets_keep_their_sizes(self, model: Path, data: Path, tmp_path: Path) -> None:
        """They are measured, and another process may find other ones; here it would."""
        patch(*ALL)
        arguments = {"start": model, "data": write(data, rows(40)), "unified_finetuning": True}
        bucketing.attach(M3, Options(length_bucketing=True, max_batch_size=4))
        whole = curve(M3, output=tmp_path / "whole", **arguments)
        bucketing.attach(M3, Options(length_bucketing=True, max_batch_size=1))
        for step in (3, len(whole) // 2 + 2):
            output = tmp_path / f"from-{step}"
            rest = resumed(M3, tmp_path / "whole" / f"checkpoint-{step}", output=output, **arguments)
            assert rest == after(step, whole)
            assert same(output, tmp_path / "whole")
        with pytest.raises(SystemExit, match="are not those of this data"):
            resumed(
                M3,
                tmp_path / "whole" / "checkpoint-3",
                output=tmp_path / "other",
                **{**arguments, "data": write(tmp_path / "others.jsonl", rows(8, longest=2))},
            )

    def test_a_trainer_of_transformers_alone(self, model: Path, tmp_path: Path) -> None:
        """Whose program says nothing about resuming."""

        def run(output: Path) -> list[dict[str, Any]]:
            Log.lines.clear()
            torch.manual_seed(0)
            settings = {"max_steps": 6, "save_steps": 1, "logging_steps": 1, "use_cpu": True}
            rows = [{"input_ids": torch.full((8,), n), "labels": n % 2} for n in range(5, 26)]
            trainer.Trainer(
                model=AutoModelForSequenceClassification.from_pretrained(model),
                args=TrainingArguments(output_dir=str(output), report_to="none", **settings),
                train_dataset=rows,
            ).train()
            return [line for line in Log.lines if "loss" in line]

        patch("skip-batches")  # for accelerate 1.12
        whole = run(tmp_path / "whole")
        with continuing("my.program", tmp_path / "whole" / "checkpoint-4"):
            assert run(tmp_path / "rest") == after(4, whole)
        assert same(tmp_path / "rest" / "checkpoint-6", tmp_path / "whole" / "checkpoint-6")

    def test_two_processes(self, model: Path, data: Path, tmp_path: Path) -> None:
        torch.multiprocessing.spawn(_two, (model, data, tmp_path), nprocs=2)
        for name in ("M3", "reranker"):
            assert same(tmp_path / name / "rest", tmp_path / name / "whole")
            lines = json.loads((tmp_path / f"{name}.json").read_text())
            assert lines["rest"] == after(5, lines["whole"])
            assert len(lines["rest"]) > 1


def _two(rank: int, start: Path, data: Path, folder: Path) -> None:
    """One of two processes, as torchrun starts them; it trains twice and resumes twice."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}  # asked for, not used
    torch.distributed.init_process_group("gloo", f"file://{folder / 'store'}", rank=rank, world_size=2)
    torch.set_num_threads(1)
    trainer.DEFAULT_CALLBACKS.append(Log)
    patch(*ALL)
    unified = {"unified_finetuning": True, "negatives_cross_device": True, "same_dataset_within_batch": True}
    for name, module, settings in (("M3", M3, unified), ("reranker", RERANKER, {})):
        more = {"ddp_backend": "gloo", **settings}
        whole = curve(module, start, data, folder / name / "whole", **more)
        checkpoint = folder / name / "whole" / "checkpoint-5"
        rest = resumed(module, checkpoint, start=start, data=data, output=folder / name / "rest", **more)
        if rank == 0:
            (folder / f"{name}.json").write_text(json.dumps({"whole": whole, "rest": rest}))
    leave()  # as a recipe's process does: Gloo's threads may end an interpreter that ends by itself


class TestWithoutThePatch:
    """What upstream does, and that each patch is needed."""

    def rest(
        self, module: str, model: Path, data: Path, tmp_path: Path, off: str, step: int, **more: Any
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """What follows a checkpoint in a training, and in one that is resumed, without one patch."""
        patch(*(name for name in ALL if name != off))
        arguments = {"start": model, "data": data, **more}
        whole = curve(module, output=tmp_path / "whole", **arguments)
        checkpoint = tmp_path / "whole" / f"checkpoint-{step}"
        return after(step, whole), resumed(module, checkpoint, output=tmp_path / "rest", **arguments)

    @pytest.mark.parametrize("module", [M3, DENSE, RERANKER])
    def test_weights(self, model: Path, data: Path, tmp_path: Path, module: str) -> None:
        with pytest.raises(AttributeError, match="_keys_to_ignore_on_save"):
            self.rest(module, model, data, tmp_path, "resume-weights", 3)

    def test_negatives(self, model: Path, data: Path, tmp_path: Path) -> None:
        whole, rest = self.rest(DENSE, model, data, tmp_path, "sampling", 3)
        assert losses(rest) != losses(whole)

    @pytest.mark.parametrize("step", [3, 7])
    def test_position(self, model: Path, data: Path, tmp_path: Path, step: int) -> None:
        whole, rest = self.rest(
            DENSE, model, data, tmp_path, "resume-position", step, same_dataset_within_batch=True
        )
        assert losses(rest) != losses(whole)

    def test_start_of_self_distillation(self, model: Path, data: Path, tmp_path: Path) -> None:
        more = {"unified_finetuning": True, "use_self_distill": True, "self_distill_start_step": 2}
        whole, rest = self.rest(M3, model, data, tmp_path, "resume-position", 4, **more)
        assert losses(rest[:2]) != losses(whole[:2])

    def test_order_of_an_epoch(
        self, model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        newer = trainer.skip_first_batches

        def older(loader: Any, count: int) -> Any:
            """As accelerate 1.12: the loader that is made begins with the first epoch's order."""
            made = newer(loader, count)
            made.iteration = 0
            return made

        monkeypatch.setattr(trainer, "skip_first_batches", older)
        whole, rest = self.rest(DENSE, model, data, tmp_path, "skip-batches", 9)
        assert losses(rest) != losses(whole)
        patch("skip-batches")
        arguments = {"start": model, "data": data, "output": tmp_path / "patched"}
        assert resumed(DENSE, tmp_path / "whole" / "checkpoint-9", **arguments) == whole

    def test_states_on_a_numbered_cpu(self, tmp_path: Path) -> None:
        torch.save(torch.ones(2), tmp_path / "state.pt")
        with pytest.raises(RuntimeError, match="don't know how to restore data location"):
            torch.load(tmp_path / "state.pt", map_location=torch.device("cpu", 1))
        patch("numbered-cpu")
        assert torch.load(tmp_path / "state.pt", map_location=torch.device("cpu", 1)).device.type == "cpu"
        with pytest.raises(RuntimeError, match="don't know how to restore data location"):
            torch.load(tmp_path / "state.pt", map_location="other:1")

    def test_random_state_of_intel_gpus(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """With a stand-in for the device."""
        states = {"xpu:1": torch.arange(16, dtype=torch.uint8)}
        monkeypatch.setattr(torch.xpu, "get_rng_state", lambda device: states[str(device)])
        monkeypatch.setattr(
            torch.xpu, "set_rng_state", lambda state, device: states.update({str(device): state})
        )
        kind = SimpleNamespace(
            device=torch.device("xpu", 1), process_index=1, world_size=2, parallel_mode=None
        )
        rank = SimpleNamespace(args=kind)
        for names, kept in (((), False), (("intel-random-state",), True)):
            patch(*names)
            states["xpu:1"] = torch.arange(16, dtype=torch.uint8)
            trainer.Trainer._save_rng_state(rank, str(tmp_path))
            states["xpu:1"] = torch.zeros(16, dtype=torch.uint8)
            trainer.Trainer._load_rng_state(rank, str(tmp_path))
            assert torch.equal(states["xpu:1"], torch.arange(16, dtype=torch.uint8)) == kept

    def test_sums_of_losses(self, model: Path, data: Path, tmp_path: Path) -> None:
        whole, rest = self.rest(DENSE, model, data, tmp_path, "loss-sums", 9, logging_steps=2)
        assert rest[0]["loss"] != whole[0]["loss"]  # one step instead of two
        assert rest[1:-1] == whole[1:-1]
        assert rest[-1]["train_loss"] < 0.6 * whole[-1]["train_loss"]  # 5 of 14 steps


class TestSampling:
    def test_rows_have_negatives_of_their_own(self, model: Path, data: Path, tmp_path: Path) -> None:
        """The same ones whenever a row is read, others in another epoch, and nobody else's numbers change."""
        from FlagEmbedding.abc.finetune.embedder import AbsEmbedderTrainDataset

        patch("sampling")
        args = SimpleNamespace(
            train_data=[str(write(data, [{**row, "neg": list("abcdefgh")} for row in rows(5)]))],
            cache_path=str(tmp_path / "cache"),
            shuffle_ratio=0,
            max_example_num_per_dataset=100,
            knowledge_distillation=False,
            train_group_size=3,
            query_instruction_for_retrieval=None,
            passage_instruction_for_retrieval=None,
        )
        dataset = AbsEmbedderTrainDataset(args, None)
        epoch = torch.zeros((), dtype=torch.int64)
        dataset.sampling = (42, epoch)
        before = random.getstate()
        first = [dataset[row] for row in range(5)]
        assert [dataset[row] for row in (4, 3, 2, 1, 0)] == first[::-1]
        assert len({tuple(passages[1:]) for _, passages, _ in first}) > 1
        epoch.fill_(1)
        assert [dataset[row] for row in range(5)] != first
        assert random.getstate() == before

    def test_folders_are_read_by_name(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from FlagEmbedding.abc.finetune.embedder import AbsDataset

        monkeypatch.setattr(os, "listdir", lambda folder: ["b", "c", "a"])
        monkeypatch.setattr(AbsDataset, "os", os)
        assert AbsDataset.os.listdir(tmp_path) == ["b", "c", "a"]
        patch("sampling")
        assert AbsDataset.os.listdir(tmp_path) == ["a", "b", "c"]


class TestRefused:
    @pytest.fixture
    def checkpoint(self, model: Path, data: Path, tmp_path: Path) -> Path:
        patch(*ALL)
        curve(M3, model, data, tmp_path / "whole", max_steps=2, unified_finetuning=True)
        return tmp_path / "whole" / "checkpoint-1"

    def test_folders_that_are_no_checkpoints(self, checkpoint: Path) -> None:
        assert resume.unfit(checkpoint, 1) == ""
        assert "processes is 1, and this training's is 2" in resume.unfit(checkpoint, 2)
        for name, reason in (
            ("rng_state.pth", "processes is 0"),
            ("optimizer.pt", "weights alone"),
            ("trainer_state.json", "no checkpoint"),
        ):
            (checkpoint / name).unlink()
            assert reason in resume.unfit(checkpoint, 1)

    def test_an_argument_that_names_another(self, checkpoint: Path, model: Path, data: Path) -> None:
        with pytest.raises(SystemExit, match="leave the argument out"):
            resumed(
                M3,
                checkpoint,
                start=model,
                data=data,
                output=checkpoint.parent,
                resume_from_checkpoint=checkpoint.parent / "checkpoint-2",
            )

    def test_what_older_libraries_lose(
        self, model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        patch(*ALL)
        arguments = {"start": model, "data": data, "gradient_accumulation_steps": 2}
        curve(DENSE, output=tmp_path / "whole", **arguments)
        monkeypatch.setattr(transformers, "__version__", "4.54.1")
        with pytest.raises(SystemExit, match=r"7 batches gradient_accumulation_steps \(2\) does not"):
            resumed(DENSE, tmp_path / "whole" / "checkpoint-2", output=tmp_path / "rest", **arguments)
        resumed(DENSE, tmp_path / "whole" / "checkpoint-4", output=tmp_path / "rest", **arguments)

    def test_without_what_it_needs(self, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LAUNCH_RESUME", str(checkpoint))
        with pytest.raises(SystemExit, match="without the patches resume-position, resume-weights"):
            resume.attach(M3, choose(M3, "sampling,skip-batches")[0])
        monkeypatch.setenv("LAUNCH_RESUME", str(checkpoint.parent))
        with pytest.raises(SystemExit, match="no checkpoint of a training"):
            resume.attach(M3, [])

    @pytest.mark.parametrize("change", ["head", "name", "dense"])
    def test_weights_that_do_not_fit(
        self, checkpoint: Path, model: Path, data: Path, tmp_path: Path, change: str
    ) -> None:
        reason = "do not fit the model: model in"
        if change == "head":
            (checkpoint / "sparse_linear.pt").unlink()
            reason = "not whole: there is no .*sparse_linear.pt"
        else:
            saved = load_file(checkpoint / "model.safetensors")
            saved["other.weight"] = saved.pop("embeddings.LayerNorm.weight")
            save_file(saved, checkpoint / "model.safetensors")
        with pytest.raises(SystemExit, match=reason):
            resumed(
                DENSE if change == "dense" else M3,
                checkpoint,
                start=model,
                data=data,
                output=tmp_path / "rest",
                **({} if change == "dense" else {"unified_finetuning": True}),
            )
