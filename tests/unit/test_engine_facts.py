"""What is found out about a container engine, and what is said when it cannot be used."""

from types import SimpleNamespace
from typing import Any

import pytest

from launcher import process
from launcher.errors import BuildError, EngineError, ProgramError
from launcher.image import build, client

CONTAINERD = [["driver-type", "io.containerd.snapshotter.v1"]]


class FakeClient:
    """Answers the two requests that the probing makes."""

    def __init__(self, version: str, status: list[list[str]] | None) -> None:
        self._version, self._status = version, status

    def version(self) -> dict[str, str]:
        return {"Version": self._version}

    def info(self) -> dict[str, Any]:
        return {"DriverStatus": self._status}


@pytest.fixture(autouse=True)
def buildx(monkeypatch: pytest.MonkeyPatch) -> None:
    """A buildx that is there."""
    said = SimpleNamespace(stdout="github.com/docker/buildx v0.24.0 d0e5e86\n")
    monkeypatch.setattr(process, "run", lambda argv, **_: said)


@pytest.mark.parametrize("version", ["20.10.24", "19.03", "dev"])
def test_an_old_engine_is_refused(version: str) -> None:
    with pytest.raises(BuildError, match=version) as caught:
        build.builder(FakeClient(version, CONTAINERD))  # type: ignore[arg-type]
    assert "23" in caught.value.hint


def test_containerd_makes_reproducible_images() -> None:
    found = build.builder(FakeClient("26.1.5+dfsg1", CONTAINERD))  # type: ignore[arg-type]
    assert found == build.Builder(name="default", unreproducible="")


@pytest.mark.parametrize("status", [None, [["Backing Filesystem", "extfs"]]])
def test_without_containerd_the_reason_is_stated(status: list[list[str]] | None) -> None:
    found = build.builder(FakeClient("28.0.0", status))  # type: ignore[arg-type]
    assert "containerd" in found.unreproducible


@pytest.mark.parametrize(("code", "missing"), [(127, "the docker command"), (1, "docker buildx")])
def test_missing_programs_are_named(code: int, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(argv: list[str], **_: object) -> None:
        raise ProgramError("no", returncode=code)

    monkeypatch.setattr(process, "run", fail)
    with pytest.raises(BuildError, match=missing):
        build.builder(FakeClient("28.0.0", CONTAINERD))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("ConnectionError(PermissionError(13, 'Permission denied'))", "usermod"),
        ("ConnectionError(FileNotFoundError(2, 'No such file or directory'))", "start it"),
        ("ConnectionRefusedError(111, 'Connection refused')", "start it"),
        ("a teapot", "docker version"),
    ],
)
def test_an_unreachable_engine_says_what_to_do(reason: str, said: str) -> None:
    error = client.unreachable(reason)
    assert isinstance(error, EngineError)
    assert said in error.hint
    assert "context default" in error.message


def test_docker_host_beats_the_context(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONTEXT", "far")
    assert client.context_name() == "far"
    monkeypatch.setenv("DOCKER_HOST", "unix:///x.sock")
    assert client.context_name() == "default"


def test_an_unknown_context_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONTEXT", "far")
    with pytest.raises(EngineError, match="'far'"):
        client.connect()
