"""The built wheel, in an empty environment and an empty folder: nothing of the checkout is needed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from uv import find_uv_bin

from launcher import settings
from tests.integration.conftest import ROOT


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment that holds the wheel and what it needs."""
    folder = tmp_path_factory.mktemp("wheel")
    uv = find_uv_bin()
    indexes = settings.indexes()

    def run(*arguments: str) -> None:
        env = {**os.environ, **indexes.uv_environment()}
        done = subprocess.run([uv, *arguments], capture_output=True, text=True, cwd=folder, env=env)
        assert done.returncode == 0, done.stderr

    run("build", "--quiet", "--wheel", "--out-dir", str(folder), *indexes.uv_arguments(), str(ROOT))
    (wheel,) = folder.glob("*.whl")
    run("venv", "--quiet", "--python", sys.executable, "env")
    run("pip", "install", "--quiet", "--python", "env", *indexes.uv_arguments(), str(wheel))
    return folder / "env" / "bin"


def _run(installed: Path, cwd: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a program of the wheel, without an engine: what an engine already holds would change answers."""
    env = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    env["DOCKER_HOST"] = f"unix://{cwd}/no-engine.sock"
    return subprocess.run(
        [str(installed / arguments[0]), *arguments[1:]], cwd=cwd, env=env, capture_output=True, text=True
    )


def test_nothing_else_lands_in_site_packages(installed: Path) -> None:
    (record,) = installed.parent.glob("lib/python*/site-packages/finetune_launch-*.dist-info/RECORD")
    tops = {line.split(",")[0].split("/")[0] for line in record.read_text().splitlines()}
    assert tops <= {"launcher", record.parent.name, ".."}, tops


@pytest.mark.parametrize("target", ["cpu", "cuda", "cuda-vllm", "xpu"])
def test_dry_run_from_an_empty_folder(installed: Path, tmp_path: Path, target: str) -> None:
    done = _run(
        installed,
        tmp_path,
        *("launch", "run", "recipes/bge-m3-unified.sh", "--target", target, "--engine", "docker"),
        *("--dry-run", "--json"),
    )
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)["plan"]
    assert plan["target"] == target
    assert plan["image"].startswith(f"finetune:{target}-")
    assert "_assets" in plan["recipe_path"]
    assert list(tmp_path.iterdir()) == []


def test_entry_points(installed: Path, tmp_path: Path) -> None:
    version = _run(installed, tmp_path, "launch", "--version")
    assert version.stdout.startswith("launch, version ")
    module = _run(installed, tmp_path, "python", "-m", "launcher", "--version")
    assert module.stdout == version.stdout
    for shell in ("bash", "zsh", "fish"):
        assert "LAUNCH_COMPLETE" in _run(installed, tmp_path, "launch", "completion", shell).stdout
    names = _run(installed, tmp_path, "launch", "recipe", "list", "--json")
    assert "bge-m3-unified" in [item["name"] for item in json.loads(names.stdout)["recipes"]]


def test_a_checkout_is_asked_for_where_it_is_needed(installed: Path, tmp_path: Path) -> None:
    done = _run(installed, tmp_path, "launch", "image", "lock")
    assert done.returncode == 64
    assert "checkout" in done.stderr
    assert _run(installed, tmp_path, "launch", "image", "lock", "--check").returncode == 0
    assert _run(installed, tmp_path, "launch", "image", "render", "--check").returncode == 0


def test_doctor_needs_no_checkout(installed: Path, tmp_path: Path) -> None:
    done = _run(installed, tmp_path, "launch", "doctor", "--json", "--target", "cpu")
    lines = {line["name"]: line for line in json.loads(done.stdout)["lines"]}
    assert lines["libraries"]["status"] == "ok"
    assert list(tmp_path.iterdir()) == []
