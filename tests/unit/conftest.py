"""Unit tests start no program and open no connection: either raises, unless a test is moved elsewhere.

Every test also gets folders of its own, so that nothing of the user's machine is read or written.
"""

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

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
    """Home, caches, settings and runs below tmp_path; English; none of the caller's LAUNCH_* or pip's."""
    for name in list(os.environ):
        if name.startswith(("LAUNCH_", "PIP_", "UV_", "DOCKER_", "HF_", "LC_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("LANG", "en_US.UTF-8")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home" / name.lower()))
    monkeypatch.setenv("LAUNCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("LAUNCH_RUNS_DIR", str(tmp_path / "runs"))
