"""launch doctor: probes at once, lines from whatever they find, and what a start asks beforehand."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from launcher import host, manifest, settings
from launcher.app import doctor, examination, preflight, probes
from launcher.app.examination import Devices, Examination, Seen
from launcher.app.probes import Broken
from launcher.cli.doctor import command
from launcher.cuda import Gpu, Nvidia
from launcher.diagnosis.catalogue import CHECKS
from launcher.diagnosis.facts import Answer, ImageFacts, Limits, Memory, ModelFacts, NetworkSettings
from launcher.diagnosis.lines import Line, ok
from launcher.errors import CheckError, DeviceError, EngineError, UsageError
from launcher.host import Host
from launcher.image import engine as asking
from tests.unit.conftest import Bench
from tests.unit.test_diagnosis import disk, docker, processor

MACHINE = Host(cpus=8, memory=64 << 30, nvidia=0, intel=0, render_groups=(), kernel="6.14.0")


# ---------------------------------------------------------------------------------------------- probes
def test_probes_run_at_once() -> None:
    begin = time.monotonic()
    found = probes.gather({str(n): lambda n=n: time.sleep(0.1) or n for n in range(20)}, patience=2)
    assert time.monotonic() - begin < 1
    assert list(found.values()) == list(range(20))


def test_what_breaks_or_hangs_is_a_result() -> None:
    def breaks() -> object:
        raise ValueError("wrong\nsecond line")

    begin = time.monotonic()
    found = probes.gather(
        {"fine": lambda: 1, "breaks": breaks, "hangs": lambda: time.sleep(1), "empty": lambda: None},
        patience=0.2,
    )
    assert time.monotonic() - begin < 0.8
    assert (found["fine"], found["empty"]) == (1, None)
    assert found["breaks"] == Broken(why="ValueError")
    assert found["hangs"] == Broken(why="no answer within 0.2 s")
    assert probes.gather({}, patience=1) == {}


# --------------------------------------------------------------------------------------- the whole of it
def locked(versions: Mapping[str, str]) -> Any:
    packages = [SimpleNamespace(name=name, version=version) for name, version in versions.items()]
    return SimpleNamespace(packages=packages)


def healthy(target: str = "cpu", machine: Host = MACHINE, **facts: Any) -> Examination:
    """An examination of a machine where all is well, unless it is given otherwise."""
    there = Answer(host="there", reached=True, seconds=0.1, ahead=0.5)
    usual = {
        "lock": locked({"torch": "2.13.0", "transformers": "4.57.6"}),
        "environment": False,
        "cpu": processor("avx2", "avx512f", "avx512_bf16"),
        "memory": Memory(total=64 << 30, available=60 << 30),
        "shm": disk(32 << 30),
        "limits": Limits(nofile=1 << 20, memlock=None, stack=8 << 20),
        "output": disk(10**11),
        "cache": disk(10**11),
        "models": disk(10**11),
        "token": None,
        "devices": Devices(host=machine, gpus="", refused=None, health=()),
        "engine": Seen(
            engine=docker(disks=(disk(10**11),)), image=ImageFacts(reference="finetune:x", built=True)
        ),
        "model": ModelFacts(name="a/b", present=True, complete=True, size=10**9),
        "hub": there,
        "packages": there,
        "images": there,
    }
    return Examination(
        target=manifest.shipped().target(target),
        chosen=settings.load({}),
        settings=NetworkSettings(),
        facts={**usual, **facts},
    )


def lines(seen: Examination) -> dict[str, Line]:
    return {line.name: line for line in doctor.found_in(seen, "because", "6.14.0")}


def wrong(seen: Examination) -> dict[str, str]:
    return {line.name: line.status for line in lines(seen).values() if line.status not in ("ok", "skipped")}


def test_a_healthy_machine() -> None:
    found = lines(healthy())
    assert found.keys() == CHECKS.keys()
    assert wrong(healthy()) == {}
    assert found["target"].found == "cpu: because"
    assert found["network.images"].found == "the image is here"
    doctor.judge(list(found.values()))


@pytest.mark.parametrize("name", healthy().facts)
def test_one_broken_probe_is_its_own_lines(name: str) -> None:
    found = lines(healthy(**{name: Broken(why="OSError: gone")}))
    assert found.keys() == CHECKS.keys()
    troubled = [line for line in found.values() if line.found == "OSError: gone" or "gone" in line.found]
    assert troubled or name == "images", "the image is here, so nobody asks"
    assert all(line.status == "warning" for line in troubled)


@pytest.mark.parametrize("name", [each for each in healthy().facts if each not in ("token", "model", "shm")])
def test_a_judge_that_breaks_is_a_line(name: str) -> None:
    """Facts of a shape that nobody expects."""
    found = lines(healthy(**{name: object()}))
    assert found.keys() == CHECKS.keys()
    assert wrong(healthy(**{name: object()})) or name in ("environment", "images", "hub", "packages")


def test_without_an_engine() -> None:
    error = EngineError("no container engine answers", why="not running", hint="start it")
    found = lines(healthy(engine=error))
    assert (found["engine"].status, found["engine"].fix) == ("warning", "start it")
    assert found["image"].status == found["engine.disk"].status == "skipped"
    assert found["environment"].status == "warning"
    assert found["shm"].found == "34.4 GB free of 1 TB"
    assert wrong(healthy(engine=error, environment=True)) == {"engine": "warning"}


def test_an_image_that_is_missing() -> None:
    missing = Seen(
        engine=docker(disks=(disk(10**9),), builder="", missing="docker buildx is missing"),
        image=ImageFacts(reference="finetune:cpu-1", built=False),
    )
    nobody = Answer(host="registry", reached=False, why="refused")
    assert wrong(healthy(engine=missing, images=nobody)) == {
        "engine.builder": "failed",
        "engine.disk": "failed",
        "image": "failed",
        "network.images": "warning",
    }


def test_offline_machines_pass_with_everything_here() -> None:
    gone = Answer(host="hub", reached=False, why="its name does not resolve")
    seen = healthy(hub=gone, packages=Broken(why="no answer within 2 s"))
    assert wrong(seen) == {"network.hub": "warning", "network.packages": "warning"}
    absent = ModelFacts(name="a/b", present=False)
    assert wrong(healthy(hub=gone, model=absent)) == {"network.hub": "warning", "model": "failed"}


def test_the_hub_says_how_large_a_model_is() -> None:
    absent = ModelFacts(name="a/b", present=False)
    full = healthy(model=absent, models=disk(10**9), **{"model.size": 5 * 10**9})
    assert wrong(full)["disk.models"] == "failed"
    assert "5 GB" in lines(full)["model"].found


def test_libraries_that_break_each_other() -> None:
    found = lines(healthy(lock=locked({"flagembedding": "1.4.2", "transformers": "5.0.0"})))
    assert found["libraries"].status == "failed"
    assert "launch image lock cpu" in found["libraries"].fix


def test_nvidia() -> None:
    gpu = Gpu(index=0, name="Card", uuid="GPU-0", memory=80 << 30, capability=(7, 5))
    machine = Host(
        cpus=8,
        memory=64 << 30,
        nvidia=1,
        intel=0,
        render_groups=(),
        kernel="6.1",
        cards=Nvidia(driver="470.1.2", gpus=(gpu,)),
    )
    devices = Devices(host=machine, gpus="all", refused=None, health=Broken(why="NVML: gone"))
    engine = Seen(
        engine=docker(gives_gpus=False, rootless=True), image=ImageFacts(reference="finetune:x", built=True)
    )
    seen = healthy("cuda", devices=devices, engine=engine, lock=locked({"flash-attn": "2.8.3"}))
    found = lines(seen)
    assert wrong(seen) == {
        "engine.rootless": "warning",
        "nvidia.driver": "failed",
        "nvidia.runtime": "failed",
        "nvidia.capability": "warning",
        "nvidia.ecc": "warning",
        "nvidia.memory": "warning",
    }
    assert "flash-attn" in found["nvidia.capability"].found
    assert found["intel.cards"].status == "skipped"


def test_a_target_without_its_device() -> None:
    refused = DeviceError("the target cuda needs an accelerator", hint="--target cpu")
    found = lines(healthy("cuda", devices=Devices(host=MACHINE, gpus="all", refused=refused, health=())))
    assert (found["target"].status, found["target"].fix) == ("failed", "--target cpu")
    assert found["nvidia.driver"].found == "no GPU of NVIDIA here"


def test_failures_are_an_error() -> None:
    bad = Line(name="image", status="failed", found="it is not here", means="m", fix="launch image build cpu")
    with pytest.raises(CheckError) as caught:
        doctor.judge([ok("cpu", "fine"), bad])
    assert caught.value.problems == ("image: it is not here",)
    assert caught.value.hint == "launch image build cpu"
    doctor.judge([ok("cpu", "fine")])


# ---------------------------------------------------------------------------------------- the examination
@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Callable[[Host], None]:
    """A machine without an engine and a network; ``alone(host)`` says what it is."""
    gone = Answer(host="gone", reached=False, why="refused")
    monkeypatch.setattr(examination, "_LIBRARIES", ())  # one of them opens a socket when it is imported
    for name in ("hub", "packages"):
        monkeypatch.setattr(examination.network, name, lambda **_: gone)
    monkeypatch.setattr(examination.network, "server", lambda url, **_: gone)
    monkeypatch.setattr(examination.model, "size_on_hub", lambda name, patience: 0)
    monkeypatch.setattr(examination, "engine", lambda *_: EngineError("no container engine answers"))
    return lambda machine: monkeypatch.setattr(host, "facts", lambda: machine)


def examine(**asked: Any) -> doctor.Report:
    given = {"target": None, "recipe_name": None, "model_name": None, **asked}
    return doctor.examine(**given, chosen=settings.load())


def test_auto_is_what_a_run_would_pick(alone: Callable[[Host], None]) -> None:
    alone(MACHINE)
    report = examine()
    assert (report.target, report.why, report.engine) == (
        "cpu",
        "no NVIDIA or discrete Intel GPU was found",
        "venv",
    )
    assert [line.name for line in report.lines] == list(CHECKS)
    alone(Host(cpus=8, memory=64 << 30, nvidia=2, intel=1, render_groups=(), kernel="6.14"))
    assert examine().target == "cuda"
    assert examine(target="xpu").target == "xpu"
    with pytest.raises(UsageError):
        examine(target="tpu")


def test_a_recipe_brings_its_model(alone: Callable[[Host], None]) -> None:
    alone(MACHINE)
    found = {line.name: line for line in examine(recipe_name="bge-m3-unified").lines}
    assert "BAAI/bge-m3" in found["model"].found
    assert found["model"].status == "failed", "it is not here, and the hub is not reached"


def test_a_model_folder(alone: Callable[[Host], None], tmp_path: Path) -> None:
    alone(MACHINE)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"0" * 5000)
    found = {line.name: line for line in examine(model_name=str(tmp_path)).lines}
    assert (found["model"].status, "5 kB" in found["model"].found) == ("ok", True)
    missing = {line.name: line for line in examine(model_name=str(tmp_path / "none")).lines}
    assert missing["model"].status == "failed"


def test_a_machine_that_cannot_be_read(
    alone: Callable[[Host], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed() -> Host:
        raise PermissionError("/dev/dri")

    alone(MACHINE)
    monkeypatch.setattr(host, "facts", closed)
    report = examine()
    assert report.target == "cpu"
    assert "could not be counted (PermissionError: /dev/dri)" in report.lines[0].found


def test_offline_settings_keep_everybody_from_being_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("UV_OFFLINE", "true")
    monkeypatch.setenv("LAUNCH_ENGINE", "venv")
    target, chosen = manifest.shipped().target("cuda"), settings.load()
    asked = examination._servers(
        target, chosen, examination.reading.settings(dict(examination.os.environ)), "a/b"
    )
    assert not {"hub", "model.size", "packages", "images"} & asked.keys()


@pytest.mark.parametrize(
    ("base", "url"),
    [
        (None, "https://registry-1.docker.io/v2/"),
        ("mirror.example:5000/library/debian:12", "https://mirror.example:5000/v2/"),
        ("localhost/base", "https://localhost/v2/"),
        ("finetune-base:bookworm", ""),
        ("team/base:1", ""),
    ],
)
def test_registries(base: str | None, url: str) -> None:
    variables = {"LAUNCH_BASE": base} if base else {}
    assert examination.registry(manifest.shipped().target("cpu"), settings.load(variables)) == url


def test_places_of_wheels_until_they_are_here() -> None:
    target, chosen = manifest.shipped().target("cuda"), settings.load({})
    assert list(examination.places(target, chosen)) == ["github.com"]
    without = settings.load({"LAUNCH_WITHOUT": "flash-attn"})
    assert examination.places(target, without) == {}


# ---------------------------------------------------------------------------------------- the engine's facts
#: Parts of what ``docker info`` says of three engines.
OVERLAY2 = {
    "ServerVersion": "27.5.1",
    "Driver": "overlay2",
    "DriverStatus": [["Backing Filesystem", "extfs"], ["Supports d_type", "true"]],
    "SecurityOptions": ["name=apparmor", "name=seccomp,profile=builtin", "name=cgroupns"],
    "Runtimes": {"runc": {}, "nvidia": {"path": "nvidia-container-runtime"}},
}
CONTAINERD = {
    "ServerVersion": "29.0.1",
    "Driver": "overlayfs",
    "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]],
    "SecurityOptions": ["name=seccomp,profile=builtin"],
    "Runtimes": {"runc": {}},
}
ROOTLESS = {
    "ServerVersion": "28.2.2",
    "Driver": "fuse-overlayfs",
    "DriverStatus": None,
    "SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless", "name=cgroupns"],
    "Runtimes": None,
}


@pytest.mark.parametrize(
    ("info", "driver", "containerd", "rootless", "gives"),
    [
        (OVERLAY2, "overlay2", False, False, True),
        (CONTAINERD, "overlayfs", True, False, False),
        (ROOTLESS, "fuse-overlayfs", False, True, False),
        ({}, "unknown", False, False, False),
    ],
)
def test_engines(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    info: dict[str, Any],
    driver: str,
    containerd: bool,
    rootless: bool,
    gives: bool,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(asking.refusals, "_SYSTEM_PATH", str(tmp_path))
    monkeypatch.setattr(
        asking.process, "run", lambda *_, **__: SimpleNamespace(stdout="g/buildx v0.24.0 d0e\n")
    )
    client: Any = SimpleNamespace(
        info=lambda: {**info, "DockerRootDir": str(tmp_path)},
        version=dict,
        api=SimpleNamespace(base_url="http+docker://localhost"),
    )
    found = asking.facts(client, patience=1)
    assert (found.driver, found.containerd, found.rootless) == (driver, containerd, rootless)
    assert (found.gives_gpus, found.builder) == (gives, "buildx v0.24.0")
    assert tmp_path in [each.path for each in found.disks]
    client.api.base_url = "https://far.example:2376"
    assert asking.facts(client, patience=1).disks == ()


def test_images_on_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    there = SimpleNamespace(reference="finetune:cpu-1", size=5, left_out=("flash-attn",))
    inside: Any = SimpleNamespace(reference="finetune:cpu-2", target=SimpleNamespace(name="cpu"))
    asked = []

    def find(client: Any, reference: str) -> Any:
        asked.append(reference)
        return client

    monkeypatch.setattr(asking.inspect, "find_for", lambda client, _: client)
    monkeypatch.setattr(asking.inspect, "find", find)
    have: Any = there
    assert asking.image(have, inside) == ImageFacts(
        reference="finetune:cpu-1", built=True, size=5, left_out=("flash-attn",)
    )
    none: Any = None
    assert asking.image(none, inside) == ImageFacts(reference="finetune:cpu-2", built=False)
    monkeypatch.setattr(asking.inspect, "find", lambda *_: there)
    assert asking.image(none, inside).other
    assert asked == [asking.dockerfile.alias("cpu")]


# ------------------------------------------------------------------------------------ before a start
def test_preflight_is_local_and_quick(bench: Bench) -> None:
    planned = bench.plan(target="cpu", data=(bench.data(),), model=str(bench.model()))
    preflight.preflight(planned)
    begin = time.perf_counter()
    found = preflight.preflight(planned)
    assert time.perf_counter() - begin < 0.05
    assert [line.name for line in found] == ["disk.output", "memory", "shm", *preflight.LIMITS, "clock"]


def test_preflight_raises_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = bench.plan(target="cpu", data=(bench.data(),), model=str(bench.model()))

    def broken(*_: object) -> Any:
        raise OSError("closed")

    for module, name in (
        (preflight.memory, "facts"),
        (preflight.memory, "disk"),
        (preflight.limits, "facts"),
    ):
        monkeypatch.setattr(module, name, broken)
    found = {line.name: line for line in preflight.preflight(planned)}
    assert found["memory"].found == found["disk.output"].found == "OSError: closed"
    assert len(found) == 7


# ------------------------------------------------------------------------------------ the command line
def test_the_command_prints_and_fails(alone: Callable[[Host], None]) -> None:
    alone(MACHINE)
    done = CliRunner().invoke(command, ["--json", "--target", "cuda"])
    result = json.loads(done.stdout)
    assert result["schema"] == 1
    assert [line["name"] for line in result["lines"]] == list(CHECKS)
    assert sum(result["counts"].values()) == len(CHECKS)
    assert isinstance(done.exception, CheckError)
    table = CliRunner().invoke(command, ["--target", "cuda"])
    assert isinstance(table.exception, CheckError)
    for name in CHECKS:
        assert name in table.stdout
