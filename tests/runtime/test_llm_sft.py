"""recipes/llm: masks on real token ids, real trainings of a tiny language model, with Unsloth and without."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from llm import answers, generating, loading, options, saving, sft, templates
from llm_trainings import losses, separate, words
from runtime.losses import attach as attach_losses
from transformers import AutoModelForCausalLM, AutoTokenizer, trainer

sys.path.append(str(Path(__file__).parents[1] / "support"))
import tiny_llm


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama, rows that it can learn, and rows that it has not seen."""
    folder = tmp_path_factory.mktemp("tiny")
    before, sys.argv = sys.argv, ["tiny_llm", str(folder)]
    try:
        tiny_llm.main()
    finally:
        sys.argv = before
    return folder


def train(tiny: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, **more: Any) -> None:
    """In this process, without Unsloth."""
    folder.mkdir(exist_ok=True)
    monkeypatch.setattr(sys, "argv", ["llm.sft", *words(tiny, folder, **more)])
    sft.main()


def answered(model: Any, tokenizer: Any, rows: Path) -> int:
    """Questions whose answer the model gives word for word."""
    right = 0
    for line in rows.read_text().splitlines():
        question, answer = json.loads(line)["messages"]
        prompt = tokenizer.apply_chat_template([question], add_generation_prompt=True, return_tensors="pt")
        with torch.no_grad():
            found = model.generate(prompt, max_new_tokens=8, do_sample=False, pad_token_id=0)
        right += tokenizer.decode(found[0, prompt.shape[1] :], skip_special_tokens=True) == answer["content"]
    return right


class TestMasks:
    #: As Llama 3's own: marks, a system message that is always there, and the text trimmed.
    TRIMMED = (
        "{{ '<|im_start|>system\\nCutting Knowledge Date<|im_end|>\\n' }}{% for message in messages %}"
        "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] | trim + '<|im_end|>\\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )

    @pytest.mark.parametrize("template", [tiny_llm.TEMPLATE, TRIMMED, templates.NAMED["alpaca"][0]])
    def test_exactly_the_answers_carry_loss(self, tiny: Path, template: str) -> None:
        tokenizer = AutoTokenizer.from_pretrained(tiny / "model")
        tokenizer.chat_template = template
        dialogue = [
            {"role": "user", "content": "what size has the small red ball ?"},
            {"role": "assistant", "content": "small"},
            {"role": "user", "content": "und die Farbe, 什么颜色 ?"},
            {"role": "assistant", "content": " rot, 红色 \n🎈"},
        ]
        ids, mask = answers.encode(dialogue, tokenizer)
        assert len(ids) == len(mask)
        text = tokenizer.apply_chat_template(dialogue, tokenize=False)
        assert tokenizer.decode(ids) == text
        runs, before = [], 0
        for token, on in zip(ids, mask, strict=True):
            if on and not before:
                runs.append([])
            if on:
                runs[-1].append(token)
            before = on
        told = [tokenizer.decode(run).strip() for run in runs]
        assert told == ["small<|im_end|>", "rot, 红色 \n🎈<|im_end|>"]

    def test_packed_rows_do_not_see_each_other(self, tiny: Path) -> None:
        """transformers' own attention of a CPU keeps them apart by their positions, when it has no cache."""
        model = AutoModelForCausalLM.from_pretrained(tiny / "model").eval()
        model.config.use_cache = False
        one, other = torch.tensor([[5, 9, 30, 7]]), torch.tensor([[40, 8, 11]])
        positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2]])
        with torch.no_grad():
            packed = model(input_ids=torch.cat([one, other], 1), position_ids=positions).logits
            alone = torch.cat([model(input_ids=row).logits for row in (one, other)], 1)
        assert torch.allclose(packed, alone, atol=1e-4)


class TestPlain:
    def test_it_learns_what_the_base_cannot(
        self, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LAUNCH_MODEL_NAME", "acme/tiny")
        train(tiny, tmp_path, monkeypatch, max_steps=150, per_device_train_batch_size=32, logging_steps=50)
        base = AutoModelForCausalLM.from_pretrained(tiny / "model")
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
        assert answered(base, tokenizer, tiny / "held-out.jsonl") == 0
        from peft import PeftModel

        tuned = PeftModel.from_pretrained(base, tmp_path / "out")
        assert answered(tuned, tokenizer, tiny / "held-out.jsonl") >= 65  # of 72
        config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == "acme/tiny"
        assert "base_model: acme/tiny" in (tmp_path / "out" / "README.md").read_text()
        assert "lm_head" not in config["target_modules"]
        assert (tmp_path / "out" / "adapter_model.safetensors").stat().st_mode & 0o044 == 0o044

    def test_plain_text_and_dialogues_packed(
        self, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        data = tmp_path / "mixed.jsonl"
        text = json.dumps({"text": "the ball is red . " * 60}) + "\n"
        data.write_text(text * 3 + (tiny / "train.jsonl").read_text())
        train(tiny, tmp_path / "run", monkeypatch, train_data=data, packing=True, max_steps=3)
        said = capsys.readouterr().out
        assert "3 texts are longer than 128 tokens: split into pieces" in said
        assert "579 rows" in said

    def test_a_folder_of_caches_is_not_believed(
        self, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Plain bash has one for all trainings; datasets takes what lies there, whatever it was made of."""
        found = []
        monkeypatch.setattr(
            sft, "_compare_masks", lambda _, dataset: found.append(sum(map(len, dataset["input_ids"])))
        )
        lines = (tiny / "train.jsonl").read_text().splitlines(keepends=True)
        for count in (64, 16):
            data = tmp_path / f"{count}.jsonl"
            data.write_text("".join(lines[:count]))
            out = tmp_path / f"out-{count}"
            train(tiny, tmp_path, monkeypatch, train_data=data, output_dir=out, packing=True, max_steps=1)
        assert 0 < 3 * found[1] < found[0]

    @pytest.mark.parametrize(
        ("more", "reason"),
        [
            ({"max_seq_length": 16}, "no answer is within the first 16 of"),
            ({"chat_template": "llama-3"}, "has no token"),
            ({"target_modules": "q_proj,qkv"}, "the model has no layer qkv; linear ones are"),
            ({"max_length": 9}, "max_length: the rows are prepared before TRL sees them"),
        ],
    )
    def test_refused(
        self,
        tiny: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        more: dict[str, Any],
        reason: str,
    ) -> None:
        monkeypatch.setattr("transformers.trainer.DEFAULT_CALLBACKS", [*trainer.DEFAULT_CALLBACKS])
        attach_losses()  # as python -m runtime does
        with pytest.raises(SystemExit, match=reason):
            train(tiny, tmp_path, monkeypatch, **more)
        assert not (tmp_path / "out" / "adapter_model.safetensors").exists()

    def test_a_batch_that_loses_the_mask_stops_the_training(
        self, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from transformers import DataCollatorForLanguageModeling
        from trl import SFTTrainer

        original = SFTTrainer.__init__

        def __init__(self: Any, **given: Any) -> None:  # noqa: N807 - as Unsloth of 2025 does it
            original(self, **given)
            self.data_collator = DataCollatorForLanguageModeling(given["processing_class"], mlm=False)

        monkeypatch.setattr(SFTTrainer, "__init__", __init__)
        with pytest.raises(
            SystemExit, match=r"carry loss on \d+ tokens and the rows on 8: nothing is trained"
        ):
            train(tiny, tmp_path, monkeypatch)

    def test_packed_batches_that_do_not_say_where_rows_begin_stop_the_training(
        self, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from trl import SFTTrainer
        from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

        original = SFTTrainer.__init__

        def __init__(self: Any, **given: Any) -> None:  # noqa: N807 - as TRL 0.20 does it on its own
            original(self, **given)
            self.data_collator = DataCollatorForLanguageModeling(pad_token_id=0)

        monkeypatch.setattr(SFTTrainer, "__init__", __init__)
        with pytest.raises(SystemExit, match="rows would see each other"):
            train(tiny, tmp_path, monkeypatch, packing=True)

    def test_merged_beside_checkpoints(
        self, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        train(tiny, tmp_path, monkeypatch, save_method="merged_16bit", save_strategy="steps", save_steps=3)
        out = tmp_path / "out"
        AutoModelForCausalLM.from_pretrained(out)
        assert "LoRA adapters merged into model" in (out / "README.md").read_text()
        assert (out / "adapter" / "README.md").is_file()
        config = json.loads((out / "adapter" / "adapter_config.json").read_text())
        assert config["auto_mapping"]["base_model_class"] == "LlamaForCausalLM"

    @pytest.mark.parametrize(
        ("free", "precision", "place"),
        [
            (3, "bf16", ("cuda:1", "bf16")),
            (3, "fp32", ("cpu", "fp32")),
            (2, "bf16", ("cpu", "bf16")),
            (2, "fp16", ("cpu", "bf16")),
        ],
    )
    def test_merged_where_there_is_room(
        self, monkeypatch: pytest.MonkeyPatch, free: int, precision: str, place: tuple[str, str]
    ) -> None:
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free * 10**9, 10**11))
        assert saving._place(torch.device("cuda:1"), 10**9, precision) == place

    def test_what_cannot_be_merged_is_refused_before_the_training(
        self, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        base = shutil.copytree(tiny / "model", tmp_path / "few-bits")
        described = json.loads((base / "config.json").read_text())
        (base / "config.json").write_text(json.dumps({**described, "quantization_config": {"bits": 4}}))
        with pytest.raises(SystemExit, match="is stored in few bits"):
            train(tiny, tmp_path, monkeypatch, model_name_or_path=base, save_method="merged_16bit")
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("method", ["lora", "full"])
    def test_a_base_model_learns_to_stop_where_its_template_ends_answers(
        self, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
    ) -> None:
        """As Qwen's base models: ``<|im_end|>`` behind an answer, ``<|endoftext|>`` behind a text."""
        base = tmp_path / "base"
        AutoModelForCausalLM.from_pretrained(tiny / "model").save_pretrained(base)
        tokenizer = AutoTokenizer.from_pretrained(tiny / "model")
        text_end, answer_end = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
        tokenizer.eos_token = "<|endoftext|>"
        tokenizer.save_pretrained(base)
        (base / "generation_config.json").write_text(json.dumps({"eos_token_id": text_end}))
        started = AutoModelForCausalLM.from_pretrained(base)
        assert generating.ends(started, tokenizer) == sorted([text_end, answer_end])
        train(tiny, tmp_path, monkeypatch, model_name_or_path=base, max_steps=2, method=method)
        assert AutoTokenizer.from_pretrained(tmp_path / "out").eos_token == "<|im_end|>"
        if method == "full":
            made = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
            assert answer_end in made.generation_config.eos_token_id
        plain = tmp_path / "plain.jsonl"
        plain.write_text(json.dumps({"text": "the ball is red ."}) + "\n")
        train(tiny, tmp_path / "text", monkeypatch, model_name_or_path=base, max_steps=1, train_data=plain)
        assert AutoTokenizer.from_pretrained(tmp_path / "text" / "out").eos_token == "<|endoftext|>"

    def test_adapters_are_no_model(self, tiny: Path, tmp_path: Path) -> None:
        (tmp_path / "adapter_config.json").write_text("{}")
        with pytest.raises(SystemExit, match="holds adapters, no whole model: merge them first"):
            loading.load(options.ModelOptions(model_name_or_path=str(tmp_path)), device="cpu")


METHODS: dict[str, dict[str, Any]] = {
    "lora": {},
    "qlora": {"load_in_4bit": True},
    "full": {"method": "full", "learning_rate": 1e-3},
    "checkpointing": {"use_gradient_checkpointing": "unsloth", "gradient_checkpointing": True},
}


class TestUnsloth:
    def test_it_trains_as_the_plain_libraries_do(
        self, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The same data, first weights and losses; only how they are computed differs."""
        for folder in ("plain", "unsloth"):
            for name in METHODS:
                (tmp_path / folder / name).mkdir(parents=True)
        common = {"optim": "adamw_torch_fused"}  # Unsloth takes it in place of adamw_torch
        by_unsloth = [
            words(tiny, tmp_path / "unsloth" / name, unsloth=True, **common, **more)
            for name, more in METHODS.items()
        ]
        said = separate(by_unsloth, tmp_path)
        assert "4-bit = True" in said
        plain = [words(tiny, tmp_path / "plain" / name, **common, **more) for name, more in METHODS.items()]
        separate(plain, tmp_path)
        for name in METHODS:
            found, expected = (losses(tmp_path / which / name) for which in ("unsloth", "plain"))
            assert len(found) == 6
            assert found == pytest.approx(expected, rel=5e-4), name
            assert found[-1] < 0.7 * found[0], name
        files = {file.name for file in (tmp_path / "unsloth" / "full" / "out").iterdir()}
        assert {"model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"} <= files
        # QLoRA starts from other weights: those that 4 bit can say
        assert losses(tmp_path / "plain" / "qlora")[0] != losses(tmp_path / "plain" / "lora")[0]


class TestWorlds:
    def test_two_processes_that_are_killed_go_on_with_the_same_curve(
        self, tiny: Path, tmp_path: Path
    ) -> None:
        """Dropout, accumulation and order of the rows included; through Unsloth, on a CPU."""
        more = {
            **{"unsloth": True, "optim": "adamw_torch_fused", "ddp_backend": "gloo", "lora_dropout": 0.1},
            **{"save_strategy": "steps", "save_steps": 3, "gradient_accumulation_steps": 2},
        }
        whole, again = tmp_path / "whole", tmp_path / "again"
        whole.mkdir()
        again.mkdir()
        separate([words(tiny, whole, **more)], tmp_path, processes=2)
        assert (whole / "out" / "checkpoint-3" / "complete.json").is_file()
        resumed = {"LAUNCH_RESUME": str(whole / "out" / "checkpoint-3")}
        separate([words(tiny, again, **more)], tmp_path, processes=2, **resumed)
        assert losses(again) == losses(whole)[3:]
        found = [json.loads(line) for line in (again / "metrics.jsonl").read_text().splitlines()]
        begun = [event for event in found if event["event"] == "begin"]
        assert [(event["world_size"], event["step"]) for event in begun] == [(2, 3), (2, 3)]
        tokens = [event["num_tokens"] for event in found if "num_tokens" in event]
        first = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
        assert tokens == [event["num_tokens"] for event in first if "num_tokens" in event][3:]
