"""A training of all heads repeated: from its record, after a change, from one file elsewhere; and swept."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Launch

SMALL = ("--passage-max-len", "64", "--query-max-len", "32", "--num-train-epochs", "1", "--max-steps", "3")

WEIGHTS = {"model.safetensors", "sparse_linear.pt", "colbert_linear.pt"}


def repetition(out: str) -> dict[str, Any]:
    return dict(json.loads(out)["replay"])


@pytest.mark.environment
@pytest.mark.shared_data
def test_repeated_refused_allowed_and_exported(
    launch: Launch, workspace: Path, rows: Path, tiny_model: Path, environment: Path
) -> None:
    data, model = workspace / "rows.jsonl", workspace / "start"
    shutil.copyfile(rows / "msmarco.jsonl", data)
    shutil.copytree(tiny_model, model)
    options = ("--target", "cpu", "--engine", "venv", "--data", data.name, "--model", model.name)
    first = launch("run", "bge-m3-unified", *options, *SMALL, "--json")
    assert first.code == 0, first.err
    result = json.loads(first.out)
    assert set(result["outputs"]) == WEIGHTS
    (run,) = (workspace / "runs").iterdir()

    again = launch("runs", "replay", run.name, "--json")
    assert again.code == 0, again.err
    found = repetition(again.out)
    assert (found["replays"], found["differences"], found["unknown"]) == (run.name, [], [])
    assert found["equality"]["equal"], found["equality"]["says"]
    assert found["equality"]["steps"] == 3
    assert {file["name"]: file["now"] for file in found["equality"]["files"]} == result["outputs"]

    exported = launch("runs", "export", run.name, "-o", "run.tar.gz", "--json")
    assert exported.code == 0, exported.err
    once_more = launch("runs", "export", run.name, "-o", "again.tar.gz", "--json")
    assert json.loads(once_more.out)["sha256"] == json.loads(exported.out)["sha256"]

    elsewhere = workspace / "elsewhere"
    elsewhere.mkdir()
    shutil.move(data, elsewhere / "other name.jsonl")
    shutil.copyfile(rows / "nq.jsonl", elsewhere / "decoy.jsonl")
    shutil.move(model, elsewhere / "weights")

    gone = launch("runs", "replay", run.name)
    assert gone.code == 82
    for part in ("rows.jsonl is not on this machine", "start is not on this machine"):
        assert part in gone.err

    (elsewhere / "cache").mkdir()
    (elsewhere / "cache" / "envs").symlink_to(environment.parent)  # what took long, and nothing else
    user = {
        "HOME": str(elsewhere / "home"),
        "LAUNCH_CACHE_DIR": str(elsewhere / "cache"),
        "LAUNCH_RUNS_DIR": str(elsewhere / "records"),
        "XDG_STATE_HOME": str(elsewhere / "state"),
    }
    moved = launch(
        *("runs", "replay", "run.tar.gz", "--data", elsewhere, "--model", elsewhere / "weights", "--json"),
        **user,
    )
    assert moved.code == 0, moved.err
    found = repetition(moved.out)
    assert found["equality"]["equal"], found["equality"]["says"]
    assert {file["name"]: file["now"] for file in found["equality"]["files"]} == result["outputs"]
    (record,) = (elsewhere / "records").iterdir()
    plan = json.loads((record / "plan.json").read_text())
    assert Path(plan["recipe_path"]) == record / "origin" / "source" / "recipes" / "bge-m3-unified.sh"
    assert Path(plan["inputs"][0]).name == "rows.jsonl"

    absent = launch("runs", "replay", "run.tar.gz", "--data", rows / "nq.jsonl", **user)
    assert absent.code == 82
    assert result["data"][0]["sha256"] in absent.err
    assert "10 rows" in absent.err

    shutil.copyfile(rows / "nq.jsonl", data)
    shutil.move(elsewhere / "weights", model)
    refused = launch("runs", "replay", run.name)
    assert refused.code == 82
    assert "rows.jsonl has changed: was" in refused.err
    assert "--allow data" in refused.err
    allowed = launch("runs", "replay", run.name, "--allow", "data", "--json")
    assert allowed.code == 0, allowed.err
    found = repetition(allowed.out)
    assert [each["kind"] for each in found["differences"]] == ["data"]
    assert not found["equality"]["equal"]
    assert found["equality"]["first"] == 1
    # what was refused left nothing
    assert len(list((workspace / "runs").iterdir())) == 3
    assert len(list((elsewhere / "records").iterdir())) == 1


@pytest.mark.environment
@pytest.mark.shared_data
def test_a_sweep_says_what_it_refuses_runs_the_rest_and_is_continued(
    launch: Launch, workspace: Path, rows: Path, tiny_model: Path, environment: Path
) -> None:
    data = workspace / "rows.jsonl"
    shutil.copyfile(rows / "msmarco.jsonl", data)
    options = ("--target", "cpu", "--engine", "venv", "--data", data, "--model", tiny_model)
    small = (*SMALL[:-1], "2")
    swept = launch(
        *("sweep", "bge-m3-unified", *options, *small, "--json"),
        *("--grid", "learning-rate=1e-5,2e-5", "--grid", "precision=fp32,fp16"),
    )
    assert swept.code == 64, swept.err  # that of the refused ones
    assert swept.err.index("fp16 has no effect on a CPU") < swept.err.index("variant 1 of 2")
    found = json.loads(swept.out)
    assert [line["state"] for line in found["variants"]] == ["done", "refused", "done", "refused"]
    assert [line["exit_code"] for line in found["variants"]] == [0, 64, 0, 64]
    runs = [line["run"] for line in found["variants"] if line["run"]]
    assert [run.split("-", 2)[2].rsplit("-", 1)[0] for run in runs] == [
        "bge-m3-unified-1e-05_fp32",
        "bge-m3-unified-2e-05_fp32",
    ]
    for run, rate in zip(runs, ("1e-05", "2e-05"), strict=True):
        plan = json.loads((workspace / "runs" / run / "plan.json").read_text())
        assert dict(plan["parameters"])["learning_rate"] == rate

    shutil.rmtree(workspace / "runs" / runs[1])
    continued = launch("sweep", "--continue", found["sweep"], "--json")
    assert continued.code == 64, continued.err
    lines = json.loads(continued.out)["variants"]
    assert lines[0]["run"] == runs[0]
    assert lines[2]["run"] != runs[1]
    assert lines[2]["train_loss"] == found["variants"][2]["train_loss"]
