"""Real trainings of tiny models in this process: what is saved, what is refused, which batches are made."""

import json
import math
import stat
import sys
from collections import Counter
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from conftest import patch
from runtime import bucketing, guards, losses, memory, metrics, model_options, unsloth_loader
from runtime.options import Options
from safetensors.torch import load_file
from trainings import DENSE, M3, RERANKER, rows, train, write
from transformers import AutoModel, TrainingArguments, trainer


class TestSaved:
    def test_sentence_transformers_pools_as_was_trained(
        self, model: Path, data: Path, tmp_path: Path
    ) -> None:
        from sentence_transformers import SentenceTransformer

        train(M3, model, data, tmp_path / "upstream", unified_finetuning=True)
        patch("sentence-transformers")
        train(M3, model, data, tmp_path / "patched", unified_finetuning=True)
        texts = ["what is red", "round square small"]
        for folder, agrees in (("upstream", False), ("patched", True)):
            loaded = SentenceTransformer(str(tmp_path / folder), device="cpu")
            found = torch.nn.functional.normalize(torch.tensor(loaded.encode(texts)), dim=-1)
            encoder = AutoModel.from_pretrained(tmp_path / folder).eval()
            with torch.no_grad():
                states = encoder(**loaded.tokenizer(texts, padding=True, return_tensors="pt"))
            cls = torch.nn.functional.normalize(states.last_hidden_state[:, 0], dim=-1)
            assert torch.allclose(found, cls, atol=1e-5) == agrees, folder

    def test_instructions_become_prompts(self, model: Path, data: Path, tmp_path: Path) -> None:
        patch("sentence-transformers")
        instructions = {
            "query_instruction_for_retrieval": "find: ",
            "passage_instruction_for_retrieval": "text: ",
        }
        train(DENSE, model, data, tmp_path / "out", sentence_pooling_method="mean", **instructions)
        about = json.loads((tmp_path / "out" / "config_sentence_transformers.json").read_text())
        assert about["prompts"] == {"query": "find: ", "document": "text: "}
        assert about["similarity_fn_name"] == "cosine"
        pooling = json.loads((tmp_path / "out" / "1_Pooling" / "config.json").read_text())
        assert [name for name, on in pooling.items() if on is True] == ["pooling_mode_mean_tokens"]

    def test_heads_are_kept(self, model: Path, data: Path, tmp_path: Path) -> None:
        train(M3, model, data, tmp_path / "upstream", unified_finetuning=False)
        assert not (tmp_path / "upstream" / "sparse_linear.pt").exists()
        patch("keep-heads")
        for number, module in enumerate((M3, DENSE)):
            train(module, model, data, tmp_path / f"patched{number}")
            for name in ("sparse_linear.pt", "colbert_linear.pt"):
                kept = torch.load(tmp_path / f"patched{number}" / name, weights_only=True)
                start = torch.load(model / name, weights_only=True)
                assert all(torch.equal(kept[key], start[key]) for key in start)
        train(M3, model, data, tmp_path / "unified", unified_finetuning=True)
        trained = torch.load(tmp_path / "unified" / "sparse_linear.pt", weights_only=True)
        assert not torch.equal(trained["weight"], torch.load(model / "sparse_linear.pt")["weight"])

    @pytest.mark.parametrize("module", [M3, DENSE, RERANKER])
    def test_files_can_be_read_by_others(self, model: Path, data: Path, tmp_path: Path, module: str) -> None:
        def closed(folder: Path) -> set[str]:
            return {f.name for f in folder.iterdir() if f.is_file() and not f.stat().st_mode & stat.S_IROTH}

        train(module, model, data, tmp_path / "upstream")
        assert closed(tmp_path / "upstream") == {"model.safetensors"}
        patch("file-modes")
        train(module, model, data, tmp_path / "patched", save_steps=1)
        assert closed(tmp_path / "patched") == set()
        assert closed(tmp_path / "patched" / "checkpoint-1") == set()

    def test_a_reranker_trains_its_last_batch(self, model: Path, data: Path, tmp_path: Path) -> None:
        patch("reranker-batch")
        write(data, rows(3))
        train(RERANKER, model, data, tmp_path / "out", num_train_epochs=1, max_steps=-1, save_steps=1)
        assert (tmp_path / "out" / "checkpoint-2").is_dir()


class TestGuards:
    @pytest.mark.parametrize("logger", ["tensorboard", "wandb", "mlflow"])
    def test_a_logger_that_is_missing_is_said_before_the_model_is_loaded(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logger: str
    ) -> None:
        guards.attach(DENSE, [])
        monkeypatch.setattr(guards, "find_spec", lambda name: None)
        with pytest.raises(SystemExit, match=f"report_to {logger}: it is not in this environment"):
            train(DENSE, tmp_path / "no model", data, tmp_path / "out", report_to=logger)

    @pytest.mark.parametrize(
        ("module", "more", "reason"),
        [
            (RERANKER, {"sub_batch_size": 4}, "sub_batch_size: the reranker never reads it"),
            (RERANKER, {"max_len": 256}, "max_len: never read"),
            (M3, {"unified_finetuning": True, "use_mrl": True, "mrl_dims": 8}, "use_mrl: BGE-M3's trainer"),
            (DENSE, {"sub_batch_size": 4}, "without the patch sub-batch"),
            (DENSE, {"tokenizer_name": "x"}, "tokenizer_name: never read"),
            (DENSE, {"fp16": True}, "fp16: without effect on a CPU"),
        ],
    )
    def test_refused(
        self, model: Path, data: Path, tmp_path: Path, module: str, more: dict[str, Any], reason: str
    ) -> None:
        if "use_mrl" in more and version("FlagEmbedding").startswith("1.3."):
            pytest.skip("FlagEmbedding 1.3 has no such argument: its parser refuses it")
        guards.attach(module, [])
        with pytest.raises(SystemExit, match=reason):
            train(module, model, data, tmp_path / "out", **more)
        assert not list(tmp_path.glob("out/*"))

    def test_unified_needs_in_batch_negatives(self, model: Path, tmp_path: Path) -> None:
        folder = tmp_path / "my_no_in_batch_neg"
        folder.mkdir()
        write(folder / "rows.jsonl", rows(4))
        guards.attach(M3, [])
        with pytest.raises(SystemExit, match="trains on a constant loss"):
            train(M3, model, folder, tmp_path / "out", unified_finetuning=True)

    def test_good_arguments_pass(self, model: Path, data: Path, tmp_path: Path) -> None:
        guards.attach(DENSE, [])
        train(DENSE, model, data, tmp_path / "out")
        assert (tmp_path / "out" / "model.safetensors").exists()


class TestModelOptions:
    def test_attention_dropout(self, model: Path, data: Path, tmp_path: Path) -> None:
        encoder = AutoModel.from_pretrained(model, attention_probs_dropout_prob=0.5).train()
        for module in encoder.modules():
            if isinstance(module, torch.nn.Dropout) and module.p == 0.1:
                module.p = 0.0
        inputs = {"input_ids": torch.randint(5, 50, (2, 16))}

        def twice() -> bool:
            return torch.equal(encoder(**inputs).last_hidden_state, encoder(**inputs).last_hidden_state)

        assert not twice()
        model_options.set_attention_dropout(encoder, 0.0)
        assert twice()
        with pytest.raises(SystemExit, match="Linear has no layer"):
            model_options.set_attention_dropout(torch.nn.Linear(2, 2), 0.1)
        model_options.set_attention_dropout(torch.nn.Linear(2, 2), 0.0)  # the default stops nobody

    def test_frozen_word_embeddings(self, model: Path, data: Path, tmp_path: Path) -> None:
        model_options.attach(DENSE, Options(freeze_word_embeddings=True, attention_dropout=0.0))
        train(DENSE, model, data, tmp_path / "out")
        before, after = (AutoModel.from_pretrained(folder) for folder in (model, tmp_path / "out"))
        changed = {
            name
            for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True)
            if not torch.equal(old, new)
        }
        assert "embeddings.word_embeddings.weight" not in changed
        assert "encoder.layer.0.attention.self.query.weight" in changed
        assert after.config.attention_probs_dropout_prob == 0.0

    def test_an_unknown_trainer_is_refused(self) -> None:
        with pytest.raises(SystemExit, match=r"my\.trainer is not known"):
            model_options.attach("my.trainer", Options(attention_dropout=0.0))
        model_options.attach("my.trainer", Options())


class TestUnsloth:
    def test_where_it_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(unsloth_loader, "find_spec", lambda name: None)
        with pytest.raises(SystemExit, match="it is not in this environment"):
            unsloth_loader.attach(RERANKER)

    def test_embedders_are_refused(self) -> None:
        with pytest.raises(SystemExit, match=r"only FlagEmbedding\.finetune\.reranker"):
            unsloth_loader.attach(DENSE)

    def test_what_it_is_asked_for(
        self, model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The request alone, with a stand-in: Unsloth itself needs a GPU."""
        asked: dict[str, Any] = {}

        class FastModel:
            @staticmethod
            def from_pretrained(model_name: str, auto_model: Any, num_labels: int, **more: Any) -> Any:
                asked.update(more)
                return auto_model.from_pretrained(model_name, num_labels=num_labels), None

        runner = import_module(f"{RERANKER}.runner")
        monkeypatch.setattr(
            runner, "AutoModelForSequenceClassification", runner.AutoModelForSequenceClassification
        )
        monkeypatch.setattr(unsloth_loader, "find_spec", lambda name: True)
        monkeypatch.setitem(sys.modules, "unsloth", SimpleNamespace(FastModel=FastModel))
        unsloth_loader.attach(RERANKER)
        train(RERANKER, model, data, tmp_path / "out")
        assert asked["full_finetuning"] is True
        assert asked["load_in_4bit"] is False
        assert (tmp_path / "out" / "model.safetensors").exists()


class TestBucketing:
    def runner(self, model: Path, data: list[Path], tmp_path: Path, **more: Any) -> Any:
        """A runner whose training never starts; it holds the data set."""
        from FlagEmbedding.finetune.embedder.encoder_only.m3 import (
            EncoderOnlyEmbedderM3DataArguments,
            EncoderOnlyEmbedderM3ModelArguments,
            EncoderOnlyEmbedderM3Runner,
            EncoderOnlyEmbedderM3TrainingArguments,
        )

        bucketing.attach(M3, Options(length_bucketing=True, **more.pop("options", {})))
        return EncoderOnlyEmbedderM3Runner(
            model_args=EncoderOnlyEmbedderM3ModelArguments(model_name_or_path=str(model)),
            data_args=EncoderOnlyEmbedderM3DataArguments(
                train_data=[str(path) for path in data],
                cache_path=str(tmp_path / "cache"),
                train_group_size=3,
                query_max_len=32,
                passage_max_len=100,
                pad_to_multiple_of=8,
                **more,
            ),
            training_args=EncoderOnlyEmbedderM3TrainingArguments(
                output_dir=str(tmp_path / "out"), unified_finetuning=True, use_cpu=True, report_to="none"
            ),
        )

    def epoch(self, runner: Any) -> list[dict[str, Any]]:
        dataset = runner.train_dataset
        return [runner.data_collator([dataset[0]]) for _ in range(len(dataset))]

    @pytest.mark.parametrize("together", [True, False])
    def test_every_row_is_used_in_a_batch_of_its_length(
        self, model: Path, tmp_path: Path, together: bool
    ) -> None:
        first = write(tmp_path / "a.jsonl", rows(37, longest=60))
        second = write(tmp_path / "b.jsonl", rows(5, longest=8, seed=1))
        runner = self.runner(
            model,
            [first, second],
            tmp_path,
            same_dataset_within_batch=together,
            options={"bucket_batch_sizes": "32:8,64:4,104:2"},
        )
        dataset = runner.train_dataset
        assert sum(len(source.buckets) > 0 for source in dataset.sources) == (2 if together else 1)
        used = Counter(int(row) for batch, _ in dataset.batch_datas for row in batch)
        assert used == Counter(range(42))
        lengths = []
        for batch in self.epoch(runner):
            queries = len(batch["queries"]["input_ids"])
            padded = batch["passages"]["input_ids"].shape
            assert padded[0] == 3 * queries
            assert queries <= {True: 8, False: 4 if padded[1] <= 64 else 2}[padded[1] <= 32]
            lengths.append(padded[1])
        assert len(set(lengths)) > 2
        order = [list(batch) for batch, _ in dataset.batch_datas]
        dataset.refresh_epoch()
        assert [list(batch) for batch, _ in dataset.batch_datas] != order

    def test_sizes_are_measured(self, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """On a device of which a token takes 1 KB the sizes follow from what is free."""

        class Device:
            def free(self) -> int:
                return 700_000

            def reset(self) -> None:
                pass

            def peak(self) -> int:
                return 50_000 + 1_000 * seen[-1]

        seen: list[int] = []
        original = bucketing._Sizer._measure

        def measure(self: Any, shape: Any) -> int | None:
            seen.append(shape.tokens)
            return original(self, shape)

        monkeypatch.setattr(bucketing._Sizer, "_measure", measure)
        monkeypatch.setattr(bucketing._Sizer, "_budget", lambda self: self._memory.free() * 0.9)
        monkeypatch.setattr(bucketing.probe, "of", lambda device: Device())
        data = write(tmp_path / "a.jsonl", rows(60, longest=90))
        torch.manual_seed(3)
        state = torch.random.get_rng_state()
        runner = self.runner(model, [data], tmp_path)
        assert len(seen) >= 2
        (source,) = runner.train_dataset.sources
        for bucket in source.buckets:
            tokens = bucket.query_length + 3 * bucket.passage_length
            assert 50_000 + 1_000 * tokens * bucket.batch_size <= 630_000
            assert (
                bucket.batch_size == 64 or 50_000 + 1_000 * tokens * (bucket.batch_size + 2) > 0.7 * 630_000
            )
        sizes = [bucket.batch_size for bucket in source.buckets]
        assert sizes == sorted(sizes, reverse=True)
        assert len(set(sizes)) > 1
        assert runner.model.step == 0
        assert not runner.model.negatives_cross_device
        assert all(p.grad is None for p in runner.model.parameters())
        assert state is not None

    def test_what_does_not_fit_is_said_before_the_training(
        self, model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bucketing._Sizer, "_budget", lambda self: -1.0)
        with pytest.raises(SystemExit, match=r"OutOfMemoryError: one query with 3 passages"):
            self.runner(model, [data], tmp_path)

    @pytest.mark.parametrize("torchrun", [True, False])
    def test_ddps_copy_of_the_gradients_is_set_aside_where_accelerate_makes_one(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, torchrun: bool
    ) -> None:
        """A single process on a CPU is wrapped when torchrun started it; on GPUs it never is."""
        if torchrun:
            for name, text in {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "1"}.items():
                monkeypatch.setenv(name, text)
        free, trained = self.sizer(monkeypatch, tmp_path)._budget(), 300 * 32 + 32 * 32 + 32
        assert free == 1_000_000 - (8 + 4 * torchrun) * trained
        wrapped = Accelerator(cpu=True).prepare_model(torch.nn.Linear(2, 2))
        assert isinstance(wrapped, torch.nn.parallel.DistributedDataParallel) == torchrun
        for state in (PartialState(), AcceleratorState()):
            state._shared_state["distributed_type"] = DistributedType.MULTI_GPU
        assert not isinstance(
            Accelerator().prepare_model(torch.nn.Linear(2, 2), device_placement=False),
            torch.nn.parallel.DistributedDataParallel,
        )
        AcceleratorState._reset_state(reset_partial_state=True)

    def test_8_bit_adam_keeps_the_moments_of_embeddings_in_32_bit(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        sizer = self.sizer(monkeypatch, tmp_path, optim="adamw_bnb_8bit")
        assert sizer._budget() == 1_000_000 - 8 * 300 * 32 - 2 * (32 * 32 + 32)

    def sizer(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **more: Any) -> Any:
        """Of a model with 300 embeddings, on a device with a million free bytes."""
        monkeypatch.setattr(bucketing.probe, "of", lambda device: SimpleNamespace(free=lambda: 1_000_000))
        model = torch.nn.Sequential(torch.nn.Embedding(300, 32), torch.nn.Linear(32, 32))
        training = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none", **more)
        runner = SimpleNamespace(model=model, training_args=training)
        return bucketing._Sizer(runner, Options(length_bucketing=True, memory_fraction=1.0))

    @pytest.mark.parametrize("sizes", ["8:4", "x", "8"])
    def test_wrong_sizes(self, model: Path, data: Path, tmp_path: Path, sizes: str) -> None:
        with pytest.raises(SystemExit, match="bucket batch sizes"):
            self.runner(model, [data], tmp_path, options={"bucket_batch_sizes": sizes})

    def test_a_training(self, model: Path, data: Path, tmp_path: Path) -> None:
        patch("sparse-head", "sub-batch")
        for module in (M3, DENSE):
            bucketing.attach(module, Options(length_bucketing=True, max_batch_size=4))
            more = {"num_train_epochs": 1, "max_steps": -1, "sub_batch_size": 2, "logging_steps": 1}
            train(module, model, data, tmp_path / module, **more)
            states = sorted((tmp_path / module).glob("checkpoint-*/trainer_state.json"))
            history = json.loads(states[-1].read_text())["log_history"]
            assert np.isfinite([entry["loss"] for entry in history if "loss" in entry]).all()
            assert history[0]["loss"] > 0

    def test_only_embedders(self) -> None:
        with pytest.raises(SystemExit, match="is not one of the embedders"):
            bucketing.attach(RERANKER, Options())


def test_the_probe_sees_ram() -> None:
    """Time and again: what the allocator kept of the last step must not hide the next one."""
    from runtime import probe

    memory = probe.of(torch.device("cpu"))
    assert memory.free() > 0
    for _ in range(3):
        memory.reset()
        blocks = [torch.ones(1 << 18) for _ in range(64)]  # 1 MiB each: small ones, which the allocator keeps
        del blocks
        assert 60 << 20 < memory.peak() < 90 << 20


class TestMemory:
    """The event ``memory``, and the probe that ends with it."""

    @pytest.fixture(autouse=True)
    def record(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("LAUNCH_RUN_DIR", str(tmp_path))
        monkeypatch.setattr("transformers.trainer.DEFAULT_CALLBACKS", [*trainer.DEFAULT_CALLBACKS])
        metrics.attach()
        memory.attach()

    def events(self, tmp_path: Path) -> dict[str, Any]:
        lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
        return {event["event"]: event for event in map(json.loads, lines)}

    def test_a_training_says_what_it_took(self, model: Path, data: Path, tmp_path: Path) -> None:
        train(DENSE, model, data, tmp_path / "out")
        found = self.events(tmp_path)["memory"]
        assert 50 << 20 < found["before"] <= found["peak"]
        assert (tmp_path / "out" / "model.safetensors").exists()

    def test_a_probe_ends_before_anything_is_saved(
        self, model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LAUNCH_PROBE", "1")
        with pytest.raises(memory.Probed):
            train(DENSE, model, data, tmp_path / "out")
        found = self.events(tmp_path)
        assert found["end"]["step"] == 2  # the launcher sees a whole training
        assert found["memory"]["peak"] > 0
        assert not list(tmp_path.glob("out/**/model.safetensors"))


WILD = {"learning_rate": 1e38, "max_grad_norm": 0, "max_steps": 4, "logging_steps": 1}


class TestLosses:
    """A loss that is no number any more."""

    def test_upstream_trains_on_and_logs_numbers(self, model: Path, data: Path, tmp_path: Path) -> None:
        train(DENSE, model, data, tmp_path / "out", **WILD)
        states = json.loads(next(tmp_path.rglob("trainer_state.json")).read_text())["log_history"]
        assert all(math.isfinite(line["loss"]) for line in states if "loss" in line)
        weights = load_file(tmp_path / "out" / "model.safetensors")
        assert not all(each.isfinite().all() for each in weights.values())

    def test_here_it_ends(
        self, model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("transformers.trainer.DEFAULT_CALLBACKS", [*trainer.DEFAULT_CALLBACKS])
        losses.attach()
        with pytest.raises(SystemExit, match=r"the loss is (nan|inf) at step \d: nothing usable is trained"):
            train(DENSE, model, data, tmp_path / "out", **WILD)
        assert not (tmp_path / "out" / "model.safetensors").exists()


class TestDevice:
    """A trainer that falls back to another device says nothing of it, and trains for days."""

    @staticmethod
    def _begin(kind: str, *, use_cpu: bool = False) -> None:
        device = torch.device(kind)
        args = SimpleNamespace(
            process_index=0, world_size=1, device=device, use_cpu=use_cpu, save_on_each_node=False
        )
        state = SimpleNamespace(max_steps=1, num_train_epochs=1, global_step=0)
        metrics.MetricsCallback().on_train_begin(args, state, None)  # type: ignore[arg-type]

    def test_another_one_than_was_planned_trains_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LAUNCH_DEVICE", "xpu")
        monkeypatch.delenv("LAUNCH_WORLD_SIZE", raising=False)
        with pytest.raises(SystemExit, match="torch sees cpu, xpu was planned"):
            self._begin("cpu")

    def test_the_planned_one_and_a_cpu_that_was_asked_for_train(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("LAUNCH_WORLD_SIZE", raising=False)
        for planned, kind, use_cpu in (("cpu", "cpu", False), ("cuda", "cpu", True), ("", "cpu", False)):
            monkeypatch.setenv("LAUNCH_DEVICE", planned)
            self._begin(kind, use_cpu=use_cpu)
