"""llm-grpo through the launcher: a user's reward file, its changes, its failures, and a resumed training."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from launcher import process
from tests.integration.conftest import Launch

REWARDS = '''"""Half of what random answers hold is letters."""


def letters(completions, answer, **_):
    assert len(answer) == len(completions)
    return [sum("a" <= each <= "z" for each in text) / max(1, len(text)) for text in completions]
'''

#: A second of training, on a model of 160,000 weights.
SMALL = (
    *("--max-prompt-length", "64", "--max-completion-length", "8", "--per-device-train-batch-size", "32"),
    *("--learning-rate", "3e-3", "--logging-steps", "2"),
)


@pytest.fixture(scope="module")
def tiny(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama, and prompts with their answers."""
    folder = tmp_path_factory.mktemp("llm")
    program = Path(__file__).resolve().parents[1] / "support" / "tiny_llm.py"
    python = environment / "bin" / "python"
    process.run([str(python), str(program), str(folder), "--hidden", "64", "--layers", "2"])
    told = [json.loads(line)["messages"] for line in (folder / "train.jsonl").read_text().splitlines()]
    rows = [{"prompt": asked["content"], "answer": answer["content"]} for asked, answer in told]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [event for event in lines if event["event"] == kind]


@pytest.mark.environment
def test_rewards_of_a_file(launch: Launch, workspace: Path, tiny: Path) -> None:
    file = workspace / "rewards.py"
    file.write_text(REWARDS)
    options = (
        "--target",
        "cpu",
        "--engine",
        "venv",
        "--data",
        tiny / "prompts.jsonl",
        "--model",
        tiny / "model",
    )
    options = (*options, *SMALL, "--reward-file", "rewards.py", "--rewards", "letters,format:0.1")

    odd = launch("run", "llm-grpo", *options, "--num-generations", "5")
    assert odd.code == 64
    assert "32 answers cannot be shared out in groups of 5" in odd.err
    file.write_text(REWARDS.replace("answer,", "solution,"))
    unfit = launch("run", "llm-grpo", *options, "--max-steps", "2")
    assert unfit.code == 1
    assert "missing a required argument: 'solution'" in unfit.err
    shutil.rmtree(workspace / "runs")
    file.write_text(REWARDS)

    first = launch("run", "llm-grpo", *options, "--max-steps", "30", "--save-steps", "10", "--json")
    assert first.code == 0, first.err
    (run,) = (workspace / "runs").iterdir()
    (said,) = events(run, "rewards")
    assert [(each["name"], each["weight"]) for each in said["functions"]] == [
        ("letters", 1.0),
        ("format", 0.1),
    ]
    steps = [event for event in events(run, "step") if "reward" in event]
    rewards = [event["rewards/letters/mean"] for event in steps]
    print(f"mean reward of 64 answers: {rewards[0]:.3f} at the start, {rewards[-1]:.3f} at the end")
    assert sum(rewards[-3:]) > sum(rewards[:3]) + 0.2
    assert "reward 0." in first.err
    plan = json.loads((run / "plan.json").read_text())
    ((name, recorded),) = plan["files"]
    assert (name, recorded["path"]) == ("reward_file", str(file))
    assert not (workspace / "__pycache__").exists()

    again = launch("runs", "replay", run.name, "--json")
    assert again.code == 0, again.err
    assert json.loads(again.out)["replay"]["equality"]["equal"], again.out

    failing = REWARDS.replace("answer, **_", "answer, trainer_state, **_").replace(
        "    assert",
        "    late = trainer_state is not None and trainer_state.global_step\n    assert not late and",
    )
    (workspace / "failing.py").write_text(failing)
    stopped = launch("run", "llm-grpo", *options, "--reward-file", "failing.py", "--max-steps", "2")
    assert stopped.code == 1
    assert "step 1 stopped: AssertionError" in stopped.err
    assert "sample 1 of 32: prompt 'what " in stopped.err
    assert "Traceback" not in stopped.err

    file.rename(workspace / "mine.py")
    gone = launch("runs", "replay", run.name)
    assert gone.code == 82
    assert "file: " in gone.err
    assert "--file NAME=PATH" in gone.err
    (workspace / "mine.py").write_text(REWARDS.replace('"z"', '"y"'))
    changed = launch("runs", "replay", run.name, "--file", "reward-file=mine.py")
    assert changed.code == 82
    assert "mine.py of --reward-file has changed" in changed.err
    assert "--allow file" in changed.err
    allowed = launch("runs", "replay", run.name, "--file", "reward-file=mine.py", "--allow", "file", "--json")
    assert allowed.code == 0, allowed.err
    found = json.loads(allowed.out)["replay"]
    assert [each["kind"] for each in found["differences"]] == ["file"]
    assert not found["equality"]["equal"]


@pytest.mark.environment
def test_through_unsloth(launch: Launch, workspace: Path, tiny: Path, on: tuple[str, ...]) -> None:
    """On a CPU Unsloth loads the model and leaves TRL's trainer as it is."""
    (workspace / "rewards.py").write_text(REWARDS)
    options = (*on, "--data", tiny / "prompts.jsonl", "--model", tiny / "model", *SMALL)
    options = (*options, "--reward-file", "rewards.py", "--beta", "0.04")
    done = launch("run", "llm-grpo", *options, "--unsloth", "true", "--max-steps", "4", "--output", "out")
    assert done.code == 0, done.err
    (run,) = (workspace / "runs").iterdir()
    steps = [event for event in events(run, "step") if "reward" in event]
    assert [event["step"] for event in steps] == [2, 4]
    assert all(0.3 < event["rewards/letters/mean"] < 0.8 and event["kl"] >= 0 for event in steps)
    config = json.loads((workspace / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(tiny / "model")
