"""The recipe on real rows, in the container and in the embedded environment."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.conftest import Launch, result_of, start_launch, wait_for_log

SMALL = ("--passage-max-len", "128", "--query-max-len", "64", "--num-train-epochs", "1")


#: train_loss by (distillation, processes), filled by whichever engine comes first.
_LOSSES: dict[tuple[bool, int], float] = {}


@pytest.mark.environment
@pytest.mark.shared_data
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("distillation", [False, True])
def test_real_rows(
    launch: Launch,
    workspace: Path,
    rows: Path,
    tiny_model: Path,
    on: tuple[str, ...],
    processes: int,
    distillation: bool,
) -> None:
    done = launch(
        *("run", "bge-m3-unified", *on, "--data", rows, "--model", tiny_model, "--nproc", processes),
        *("--knowledge-distillation", distillation, *SMALL),
    )
    assert done.code == 0, done.err
    result = result_of(workspace)
    assert result["stage"] == "done"
    assert result["world_size"] == processes
    # 10 rows in each of two files; each file drops its last partial batch of 2 x processes
    assert result["steps"] == 2 * (10 // (2 * processes))
    assert [file["rows"] for file in result["data"]] == [10, 10]
    assert result["model"]["weights_sha256"]
    (output,) = (workspace / "runs").glob("*/output")
    assert {"model.safetensors", "sparse_linear.pt", "colbert_linear.pt"} <= {
        f.name for f in output.iterdir()
    }
    # same lock, same data, same seed: the container and the environment train the same model
    loss = _LOSSES.setdefault((distillation, processes), result["final"]["train_loss"])
    assert result["final"]["train_loss"] == pytest.approx(loss, rel=1e-5)


@pytest.mark.environment
@pytest.mark.shared_data
def test_processes_that_train_alone_are_an_error(
    launch: Launch, workspace: Path, rows: Path, tiny_model: Path, environment: Path
) -> None:
    """Without --use_cpu both processes train as rank 0 of a world of one, and exit with code 0."""
    assert launch("recipe", "copy", "bge-m3-unified", workspace / "alone.sh").code == 0
    recipe = workspace / "alone.sh"
    text = recipe.read_text()
    assert "--use_cpu true --ddp_backend gloo" in text
    recipe.write_text(text.replace("args+=(--use_cpu true --ddp_backend gloo)", "true"))
    done = launch(
        *("run", recipe, "--target", "cpu", "--engine", "venv", "--data", rows, "--model", tiny_model),
        *("--nproc", 2, "--negatives-cross-device", "false", *SMALL),
    )
    assert done.code == 80, done.err
    assert "world size 1" in done.err
    assert result_of(workspace)["stage"] == "verify"


@pytest.mark.environment
@pytest.mark.shared_data
def test_a_plan_is_repeated_and_refused_when_its_data_changed(
    launch: Launch, workspace: Path, rows: Path, tiny_model: Path, environment: Path
) -> None:
    data = workspace / "rows.jsonl"
    data.write_bytes((rows / "msmarco.jsonl").read_bytes())
    options = ("--target", "cpu", "--engine", "venv", "--data", data, "--model", tiny_model)
    first = launch("run", "bge-m3-unified", *options, *SMALL, "--max-steps", 2, "--json")
    assert first.code == 0, first.err
    (plan,) = (workspace / "runs").glob("*/plan.json")
    again = launch("run", "--plan", plan, "--json")
    assert again.code == 0, again.err
    assert json.loads(again.out)["final"]["train_loss"] == json.loads(first.out)["final"]["train_loss"]

    data.write_bytes((rows / "nq.jsonl").read_bytes())
    refused = launch("run", "--plan", plan)
    assert refused.code == 82
    assert "rows.jsonl has changed" in refused.err


@pytest.mark.environment
@pytest.mark.shared_data
def test_bad_rows_are_found_before_anything_starts(
    launch: Launch, workspace: Path, tiny_model: Path, environment: Path
) -> None:
    data = workspace / "bad.jsonl"
    good = {"query": "q", "pos": ["p"], "neg": ["n"]}
    rows = [
        good,
        {**good, "pos": "p"},
        {**good, "neg": []},
        {**good, "query": None},
        {**good, "pos_scores": ["1"]},
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = launch(
        *(
            "run",
            "bge-m3-unified",
            "--target",
            "cpu",
            "--engine",
            "venv",
            "--data",
            data,
            "--model",
            tiny_model,
        )
    )
    assert done.code == 67
    for place in (
        "bad.jsonl:2: pos:",
        "bad.jsonl:3: neg:",
        "bad.jsonl:4: query:",
        "bad.jsonl:5: pos_scores[0]:",
    ):
        assert place in done.err
    assert not (workspace / "runs").exists()


@pytest.mark.environment
def test_what_the_recipe_leaves_behind_ends_with_it(
    launch: Launch, workspace: Path, probe: Callable[[str], Path], environment: Path
) -> None:
    """It holds the output open: without an end for it, the launcher would wait for as long as it lives."""
    recipe = probe("sleep 300 & echo child=$!; exit 3")
    assert launch("run", recipe, "--target", "cpu", "--engine", "venv", timeout=60).code == 3
    (log,) = (workspace / "runs").glob("*/log.txt")
    child = log.read_text().split("child=")[1].split()[0]
    status = Path("/proc", child, "status")
    assert not status.exists() or "State:\tZ" in status.read_text()


@pytest.mark.environment
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_whole_process_group(
    workspace: Path, probe: Callable[[str], Path], environment: Path, number: signal.Signals
) -> None:
    recipe = probe("sleep 301 & echo child=$!; echo ready; exec sleep 300")
    started = start_launch(workspace, "run", recipe, "--target", "cpu", "--engine", "venv")
    log = wait_for_log(workspace, "ready")
    started.send_signal(number)
    assert started.wait(15) == 128 + number
    child = log.split("child=")[1].split()[0]
    status = Path("/proc", child, "status")  # a zombie is dead too: not every PID 1 reaps
    assert not status.exists() or "State:\tZ" in status.read_text()
    assert result_of(workspace)["error"] == f"stopped by {number.name}"
