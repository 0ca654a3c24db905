"""Trainings that are killed and go on: what comes out is what the uninterrupted training gives."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Launch, start_launch

SMALL = ("--passage-max-len", "128", "--query-max-len", "64", "--num-train-epochs", "2", "--save-steps", "3")

#: When the training is killed: behind a checkpoint, before its end, and in the second epoch.
KILLED_AT = 14


def curve(run: Path) -> dict[int, float]:
    """The loss of every step, as the last attempt that did it has it."""
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {event["step"]: event["loss"] for event in events if event["event"] == "step" and "loss" in event}


def weights(run: Path) -> dict[str, str]:
    """sha256 of what the training wrote in the end."""
    files = sorted(file for file in (run / "output").iterdir() if file.suffix in (".safetensors", ".pt"))
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def wait_for_step(run: Path, step: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if (run / "metrics.jsonl").exists() and max(curve(run), default=0) >= step:
            return
        assert not (run / "result.json").exists(), (run / "log.txt").read_text()
        time.sleep(0.02)
    raise AssertionError(f"step {step} never came")


def kill_the_trainer(run: Path) -> None:
    """SIGKILL, as the kernel's out-of-memory killer sends it, to every process that trains."""
    mark = f"LAUNCH_RUN_ID={run.name}".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment, command = (entry / "environ").read_bytes(), (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if mark in environment.split(b"\0") and b"-m\0runtime\0" in command and b"torchrun" not in command:
            os.kill(int(entry.name), signal.SIGKILL)


def the_run(workspace: Path, known: set[str]) -> Path:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for plan in (workspace / "runs").glob("*/plan.json"):
            if plan.parent.name not in known:
                return plan.parent
        time.sleep(0.05)
    raise AssertionError("no run began")


def result(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "result.json").read_text()))


@pytest.mark.environment
@pytest.mark.shared_data
@pytest.mark.parametrize("recipe", ["bge-m3-unified", "bge-reranker"])
def test_a_killed_training_starts_again_by_itself_and_is_the_same(
    launch: Launch, workspace: Path, rows: Path, tiny_model: Path, environment: Path, recipe: str
) -> None:
    given = ("run", recipe, "--target", "cpu", "--engine", "venv", "--data", rows, "--model", tiny_model)
    assert launch(*given, *SMALL).code == 0
    (whole,) = (workspace / "runs").iterdir()

    launcher = start_launch(workspace, *given, *SMALL, "--max-restarts", 1)
    run = the_run(workspace, {whole.name})
    wait_for_step(run, KILLED_AT)
    kill_the_trainer(run)
    assert launcher.wait(180) == 0, (run / "log.txt").read_text()

    first, second = result(run)["attempts"]
    assert first["cause"] == "a process of the training was killed by somebody"
    assert second["checkpoint"] == "checkpoint-12"
    assert curve(run) == curve(whole)
    assert weights(run) == weights(whole)
    assert result(run)["steps"] == result(whole)["steps"]


@pytest.mark.engine
@pytest.mark.environment
@pytest.mark.shared_data
def test_a_container_whose_newest_checkpoint_is_damaged_is_resumed_from_the_one_before(
    launch: Launch, workspace: Path, rows: Path, tiny_model: Path, image: str, engine: Any
) -> None:
    given = ("run", "bge-m3-unified", "--target", "cpu", "--engine", "docker", "--data", rows)
    given = (*given, "--model", tiny_model, *SMALL, "--nproc", 2)
    assert launch(*given).code == 0
    (whole,) = (workspace / "runs").iterdir()

    launcher = start_launch(workspace, *given)
    run = the_run(workspace, {whole.name})
    wait_for_step(run, 7)
    launcher.kill()
    engine.containers.get(f"launch-{run.name}").kill()
    listed = json.loads(launch("runs", "list", "--json").out)["runs"]
    assert [(one["run"], one["state"]) for one in listed] == [(whole.name, "done"), (run.name, "failed")]
    left = engine.containers.list(all=True, filters={"label": f"launch.run={run.name}"}, ignore_removed=True)
    assert not left

    file = run / "output" / "checkpoint-6" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    done = launch("runs", "resume", run.name)
    assert done.code == 0, done.err
    assert "checkpoint-6 is not complete (model.safetensors is damaged" in done.err
    assert (run / "output" / "incomplete-1-checkpoint-6").is_dir()
    assert result(run)["attempts"][1]["checkpoint"] == "checkpoint-3"
    assert curve(run) == pytest.approx(curve(whole), rel=1e-5)


@pytest.mark.environment
def test_what_does_not_train_and_what_is_done_are_not_resumed(
    launch: Launch, workspace: Path, probe: Any, environment: Path
) -> None:
    assert launch("run", probe("exit 3"), "--target", "cpu", "--engine", "venv").code == 3
    refused = launch("runs", "resume", "last")
    assert refused.code == 64
    assert "does not train" in refused.err


@pytest.mark.environment
def test_detached_runs_from_another_terminal(
    launch: Launch, workspace: Path, probe: Any, environment: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Another folder, another process: the run is known by its id, its log is followed, its code returned."""
    body = "for n in 1 2 3 4 5 6; do echo line $n; sleep 0.3; done; exit 7"
    done = launch("run", probe(body), "--target", "cpu", "--engine", "venv", "--detach")
    run = Path(done.out.strip())
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    def there(*arguments: str) -> "subprocess.CompletedProcess[str]":
        program = [sys.executable, "-m", "launcher", "runs", *arguments]
        return subprocess.run(program, cwd=elsewhere, capture_output=True, text=True, timeout=60)

    assert run.name in there("list", "--all").stdout
    assert there("logs", "-f", run.name).stdout.splitlines() == [f"line {n}" for n in range(1, 7)]
    assert there("attach", run.name).returncode == 7
    assert there("rm", "--yes", run.name).returncode == 0
    assert not run.exists()
