"""launcher.diagnosis: facts in, lines out."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher import manifest
from launcher.cuda import Gpu, Nvidia
from launcher.diagnosis import engine, gpus, machine, network, storage
from launcher.diagnosis.catalogue import CHECKS
from launcher.diagnosis.facts import (
    Answer,
    Cpu,
    Disk,
    EngineFacts,
    GpuHealth,
    ImageFacts,
    Limits,
    Memory,
    ModelFacts,
    NetworkSettings,
    Token,
)
from launcher.diagnosis.lines import Line, bytes_of, failed, size, warning
from launcher.errors import EngineError
from launcher.intel import Intel
from tests.unit.test_intel import card

GB = 10**9
NOW = 1_795_000_000.0
CPU, CUDA = manifest.shipped().target("cpu"), manifest.shipped().target("cuda")


def disk(free: float, *, writable: bool = True) -> Disk:
    return Disk(path=Path("/data"), free=int(free), total=10**12, writable=writable)


def processor(*flags: str, cores: int = 8, quota: float | None = None) -> Cpu:
    return Cpu(name="A CPU", flags=frozenset(flags), cores=cores, quota=quota)


def docker(**facts: Any) -> EngineFacts:
    usual: dict[str, Any] = {
        "version": "28.2.2",
        "driver": "overlayfs",
        "containerd": True,
        "rootless": False,
        "gives_gpus": True,
        "builder": "buildx v0.24.0",
    }
    return EngineFacts(**{**usual, **facts})


def built(done: bool = True, **facts: Any) -> ImageFacts:
    return ImageFacts(reference="finetune:cpu-0123", built=done, **facts)


# ------------------------------------------------------------------------------------------- the table
@pytest.mark.parametrize("check", CHECKS.values(), ids=lambda check: check.name)
def test_every_check_says_what_to_do(check: Any) -> None:
    assert check.about
    assert bool(check.fix) == bool(check.warning or check.failed) or check.name == "token"
    names = re.findall(r"(?<!\{)\{(\w+)\}", check.fix)
    values = dict.fromkeys(names, "VALUE")
    for make, meaning in ((warning, check.warning), (failed, check.failed)):
        if meaning:
            line = make(check.name, "found", **values)
            assert line.means == meaning
            assert line.fix
            assert "{V" not in line.fix


def allowed(line: Line) -> None:
    """A judge never says what the table does not know."""
    check = CHECKS[line.name]
    assert line.status in ("ok", "skipped") or getattr(check, line.status)
    assert bool(line.means) == (line.status in ("warning", "failed"))
    assert bool(line.fix) == (line.status in ("warning", "failed"))


# ----------------------------------------------------------------------------------------- the machine
@pytest.mark.parametrize(
    ("facts", "trains", "status", "says"),
    [
        (processor("avx2", "avx512f", "amx_bf16"), True, "ok", "AVX2, AVX-512, AMX bf16"),
        (processor("avx2"), True, "ok", "bf16 is computed through float32"),
        (processor("sse2"), True, "warning", "no AVX2"),
        (processor("sse2"), False, "ok", "no AVX2"),
        (processor(), True, "ok", "no AVX2"),  # unknown is no problem
        (processor("avx2", quota=2.5), True, "warning", "8 cores with a quota of 2.5"),
        (processor("avx2", cores=1, quota=4), True, "ok", "1 core,"),
    ],
)
def test_processors(facts: Cpu, trains: bool, status: str, says: str) -> None:
    line = machine.cpu(facts, trains=trains)
    allowed(line)
    assert line.status == status
    assert says in line.found


def test_a_quota_names_its_threads() -> None:
    assert machine.cpu(processor("avx2", quota=0.5), trains=True).fix == "export OMP_NUM_THREADS=1"
    assert machine.cpu(processor("avx2", quota=2.5), trains=True).fix == "export OMP_NUM_THREADS=2"


@pytest.mark.parametrize(
    ("available", "weights", "trains", "status"),
    [
        (8 * GB, 0, True, "ok"),
        (GB // 2, 0, True, "warning"),
        (8 * GB, 2 * GB, True, "warning"),  # four times the weights, and what torch takes
        (10 * GB, 2 * GB, True, "ok"),
        (8 * GB, 2 * GB, False, "ok"),  # the states are on the GPU
    ],
)
def test_memory(available: int, weights: int, trains: bool, status: str) -> None:
    facts = Memory(total=64 * GB, available=available, limit=32 * GB)
    line = machine.memory(facts, weights=weights, trains=trains)
    allowed(line)
    assert line.status == status
    assert "the cgroup allows 32 GB" in line.found


def test_shared_memory() -> None:
    ram = Memory(total=64 << 30, available=60 << 30)

    def judged(facts: Disk | None, *, container: bool = False, wanted: int = 2 << 30) -> Line:
        line = machine.shm(facts, wanted=wanted, container=container, ram=ram)
        allowed(line)
        return line

    assert judged(disk(4 << 30)).status == "ok"
    assert judged(disk(64 << 20)).status == "warning"
    assert judged(disk(64 << 20)).fix == "sudo mount -o remount,size=2g /dev/shm"
    assert judged(None).status == judged(disk(4 << 30, writable=False)).status == "failed"
    assert judged(None, container=True).status == "ok"
    assert judged(None, container=True, wanted=128 << 30).status == "warning"
    # a small machine cannot give what a large target gets, and is not told to
    assert judged(disk(16 << 30), wanted=32 << 30).status == "ok"


def test_limits() -> None:
    few = Limits(nofile=256, memlock=64 << 10, stack=1 << 20)
    lines = machine.limits(few, container=False)
    for line in lines:
        allowed(line)
    assert [line.status for line in lines] == ["warning"] * 3
    inside = machine.limits(few, container=True)
    assert [line.status for line in inside] == ["ok"] * 3
    assert "engine" in inside[0].found
    unlimited = machine.limits(Limits(nofile=None, memlock=None, stack=None), container=False)
    assert [(line.status, line.found) for line in unlimited] == [("ok", "unlimited")] * 3


def said(ahead: float | None) -> Answer:
    return Answer(host="hub", reached=True, ahead=ahead)


@pytest.mark.parametrize(
    ("now", "answers", "status"),
    [
        (0.0, (), "failed"),
        (NOW, (), "ok"),
        (NOW, (said(None),), "ok"),
        (NOW, (said(2.5),), "ok"),
        (NOW, (said(-300),), "warning"),
        (NOW, (said(90_000),), "failed"),
        (NOW, (said(90_000), said(1)), "ok"),  # the other server is wrong
    ],
)
def test_clock(now: float, answers: tuple[Answer, ...], status: str) -> None:
    line = machine.clock(now, answers)
    allowed(line)
    assert line.status == status
    if answers and answers[0].ahead == -300:
        assert line.found == "300 s behind hub"


# ------------------------------------------------------------------------------------ disks and models
@pytest.mark.parametrize(
    ("facts", "weights", "status"),
    [
        (disk(50 * GB), 2 * GB, "ok"),
        (disk(8 * GB), 2 * GB, "warning"),
        (disk(8 * GB), 0, "ok"),
        (disk(GB // 100), 0, "failed"),
        (disk(50 * GB, writable=False), 0, "failed"),
    ],
)
def test_output(facts: Disk, weights: int, status: str) -> None:
    line = storage.output(facts, weights=weights)
    allowed(line)
    assert line.status == status


def test_caches() -> None:
    lines = {
        "ok": [storage.cache(disk(20 * GB), needed=12 * GB), storage.models(disk(20 * GB), None)],
        "warning": [
            storage.cache(disk(10 * GB), needed=12 * GB),
            storage.models(disk(20 * GB, writable=False), None),
            storage.models(disk(2 * GB), ModelFacts(name="a/b", present=False, size=2 * GB)),
        ],
        "failed": [
            storage.cache(disk(20 * GB, writable=False), needed=0),
            storage.models(disk(GB), ModelFacts(name="a/b", present=False, size=2 * GB)),
        ],
    }
    for status, found in lines.items():
        for line in found:
            allowed(line)
            assert line.status == status
    there = ModelFacts(name="a/b", present=True, size=2 * GB)
    assert storage.models(disk(1.5 * GB), there).status == "ok"


@pytest.mark.parametrize(
    ("facts", "reachable", "status"),
    [
        (None, True, "skipped"),
        (ModelFacts(name="a/b", present=True, complete=True, size=GB), False, "ok"),
        (ModelFacts(name="a/b", present=True), True, "warning"),
        (ModelFacts(name="a/b", present=False), True, "warning"),
        (ModelFacts(name="a/b", present=False), False, "failed"),
        (ModelFacts(name="x", present=False, problem="there is no folder", hint="give one"), True, "failed"),
    ],
)
def test_models(facts: ModelFacts | None, reachable: bool, status: str) -> None:
    line = storage.model(facts, reachable=reachable)
    allowed(line)
    assert line.status == status
    if facts and status in ("warning", "failed") and not facts.problem:
        assert "hf download a/b" in line.fix


# ---------------------------------------------------------------------------------------------- engine
def test_no_engine() -> None:
    error = EngineError("no container engine answers", why="not running", hint="start it")
    for wanted, status in ((False, "warning"), (True, "failed")):
        line = engine.engine(error, wanted=wanted)
        allowed(line)
        assert (line.status, line.fix) == (status, "start it")


@pytest.mark.parametrize(
    ("facts", "status", "says"),
    [
        (docker(), "ok", "containerd"),
        (docker(driver="overlay2", containerd=False), "warning", "own image store"),
        (docker(driver="vfs", containerd=False), "warning", "vfs"),
    ],
)
def test_storage(facts: EngineFacts, status: str, says: str) -> None:
    line = engine.storage(facts)
    allowed(line)
    assert line.status == status
    assert says in line.found


@pytest.mark.parametrize(
    ("facts", "image", "status"),
    [
        (docker(), None, "ok"),
        (docker(builder="", missing="docker buildx is missing"), None, "warning"),
        (docker(builder="", missing="docker buildx is missing"), built(), "warning"),
        (docker(builder="", missing="docker buildx is missing"), built(False), "failed"),
        (docker(version="20.10.24"), built(False), "failed"),
        (docker(version="unknown"), built(False), "ok"),
    ],
)
def test_builder(facts: EngineFacts, image: ImageFacts | None, status: str) -> None:
    line = engine.builder(facts, image=image)
    allowed(line)
    assert line.status == status


def test_rootless() -> None:
    for facts, nvidia, status in (
        (docker(rootless=True), True, "warning"),
        (docker(rootless=True), False, "ok"),
        (docker(), True, "ok"),
    ):
        line = engine.rootless(facts, nvidia=nvidia)
        allowed(line)
        assert line.status == status


@pytest.mark.parametrize(
    ("free", "image", "largest", "status"),
    [
        (3 * GB, built(), 12 * GB, "ok"),
        (GB / 2, built(), 12 * GB, "warning"),
        (30 * GB, built(False), 12 * GB, "ok"),
        (20 * GB, built(False), 12 * GB, "warning"),  # the files and what is made of them
        (11 * GB, built(False), 12 * GB, "failed"),
        (11 * GB, built(False), None, "ok"),
    ],
)
def test_engine_disk(free: float, image: ImageFacts, largest: int | None, status: str) -> None:
    facts = docker(disks=(disk(500 * GB), disk(free)))
    line = engine.disk(facts, image=image, largest=largest)
    allowed(line)
    assert line.status == status
    assert engine.disk(docker(), image=image, largest=largest).status == "skipped"


def test_images() -> None:
    fine = engine.image(built(size=GB, left_out=("flash-attn",)), target="cuda")
    assert (fine.status, "without flash-attn" in fine.found) == ("ok", True)
    for facts, says in ((built(False), "is not on this engine"), (built(False, other=True), "another lock")):
        line = engine.image(facts, target="cuda")
        allowed(line)
        assert line.status == "failed"
        assert says in line.found
        assert line.fix.startswith("launch image build cuda")


def test_environments() -> None:
    states = [(True, True, "ok"), (False, False, "skipped"), (False, True, "warning")]
    for made, used, status in states:
        line = engine.environment(made=made, used=used, target="cpu")
        allowed(line)
        assert line.status == status


# ------------------------------------------------------------------------------------------------ GPUs
def gpu(capability: tuple[int, int]) -> Gpu:
    return Gpu(index=0, name="Card", uuid="GPU-0", memory=80 << 30, capability=capability)


@pytest.mark.parametrize(
    ("driver", "status"),
    [("570.86.15", "ok"), ("550.54", "warning"), ("470.256.02", "failed"), ("", "warning")],
)
def test_drivers(driver: str, status: str) -> None:
    line = gpus.nvidia_driver(Nvidia(driver=driver, unknown="" if driver else "NVML: gone"), CUDA)
    allowed(line)
    assert line.status == status


@pytest.mark.parametrize(
    ("capability", "status"), [((9, 0), "ok"), ((7, 5), "warning"), ((6, 1), "failed"), ((12, 0), "ok")]
)
def test_capabilities(capability: tuple[int, int], status: str) -> None:
    have = gpu(capability)
    cards = Nvidia(driver="570.86.15", gpus=(have,))
    line = gpus.nvidia_capability(cards, [have], CUDA, [("flash-attn", "8.0")])
    allowed(line)
    assert line.status == status


def test_the_engine_gives_gpus() -> None:
    for facts, container, status in (
        (docker(), True, "ok"),
        (docker(gives_gpus=False), True, "failed"),
        (docker(gives_gpus=False), False, "skipped"),
        (None, True, "skipped"),
    ):
        line = gpus.nvidia_runtime(facts, container=container)
        allowed(line)
        assert line.status == status


def test_health() -> None:
    def health(**facts: Any) -> GpuHealth:
        usual: dict[str, Any] = {
            "gpu": "GPU 0 (Card)",
            "used": GB // 2,
            "total": 80 * GB,
            "ecc": True,
            "uncorrected": 0,
            "programs": 0,
        }
        return GpuHealth(**{**usual, **facts})

    assert gpus.nvidia_ecc([health()]).status == "ok"
    assert "ECC off" in gpus.nvidia_ecc([health(ecc=False, uncorrected=None)]).found
    wrong = gpus.nvidia_ecc([health(), health(uncorrected=3)])
    allowed(wrong)
    assert wrong.found == "GPU 0 (Card): 3 uncorrected"
    assert gpus.nvidia_memory([health()]).status == "ok"
    assert gpus.nvidia_memory([health(total=0, used=0)]).status == "ok"
    full = gpus.nvidia_memory([health(used=40 * GB, programs=2)])
    allowed(full)
    assert full.status == "warning"
    assert "40 GB of 80 GB in use, 2 programs" in full.found


@pytest.mark.parametrize(
    ("facts", "kernel", "container", "wrong"),
    [
        ({}, "6.14.0", True, {}),
        ({"driver": "i915"}, "6.8.0", True, {"intel.driver": "failed"}),
        ({}, "6.8.0", True, {"intel.kernel": "warning"}),
        ({"bar": 256 << 20}, "6.14.0", True, {"intel.bar": "warning"}),
        ({"usable": False}, "6.14.0", True, {}),  # a container gets the group from the launcher
        ({"usable": False}, "6.14.0", False, {"intel.nodes": "failed"}),
    ],
)
def test_intel(facts: dict[str, Any], kernel: str, container: bool, wrong: dict[str, str]) -> None:
    cards = Intel(gpus=(card(**facts),), by_path=True)
    lines = gpus.intel_lines(cards, cards.gpus, cards.gpus, kernel=kernel, container=container)
    assert tuple(line.name for line in lines) == gpus.INTEL
    for line in lines:
        allowed(line)
        assert line.status == wrong.get(line.name, "ok"), line


def test_fixes_of_nodes() -> None:
    def fix(**facts: Any) -> str:
        cards = Intel(gpus=(card(usable=False, **facts),), by_path=True)
        return gpus.intel_lines(cards, cards.gpus, cards.gpus, kernel="6.14", container=False)[-1].fix

    assert fix() == "sudo usermod -aG render $USER, then log in again"
    assert fix(group="video") == "sudo usermod -aG video $USER, then log in again"
    assert "usermod" not in fix(gid=0, group="root", mode="0600")
    assert "udev" in fix(gid=None, group="", mode="")


# --------------------------------------------------------------------------------------------- network
def test_settings_never_show_credentials(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.touch()
    found = network.settings(
        {
            "https_proxy": "http://user:secret@proxy:3128",
            "ALL_PROXY": "socks5://token@socks:1080",
            "HF_ENDPOINT": "https://me:secret@mirror.example/hub?key=secret",
            "SSL_CERT_FILE": str(bundle),
            "PIP_INDEX_URL": "https://me:secret@index.example/simple",
            "HF_HUB_OFFLINE": "yes",
        }
    )
    line = network.settings_line(found)
    assert line.status == "ok"
    for hidden in ("secret", "user", "token", "me:", "index.example"):
        assert hidden not in line.found
    for shown in (
        "https_proxy=http://proxy:3128",
        "socks5://socks:1080",
        "https://mirror.example",
        "PIP_INDEX_URL",
    ):
        assert shown in line.found
    assert (found.hub_offline, found.packages_offline) == ("HF_HUB_OFFLINE", "")


@pytest.mark.parametrize(
    "variables",
    [
        {"HTTPS_PROXY": "http://[secret"},
        {"HTTPS_PROXY": "ftp://secret@proxy:21"},
        {"HTTP_PROXY": "http://proxy:secret"},
        {"SSL_CERT_FILE": "/nowhere/ca.pem"},
        {"HF_ENDPOINT": "mirror.example"},
        {"HF_ENDPOINT": "http://[x"},
        {"HF_ENDPOINT": "https://hub:abc"},
        {"HF_ENDPOINT": "https://hub:99999999"},
        {"HF_ENDPOINT": "https://user:secret/WORD@hub"},
        {"HTTPS_PROXY": "http://user:secret/WORD@proxy:3128"},
        {"SSL_CERT_FILE": "/" + "a" * 5000},
    ],
)
def test_settings_that_name_what_is_not_there(variables: dict[str, str]) -> None:
    line = network.settings_line(network.settings(variables))
    allowed(line)
    assert line.status == "failed"
    assert "secret" not in line.found
    assert line.fix == f"correct or unset {next(iter(variables))}"


def test_a_password_may_hold_an_at_sign() -> None:
    assert network.masked("see http://user:p@ss/w@host:80/x") == "see http://host:80/x"


@given(text=st.text(max_size=40))
def test_any_endpoint_is_read(text: str) -> None:
    network.settings({"HF_ENDPOINT": f"https://{text}"})


@given(text=st.text(max_size=40))
def test_any_proxy_is_read(text: str) -> None:
    found = network.settings({"HTTPS_PROXY": f"http://user:pass-word@{text}"})
    assert "pass-word" not in repr((found.shown, found.broken))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ConnectError: [SSL: CERTIFICATE_VERIFY_FAILED] unable to get local issuer", "certificate"),
        ("ProxyError: 407 Proxy Authentication Required", "proxy"),
        ("ConnectError: [Errno -3] Temporary failure in name resolution", "resolve"),
        ("Caused by: dns error: failed to lookup address information", "resolve"),
        ("ConnectError: [Errno 111] Connection refused", "refused"),
        ("ConnectTimeout: timed out", "in time"),
        ("uv did not finish within 1.5 s", "in time"),
        ("OSError: [Errno 101] Network is unreachable", "route"),
        ("weird: http://user:secret@host/x", "no answer (weird)"),
        ("InvalidURL: Invalid port: 'secret'", "no answer (InvalidURL)"),
        ("something http://user:sec/secret#@host", "no answer"),
        ("", "no answer"),
    ],
)
def test_reasons(text: str, says: str) -> None:
    assert says in network.why(text)
    assert "secret" not in network.why(text)


def test_answers() -> None:
    there = Answer(host="hub", reached=True, seconds=0.2)
    gone = Answer(host="mirror", reached=False, why="the connection was refused")
    assert network.reach("network.hub", (there,)).status == "ok"
    line = network.reach("network.wheels", (there, gone))
    allowed(line)
    assert (line.status, line.found) == ("warning", "mirror: the connection was refused")
    assert network.reach("network.hub", (there,), not_asked="HF_HUB_OFFLINE is set").status == "skipped"
    assert network.reach("network.wheels", ()).status == "skipped"
    assert network.settings_line(NetworkSettings()).status == "ok"


@pytest.mark.parametrize(
    ("text", "fine"),
    [
        ("hf_" + "a1B2" * 9, True),
        ("hf_" + "a" * 34 + "\n", True),
        ("hf_short", False),
        ("'hf_" + "a" * 34 + "'", False),
        ("hf_" + "a" * 34 + " # mine", False),
        ("sk-" + "a" * 40, False),
    ],
)
def test_tokens(text: str, fine: bool) -> None:
    found = network.token(text, "HF_TOKEN")
    assert found == Token(origin="HF_TOKEN", well_formed=fine)
    line = storage.token(found)
    assert line.status == ("ok" if fine else "warning")
    assert text.strip() not in repr(line)
    assert storage.token(None).status == "ok"


# ----------------------------------------------------------------------------------------------- sizes
@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1_600_000_000, "1.6 GB"), (12 * GB, "12 GB"), (1500, "1.5 kB")],
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("text", "count"), [("2g", 2 << 30), ("16G", 16 << 30), ("64m", 64 << 20), ("5", 5), ("x", 0)]
)
def test_sizes_of_docker(text: str, count: int) -> None:
    assert bytes_of(text) == count
