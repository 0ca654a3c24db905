"""The recipe llm-sft through the launcher: what is refused, what is trained, what a kill does to it."""

import json
from pathlib import Path

import pytest

from launcher import process, recipe
from tests.integration.conftest import Launch, result_of, start_launch
from tests.integration.test_resume import curve, kill_the_trainer, result, the_run, wait_for_step, weights

ROOT = Path(__file__).resolve().parents[2]
SHORT = ("--max-seq-length", 128, "--learning-rate", 3e-3, "--per-device-train-batch-size", 8)


@pytest.fixture(scope="module")
def tiny(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with rows that it can learn."""
    folder = tmp_path_factory.mktemp("tiny")
    made = [str(environment / "bin" / "python"), str(ROOT / "tests" / "support" / "tiny_llm.py"), str(folder)]
    process.run(made, env={"PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"})
    return folder


@pytest.mark.environment
def test_adapters_are_trained_and_their_facts_recorded(
    launch: Launch, workspace: Path, tiny: Path, on: tuple[str, ...]
) -> None:
    given = ("run", "llm-sft", *on, "--data", tiny / "train.jsonl", "--model", tiny / "model", *SHORT)
    done = launch(*given, "--nproc", 2, "--max-steps", 8, "--gradient-accumulation-steps", 1)
    assert done.code == 0, done.err
    found = result_of(workspace)
    assert (found["world_size"], found["steps"]) == (2, 8)
    assert found["final"]["loss"] < 5
    (run,) = (workspace / "runs").iterdir()
    output = run / "output"
    assert json.loads((output / "adapter_config.json").read_text())["r"] == 16
    assert {"adapter_model.safetensors", "tokenizer.json", "chat_template.jinja"} <= {
        file.name for file in output.iterdir()
    }
    log = (run / "log.txt").read_text()
    assert "Unsloth (CPU): LlamaForCausalLM" in log
    assert "576 rows, 17280 tokens, 1152 of them carry loss" in log
    assert not list(workspace.glob("unsloth_compiled_cache"))


@pytest.mark.environment
def test_a_killed_training_goes_on_by_itself_and_is_the_same(
    launch: Launch, workspace: Path, tiny: Path, environment: Path
) -> None:
    given = ("run", "llm-sft", "--target", "cpu", "--engine", "venv", "--data", tiny / "train.jsonl")
    given = (*given, "--model", tiny / "model", *SHORT, "--save-steps", 5, "--max-steps", 60)
    assert launch(*given, "--lora-dropout", 0.1).code == 0
    (whole,) = (workspace / "runs").iterdir()

    launcher = start_launch(workspace, *given, "--lora-dropout", 0.1, "--max-restarts", 1)
    run = the_run(workspace, {whole.name})
    wait_for_step(run, 12)
    kill_the_trainer(run)
    assert launcher.wait(180) == 0, (run / "log.txt").read_text()
    assert len(result(run)["attempts"]) == 2
    assert result(run)["attempts"][1]["checkpoint"].startswith("checkpoint-")
    assert curve(run) == curve(whole)
    assert weights(run) == weights(whole)


@pytest.mark.environment
def test_rows_that_cannot_be_learned_from_are_named(
    launch: Launch, workspace: Path, tiny: Path, environment: Path
) -> None:
    given = ("run", "llm-sft", "--target", "cpu", "--engine", "venv", "--data", tiny / "train.jsonl")
    done = launch(*given, "--model", tiny / "model", "--max-seq-length", 16, "--unsloth", "false")
    assert done.code != 0
    (log,) = (workspace / "runs").glob("*/log.txt")
    assert "train.jsonl:1: no answer is within the first 16 of" in log.read_text()
    assert "raise --max-seq-length" in done.err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--method", "full", "--load-in-4bit", "true"), "weights of 4 bit are frozen"),
        (("--packing", "true"), "Unsloth switches packing off on a CPU"),
        (("--precision", "fp16"), "fp16 has no effect on a CPU"),
        (("--method", "full", "--save-method", "merged_16bit"), "there is nothing to merge"),
        (("--", "--assistant_only_loss", "true"), "--train-on-responses-only"),
    ],
)
def test_refused(
    launch: Launch, workspace: Path, tmp_path: Path, words: tuple[str, ...], reason: str
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "x"}\n')
    done = launch("run", "llm-sft", "--target", "cpu", "--engine", "venv", "--data", rows, *words)
    assert done.code == 64, done.err
    assert reason in " ".join(done.err.split())


FIELDS = """
import dataclasses, json
from llm import options, sft
from trl import SFTConfig
kinds = (options.ModelOptions, sft.SftOptions, SFTConfig)
print(json.dumps([field.name for kind in kinds for field in dataclasses.fields(kind)]))
"""


@pytest.mark.environment
def test_every_parameter_is_one_that_the_locked_libraries_know(environment: Path) -> None:
    done = process.run(
        [str(environment / "bin" / "python"), "-W", "ignore", "-c", FIELDS],
        env={"PYTHONPATH": str(ROOT / "recipes"), "PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1"},
    )
    known = {*json.loads(done.stdout.splitlines()[-1]), "patches"}
    for parameter in recipe.load(ROOT / "recipes" / "llm-sft.sh").parameters:
        spelled = {"r": "lora_r"}.get(parameter.name, parameter.name)
        assert spelled in known, parameter.name
        assert len(parameter.help.zh) > 10
