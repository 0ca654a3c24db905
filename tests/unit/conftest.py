"""Unit tests start no program and open no connection: either raises, unless a test is moved elsewhere.

Every test also gets folders of its own, so that nothing of the user's machine is read or written.
"""

import json
import os
import socket
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

import launcher
from launcher import host, secretfile, settings
from launcher import plan as plans
from launcher.app import place
from launcher.app import plan as planning
from launcher.app.plan import Planned, Request
from launcher.cli import variables
from launcher.cuda import Nvidia
from launcher.errors import EngineError
from launcher.host import Host
from launcher.plan import GPU_VARIABLES
from launcher.progress import Silent

ROOT = Path(__file__).resolve().parents[2]

_STARTERS = [
    name
    for name in dir(os)
    if name.startswith(("exec", "posix_spawn", "spawn")) or name in ("fork", "forkpty", "system")
]


class ForbiddenInUnitTestsError(BaseException):
    """A program or a connection in a unit test; no ``except Exception`` of the code under test hides it."""


def _forbid(what: str) -> Any:
    def raise_(*args: object, **kwargs: object) -> NoReturn:
        raise ForbiddenInUnitTestsError(
            f"{what} in a unit test: {[a for a in args if not isinstance(a, subprocess.Popen)]}"
        )

    return raise_


@pytest.fixture(autouse=True)
def nothing_starts(monkeypatch: pytest.MonkeyPatch, socket_disabled: None) -> Iterator[None]:
    """No process, no name look-up, no socket (pytest-socket's guard)."""
    monkeypatch.setattr(subprocess.Popen, "__init__", _forbid("subprocess.Popen"))
    for name in _STARTERS:
        if callable(getattr(os, name)):
            monkeypatch.setattr(os, name, _forbid(f"os.{name}"))
    monkeypatch.setattr(socket, "getaddrinfo", _forbid("socket.getaddrinfo"))
    return


@pytest.fixture(autouse=True)
def own_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Home, caches, settings and runs below tmp_path; English; nothing of the caller's own variables."""
    for name in list(os.environ):
        if name.startswith(("LAUNCH_", "PIP_", "UV_", "DOCKER_", "HF_", "LC_")) or name in GPU_VARIABLES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("LANG", "en_US.UTF-8")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home" / name.lower()))
    monkeypatch.setenv("LAUNCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("LAUNCH_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("LAUNCH_SECRETS_DIR", str(tmp_path))
    monkeypatch.setattr(secretfile, "_own", lambda found: True)  # the bench's machine has another user
    monkeypatch.setattr(variables, "_keyring", lambda name: (None, "the keyring"))


@dataclass(frozen=True, slots=True)
class Bench:
    """A made-up machine and checkout, with names that do not depend on where the tests run."""

    folder: Path
    patch: pytest.MonkeyPatch

    def text(self, text: str, planned: Planned) -> str:
        """A text with this machine's paths and digests replaced by stable names."""
        for have, want in (
            (str(self.folder), "/fake"),
            (str(ROOT), "/checkout"),
            (planned.plan.recipe_sha256, "RECIPE-SHA256"),
            (planned.plan.runtime_sha256, "RUNTIME-SHA256"),
        ):
            text = text.replace(have, want)
        return text

    def data(self, name: str = "train.jsonl") -> Path:
        """A data file of four rows with scores: a batch of two for each of two processes."""
        row = {"query": "q", "pos": ["p"], "neg": ["n"], "pos_scores": [1.0], "neg_scores": [0.5]}
        path = self.folder / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{json.dumps(row)}\n" * 4)
        return path

    def model(self) -> Path:
        """A model folder."""
        path = self.folder / "models" / "tiny"
        path.mkdir(parents=True)
        (path / "config.json").write_text("{}")
        (path / "model.safetensors").write_bytes(b"weights")
        return path

    def snapshot(self) -> Path:
        """A model in the hub's cache: links into the entry's blobs."""
        entry = self.folder / "hub" / "models--BAAI--bge-m3"
        path = entry / "snapshots" / ("5" * 40)
        path.mkdir(parents=True)
        (entry / "blobs").mkdir()
        for name, content in (("config.json", "{}"), ("model.safetensors", "weights")):
            (entry / "blobs" / name).write_text(content)
            (path / name).symlink_to(f"../../blobs/{name}")
        return path

    def plan(self, **asked: Any) -> Planned:
        """The plan of a dry run (unless ``dry_run=False``) of the shipped recipe, or of ``recipe``."""
        dry_run = asked.pop("dry_run", True)
        request = Request(**{"recipe": "bge-m3-unified", "engine": "docker", **asked})
        return planning.make(request, settings.load(), dry_run=dry_run, progress=Silent())


def fake_lock(digest: str = "10cc" * 16, left_out: Iterable[str] = ()) -> Any:
    """A lock of made-up content: what is left out shows in its digest."""
    return SimpleNamespace(
        digest=digest,
        left_out=tuple(left_out),
        without=lambda names: fake_lock("0e55" * 16, names) if names else fake_lock(digest, left_out),
        for_environment=lambda: fake_lock(digest, left_out),
    )


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Plans on a machine with two NVIDIA and one Intel GPU, without an engine and without the hub."""
    machine = Host(cpus=8, memory=64 << 30, nvidia=2, intel=1, render_groups=(992,), kernel="6.1.0")

    def no_engine(**_: object) -> NoReturn:
        raise EngineError("no container engine answers (fake)")

    def no_model(name: str, **_: object) -> NoReturn:
        raise LocalEntryNotFoundError(f"{name} is not in the cache")

    monkeypatch.setattr(host, "facts", lambda: machine)
    monkeypatch.setattr(host.nvidia, "facts", Nvidia)
    for name in plans.GPU_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(place.DockerEngine, "connect", lambda self: no_engine())
    monkeypatch.setattr(
        place.inputs,
        "load",
        lambda folder, target, base, without: SimpleNamespace(
            target=target,
            reference=f"finetune:{target.name}-0123456789ab",
            lock=fake_lock().without(without),
        ),
    )
    monkeypatch.setattr(place.lock, "load", lambda folder, target: fake_lock())
    monkeypatch.setattr(
        "launcher.image.environment.folder", lambda locked: tmp_path / "envs" / "0123456789ab"
    )
    monkeypatch.setattr("huggingface_hub.snapshot_download", no_model)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(launcher, "version", lambda: "1.2.3")
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    monkeypatch.setattr(os, "getgid", lambda: 1000)
    return Bench(folder=tmp_path, patch=monkeypatch)
