"""What Podman is asked for otherwise than Docker, where it is found, and what it is refused for."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from launcher.engines import podman
from launcher.engines.docker import DockerHandle
from launcher.engines.podman import Podman
from launcher.errors import BuildError, DeviceRuntimeError, EngineError
from launcher.image import buildah, client
from launcher.progress import Silent
from tests.unit.test_docker_request import FakeContainer, options, rendered

Golden = Callable[[str, str], None]

VERSION = {"Version": "4.3.1", "Components": [{"Name": "Podman Engine"}, {"Name": "Conmon"}]}
ROOTLESS = Podman(version="4.3.1", rootless=True)


@pytest.mark.parametrize("rootless", [False, True])
@pytest.mark.parametrize("target", ["cpu", "cuda", "xpu"])
def test_golden_request(bench: Any, golden: Golden, target: str, rootless: bool) -> None:
    planned = bench.plan(target=target, gpus=None if target == "cpu" else "0", memory="4g", network="bridge")
    asked = podman.adapted(rendered(planned.plan), Podman(version="5.4.0", rootless=rootless))
    lines = bench.text(asked.printed(), planned).replace(" --", " \\\n    --").splitlines(keepends=True)
    # The variables are those of Docker's container.
    text = "".join(line for line in lines if not line.startswith("    --env")) + "\n"
    golden(f"podman/{target}-{'rootless' if rootless else 'root'}.txt", text)
    assert podman.adapted(asked, Podman(version="5.4.0", rootless=rootless)) == asked


def test_the_sdk_asks_for_what_is_printed(bench: Any) -> None:
    plan = bench.plan(target="cuda", gpus="0,1").plan
    asked = podman.adapted(rendered(plan), replace(ROOTLESS, selinux=True))
    assert options(asked, "--device") == ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]
    assert options(asked, "--gpus") == []
    given = asked.sdk()
    (device,) = given["device_requests"]
    assert (device["Driver"], device["DeviceIDs"]) == ("cdi", ["nvidia.com/gpu=0", "nvidia.com/gpu=1"])
    assert given["devices"] == []
    assert given["security_opt"] == ["no-new-privileges", "label=disable"]
    assert given["pids_limit"] == -1


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"Rootless": True, "CgroupVersion": "1", "MemoryLimit": True}, {"rootless": True, "limits": False}),
        ({"Rootless": True, "CgroupVersion": "2", "MemoryLimit": True}, {"rootless": True, "limits": True}),
        ({"Rootless": True, "CgroupVersion": "2", "MemoryLimit": False}, {"rootless": True, "limits": False}),
        ({"Rootless": False, "CgroupVersion": "1"}, {"rootless": False, "limits": True}),
        ({"SecurityOptions": ["name=rootless", "name=selinux"]}, {"rootless": True, "selinux": True}),
    ],
)
def test_who_answers(info: dict[str, Any], expected: dict[str, bool]) -> None:
    answering: Any = SimpleNamespace(version=lambda: VERSION, info=lambda: info)
    assert podman.found(answering) == Podman(version="4.3.1", **expected)
    answering.version = lambda: {"Version": "28.2.2", "Components": [{"Name": "Engine"}]}
    assert podman.found(answering) is None


def test_what_it_cannot_do_is_refused() -> None:
    podman.refuse(ROOTLESS, memory="1g", nvidia="", given=False)
    with pytest.raises(EngineError, match="cannot limit"):
        podman.refuse(replace(ROOTLESS, limits=False), memory="1g", nvidia="", given=True)
    with pytest.raises(DeviceRuntimeError, match=r"4\.3\.1 gives no NVIDIA GPUs"):
        podman.refuse(ROOTLESS, memory="", nvidia="all", given=True)
    newer = replace(ROOTLESS, version="5.4.0-dev")
    with pytest.raises(DeviceRuntimeError, match="nothing to give"):
        podman.refuse(newer, memory="", nvidia="all", given=False)
    podman.refuse(newer, memory="", nvidia="all", given=True)


@pytest.mark.parametrize(
    ("oom", "limit", "code", "on_podman", "expected"),
    [
        (True, 0, 137, False, True),
        (False, 1, 137, True, True),  # its conmon misses it
        (False, 1, 137, False, False),
        (False, 0, 137, True, False),
        (False, 1, 1, True, False),
    ],
)
def test_out_of_memory(oom: bool, limit: int, code: int, on_podman: bool, expected: bool) -> None:
    container = FakeContainer(code=code, oom=oom)
    container.attrs["HostConfig"] = {"Memory": limit}
    assert DockerHandle(container, on_podman=on_podman).wait().out_of_memory is expected  # type: ignore[arg-type]


def test_its_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there: set[Path] = set()
    monkeypatch.setattr(Path, "is_socket", lambda path: path in there)
    assert client.podman_address({"CONTAINER_HOST": "ssh://far"}) == "ssh://far"
    asked = {"XDG_RUNTIME_DIR": str(tmp_path)}
    assert client.podman_address(asked) == ""
    there.add(Path("/run/podman/podman.sock"))
    assert client.podman_address(asked) == "unix:///run/podman/podman.sock"
    there.add(tmp_path / "podman" / "podman.sock")
    assert client.podman_address(asked) == f"unix://{tmp_path}/podman/podman.sock"


def test_no_socket_says_how_to_start_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "podman_address", lambda _: "")
    with pytest.raises(EngineError, match="Podman does not answer") as caught:
        client.connect("podman")
    assert "systemctl --user start podman.socket" in caught.value.hint


LOG = """\
[1/3] STEP 1/2: FROM debian AS locks
[1/3] STEP 2/2: RUN mkdir /locks
--> 89f06342eca
[3/3] STEP 1/14: FROM debian
[3/3] STEP 3/14: RUN apt-get install python3
Setting up python3
--> Using cache 89f06342eca0
[3/3] STEP 4/14: RUN python3.11 -S /mnt/seal.py /mnt/lock.txt /opt/venv torch;
--> 04291561e7f
[3/3] STEP 5/14: RUN python3.11 -S /mnt/seal.py /mnt/lock.txt /opt/venv trainers;
no space left on device
Error: building at STEP "RUN": exit status 1
"""


def test_the_log_of_a_build() -> None:
    log = buildah.Log(progress=Silent(), task="building")
    for line in LOG.splitlines():
        log.feed(line)
    assert (log.cached, log.run) == (["system packages"], ["layer torch"])
    title, tail = log.failure()
    assert title == "layer trainers"
    assert tail.startswith("no space left on device\nError")


def test_builders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "Dockerfile.in"
    file.write_text("RUN --network=none --mount=type=bind true\n")
    assert buildah.dockerfile(file, "4.5.0", tmp_path) == file
    assert buildah.dockerfile(file, "4.3.1", tmp_path).read_text() == "RUN --mount=type=bind true\n"
    monkeypatch.setattr(buildah.shutil, "which", lambda _: "/usr/bin/podman")
    assert buildah.version(VERSION) == "Podman 4.3.1's own builder"
    with pytest.raises(BuildError, match=r"3\.4\.4 cannot build"):
        buildah.version({"Version": "3.4.4"})
    monkeypatch.setattr(buildah.shutil, "which", lambda _: None)
    with pytest.raises(BuildError, match="podman command is missing") as caught:
        buildah.version(VERSION)
    assert "podman load" in caught.value.hint


def test_an_output_that_podman_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(podman, "_PATIENCE", 0.01)
    closed = threading.Event()

    class Stream:
        def __iter__(self) -> Any:
            yield b"one\n"
            assert closed.wait(10)

        def close(self) -> None:
            closed.set()

    container: Any = SimpleNamespace(
        logs=lambda *, stream, follow: Stream() if follow else [b"one\ntw", b"o\n"], wait=dict
    )
    assert list(podman.followed(container)) == [b"one\n", b"tw", b"o\n"]
