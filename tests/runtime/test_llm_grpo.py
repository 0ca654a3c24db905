"""recipes/llm/grpo.py with TRL's real trainer: the reward rises, columns arrive, failures say where."""

import importlib.util
import json
import runpy
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import transformers
from runtime import patches, resume

#: Random answers are half letters: whatever writes more of them, earns more.
LETTERS = """
def letters(completions, **_):
    return [sum("a" <= each <= "z" for each in text) / max(1, len(text)) for text in completions]
"""


def tiny_llm() -> ModuleType:
    file = Path(__file__).resolve().parents[1] / "support" / "tiny_llm.py"
    spec = importlib.util.spec_from_file_location("tiny_llm", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of two narrow layers."""
    folder = tmp_path_factory.mktemp("tiny") / "model"
    made = tiny_llm()
    torch.manual_seed(7)
    words = made.tokenizer([row["prompt"] for row in prompts()])
    made.model("llama", len(words), 64, 2, words).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def prompts() -> list[dict[str, Any]]:
    rows = tiny_llm().rows(7)[0]
    return [
        {"prompt": row["messages"][0]["content"], "answer": row["messages"][1]["content"]} for row in rows
    ]


def train(
    folder: Path, model: Path, code: str, rows: list[dict[str, Any]] | None = None, **more: Any
) -> list[dict[str, Any]]:
    """Run the module's main program in this process; returns what the trainer logged."""
    (folder / "rewards.py").write_text(code)
    text = "".join(json.dumps(row) + "\n" for row in rows or prompts())
    (folder / "rows.jsonl").write_text(text)
    switches = {
        "model_name_or_path": model,
        "train_data": folder / "rows.jsonl",
        "output_dir": folder / "out",
        **({"reward_file": folder / "rewards.py"} if code else {}),
        **{"max_seq_length": 72, "max_prompt_length": 64, "max_completion_length": 8},
        **{"lora_r": 16, "lora_alpha": 32, "per_device_train_batch_size": 32, "num_generations": 8},
        **{"max_steps": 2, "learning_rate": 3e-3, "logging_steps": 1, "seed": 3, "beta": 0.0},
        **{"bf16": "false", "gradient_checkpointing": "false", "use_cpu": "true"},
        **{"report_to": "none", "disable_tqdm": "true"},
        **more,
    }
    words = [part for key, value in switches.items() for part in (f"--{key}", str(value))]
    before, sys.argv = sys.argv, ["llm.grpo", *words]
    try:
        runpy.run_module("llm.grpo", run_name="__main__", alter_sys=False)
    finally:
        sys.argv = before
    state = folder / "out" / f"checkpoint-{switches['max_steps']}" / "trainer_state.json"
    return [line for line in json.loads(state.read_text())["log_history"] if "reward" in line]


def test_the_mean_reward_rises(tmp_path: Path, model: Path) -> None:
    logged = train(tmp_path, model, LETTERS, max_steps=40)
    rewards = [line["reward"] for line in logged]
    assert rewards == pytest.approx([line["rewards/letters/mean"] for line in logged], rel=1e-6)
    first, last = sum(rewards[:5]) / 5, sum(rewards[-5:]) / 5
    print(f"mean reward of 160 answers: {first:.3f} at the start, {last:.3f} at the end")
    assert last > first + 0.1
    assert all(0 < line["completions/mean_length"] <= 8 for line in logged)
    assert "kl" not in logged[0]
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["r"] == 16
    weights = tmp_path / "out" / "adapter_model.safetensors"
    assert weights.stat().st_mode & 0o044  # others may read it, as the umask says
    assert (tmp_path / "out" / "chat_template.jinja").is_file()


def test_columns_messages_weights_and_kl(tmp_path: Path, model: Path) -> None:
    code = """
import asyncio

def seen(prompts, completions, answer, level, trainer_state, **_):
    assert prompts[0][-1]["role"] == "user" and completions[0][0]["role"] == "assistant"
    assert len(prompts) == len(answer) == len(level) == (3 if trainer_state is None else 32)
    assert set(map(str, level)) <= {"None", "[1]", "two"}
    return [float(len(each[0]["content"])) for each in completions]

async def waited(completions, **_):
    await asyncio.sleep(0)
    return [1.0 for _ in completions]
"""
    rows = [
        {
            **row,
            "prompt": [{"role": "user", "content": row["prompt"]}],
            "level": [None, [1], "two"][number % 3],
        }
        for number, row in enumerate(prompts())
    ]
    rows[1].pop("level")
    options = {"rewards": "seen,waited:-2,format:0.5", "beta": 0.04, "num_generations": 4}
    logged = train(tmp_path, model, code, rows, **options)
    for line in logged:
        parts = (line[f"rewards/{name}/mean"] for name in ("seen", "waited", "format"))
        assert line["reward"] == pytest.approx(sum(w * p for w, p in zip((1, -2, 0.5), parts, strict=True)))
        assert line["kl"] >= 0
    # TRL's copy of the start is no part of the result or of a checkpoint
    assert not [*(tmp_path / "out").rglob("ref")]


def test_a_resumed_training_is_the_same_to_the_bit(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With TRL's copy of the adapters' start in the checkpoint it would go on from the start's weights."""
    options = {"beta": 0.04, "gradient_accumulation_steps": 2, "max_steps": 4, "save_steps": 2}
    monkeypatch.setattr(transformers.trainer, "DEFAULT_CALLBACKS", [*transformers.trainer.DEFAULT_CALLBACKS])
    applied = patches.apply("llm.grpo", "all")[0]
    (tmp_path / "resumed" / "out").mkdir(parents=True)
    first = train(tmp_path, model, LETTERS, **options)
    shutil.copytree(tmp_path / "out" / "checkpoint-2", tmp_path / "resumed" / "out" / "checkpoint-2")
    monkeypatch.setenv("LAUNCH_RESUME", str(tmp_path / "resumed" / "out" / "checkpoint-2"))
    resume.attach("llm.grpo", applied)
    again = train(tmp_path / "resumed", model, LETTERS, **options)
    names = ("step", "reward", "grad_norm", "kl", "loss")
    assert [[line[name] for name in names] for line in again] == [
        [line[name] for name in names] for line in first
    ]
    files = [folder / "out" / "adapter_model.safetensors" for folder in (tmp_path, tmp_path / "resumed")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_all_weights(tmp_path: Path, model: Path) -> None:
    train(tmp_path, model, LETTERS, method="full", learning_rate=1e-4)
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert not (tmp_path / "out" / "adapter_config.json").exists()


def test_a_model_without_a_chat_template(tmp_path: Path, model: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    for file in model.iterdir():
        if file.name != "chat_template.jinja":
            (base / file.name).write_bytes(file.read_bytes())
    train(tmp_path, base, LETTERS)
    spoken = [{"prompt": [{"role": "user", "content": "x"}]}] * 8
    with pytest.raises(SystemExit, match="no chat template"):
        train(tmp_path, base, "", spoken, rewards="format")


def test_a_failure_in_the_middle_says_where(tmp_path: Path, model: Path) -> None:
    code = """
def picky(completions, answer, trainer_state, **_):
    late = trainer_state is not None and trainer_state.global_step == 1
    by = [0 if late and right == answer[-1] else 1 for right in answer]
    return [len(text) / each for text, each in zip(completions, by)]
"""
    with pytest.raises(
        SystemExit, match=r"reward picky \(.*rewards.py:2\), step 1 stopped: Zero.*prompt 'what"
    ):
        train(tmp_path, model, code, max_steps=5)


@pytest.mark.parametrize(
    ("code", "rows", "more", "message"),
    [
        (LETTERS, None, {"per_device_train_batch_size": 12}, "must be divisible by num_generations"),
        (LETTERS, None, {"max_prompt_length": 3}, "every prompt is longer"),
        (LETTERS, [{"question": "x"}], {}, r"rows.jsonl:1: no prompt"),
        ("def f(completions, **_): return [None]\n", None, {}, "1 numbers for 3 completions"),
        ("", None, {"rewards": "letters"}, "no built-in reward letters"),
        ("", [{"prompt": "x"}] * 8, {}, "no column 'answer'"),
    ],
)
def test_nothing_is_trained(
    tmp_path: Path,
    model: Path,
    code: str,
    rows: list[dict[str, Any]] | None,
    more: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises((SystemExit, ValueError), match=message):
        train(tmp_path, model, code, rows, **more)
    assert not (tmp_path / "out" / "adapter_model.safetensors").exists()


def test_prompts_that_are_too_long_are_left_out(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = prompts()[:20]
    for row in rows[:5]:
        row["prompt"] *= 9
    train(tmp_path, model, LETTERS, rows)
    assert "15 prompts; 5 of more than 64 tokens are left out" in capsys.readouterr().out
