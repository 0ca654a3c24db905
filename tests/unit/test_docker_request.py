"""launcher.engines.docker: what a plan becomes on a container engine, and what the engine refuses."""

import datetime
import itertools
import json
import shlex
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import pytest
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from hypothesis import given
from hypothesis import strategies as st
from requests.exceptions import ConnectionError as RequestsConnectionError
from urllib3.exceptions import ProtocolError

from launcher import plan as plans
from launcher import runs, secretfile
from launcher.engines import docker as engine_module
from launcher.engines.base import Description, Exit, Phase
from launcher.engines.container import ContainerRequest
from launcher.engines.docker import DockerEngine, DockerHandle
from launcher.errors import (
    DeviceError,
    DeviceRuntimeError,
    EngineError,
    EngineGoneError,
    ImageMissingError,
    LaunchError,
    UsageError,
)
from launcher.image import refusals
from launcher.plan import Mount, RunPlan, Start
from tests.unit.test_plan import folder_of_model, models_recipe

Golden = Callable[[str, str], None]

#: What a run is given: nothing yet, files and a model folder, a snapshot of the hub's cache.
CASES = ("bare", "local", "snapshot")


def asked(case: str, bench: Any) -> dict[str, Any]:
    if case == "bare":
        return {}
    if case == "local":
        return {"data": (bench.data(), bench.data("more.jsonl")), "model": str(bench.model())}
    bench.patch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(bench.snapshot()))
    return {"data": (bench.data().parent,), "env": {"WANDB_MODE": "offline"}, "arguments": ("--seed", "7 8")}


def rendered(plan: RunPlan) -> ContainerRequest:
    return DockerEngine().render(plan, runs.folders("RUN_ID", plan), Start(run="RUN_ID"))


def options(request: ContainerRequest, name: str) -> list[str]:
    words = shlex.split(request.printed())
    return [value for option, value in itertools.pairwise(words) if option == name]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("target", ["cpu", "cuda", "xpu"])
def test_golden_request_and_plan(bench: Any, golden: Golden, target: str, case: str) -> None:
    planned = bench.plan(target=target, **asked(case, bench))
    line = rendered(planned.plan).printed()
    golden(f"docker/{target}-{case}.txt", bench.text(line, planned).replace(" --", " \\\n    --") + "\n")
    golden(f"plan/{target}-{case}.json", bench.text(plans.to_json(planned.plan), planned))
    assert plans.from_json(plans.to_json(planned.plan)) == planned.plan


def test_golden_request_of_models(bench: Any, golden: Golden) -> None:
    snapshot, other = bench.snapshot(), folder_of_model(bench.folder / "tuned" / "tiny")
    bench.patch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(snapshot))
    planned = bench.plan(
        recipe=str(models_recipe(bench.folder)),
        target="cpu",
        model=str(bench.model()),
        parameters={"baseline": "BAAI/bge-m3", "reranker": str(other)},
    )
    request = rendered(planned.plan)
    golden(
        "docker/cpu-models.txt", bench.text(request.printed(), planned).replace(" --", " \\\n    --") + "\n"
    )
    golden("plan/cpu-models.json", bench.text(plans.to_json(planned.plan), planned))
    assert all(mount.read_only for mount in request.mounts if mount.target.parts[1] in ("model", "models"))
    assert plans.from_json(plans.to_json(planned.plan)) == planned.plan


def test_golden_request_of_chosen_gpus(bench: Any, golden: Golden) -> None:
    planned = bench.plan(target="cuda", gpus="0,1")
    line = rendered(planned.plan).printed()
    golden("docker/cuda-gpus.txt", bench.text(line, planned).replace(" --", " \\\n    --") + "\n")
    golden("plan/cuda-gpus.json", bench.text(plans.to_json(planned.plan), planned))


def test_golden_request_of_chosen_intel_gpus(bench: Any, golden: Golden) -> None:
    planned = bench.plan(target="xpu", gpus="0")
    line = rendered(planned.plan).printed()
    golden("docker/xpu-gpus.txt", bench.text(line, planned).replace(" --", " \\\n    --") + "\n")
    golden("plan/xpu-gpus.json", bench.text(plans.to_json(planned.plan), planned))
    request = rendered(planned.plan)
    assert {"ZE_AFFINITY_MASK=0", "ZE_ENABLE_PCI_ID_DEVICE_ORDER=1"} <= set(options(request, "--env"))
    assert options(request, "--gpus") == request.sdk()["device_requests"] == []
    assert plans.from_json(plans.to_json(planned.plan)) == planned.plan


def test_least_privilege(bench: Any) -> None:
    request = rendered(bench.plan(target="cpu", **asked("local", bench)).plan)
    words = shlex.split(request.printed())
    assert words[:2] == ["docker", "run"]
    assert {"--init", "--read-only"} <= set(words)
    for option, value in (
        ("--network", "none"),
        ("--cap-drop", "ALL"),
        ("--security-opt", "no-new-privileges"),
        ("--user", "1000:1000"),
    ):
        assert options(request, option) == [value]
    for forbidden in ("--privileged", "--device", "--gpus", "--group-add", "--memory", "--ipc", "--pid"):
        assert forbidden not in words
    assert request.sdk()["network_mode"] == "none"


def test_only_the_runs_own_folders_are_writable(bench: Any) -> None:
    request = rendered(bench.plan(target="cpu", **asked("local", bench)).plan)
    writable = {str(mount.target) for mount in request.mounts if not mount.read_only}
    assert writable == {"/output", "/launch/run", "/launch/home"}
    read_only = {str(mount.target) for mount in request.mounts if mount.read_only}
    assert read_only == {
        "/launch/recipes",
        "/launch/ds_configs",
        "/data/0/train.jsonl",
        "/data/1/more.jsonl",
        "/model/tiny",
    }
    assert {str(m["Target"]) for m in request.sdk()["mounts"] if m["ReadOnly"]} == read_only


def test_devices_of_each_target(bench: Any) -> None:
    cuda = rendered(bench.plan(target="cuda").plan)
    assert options(cuda, "--gpus") == ["all"]
    assert cuda.sdk()["device_requests"][0]["Capabilities"] == [["gpu"]]
    assert options(cuda, "--shm-size") == ["16g"]
    xpu = rendered(bench.plan(target="xpu").plan)
    assert options(xpu, "--device") == ["/dev/dri"]
    assert options(xpu, "--group-add") == ["992"]
    assert xpu.sdk()["devices"] == ["/dev/dri:/dev/dri:rwm"]
    assert "type=bind,source=/dev/dri/by-path,target=/dev/dri/by-path,readonly" in options(xpu, "--mount")


@pytest.mark.parametrize(
    ("gpus", "printed", "count", "ids"),
    [
        ("all", "all", -1, []),
        ("1", "device=1", 0, ["1"]),
        ("0,1", '"device=0,1"', 0, ["0", "1"]),  # quoted for docker, which reads the value as CSV
        ("GPU-8932f937", "device=GPU-8932f937", 0, ["GPU-8932f937"]),
    ],
)
def test_gpus(bench: Any, gpus: str, printed: str, count: int, ids: list[str]) -> None:
    request = rendered(bench.plan(target="cuda", gpus=gpus).plan)
    assert options(request, "--gpus") == [printed]
    (device,) = request.sdk()["device_requests"]
    assert (device["Count"], device["DeviceIDs"], device["Capabilities"]) == (count, ids, [["gpu"]])


def test_limits(bench: Any) -> None:
    request = rendered(bench.plan(target="cpu", memory="4g", shm_size="1g", network="bridge").plan)
    assert options(request, "--memory") == options(request, "--memory-swap") == ["4g"]
    assert (request.sdk()["mem_limit"], request.sdk()["memswap_limit"]) == ("4g", "4g")
    assert options(request, "--shm-size") == ["1g"]
    assert options(request, "--network") == ["bridge"]
    assert "HF_HUB_OFFLINE=0" in options(request, "--env")
    for size in ({"memory": "lots"}, {"shm_size": "2 GB"}):
        with pytest.raises(UsageError, match="takes a size such as 16g"):
            bench.plan(target="cpu", **size)


def test_no_secret_is_written(bench: Any) -> None:
    planned = bench.plan(target="cpu", secrets={"HF_TOKEN": "hf_s3cr3t", "A": "s3cr3t too"}, env={"B": "1"})
    request = rendered(planned.plan)
    for text in (request.printed(), plans.to_json(planned.plan), repr(request), repr(planned.plan)):
        assert "s3cr3t" not in text
    sent = request.sdk()
    assert sent["environment"]["B"] == "1"
    assert not {"A", "HF_TOKEN"} & sent["environment"].keys()
    (file,) = [mount for mount in sent["mounts"] if mount["Target"] == "/launch/secrets"]
    assert (file["Source"], file["ReadOnly"]) == (str(bench.folder / "finetune-launch" / "RUN_ID.1"), True)
    assert sent["command"][1:7] == ["-I", "-S", "/launch/entry.py", "mask", "/launch/secrets", "bash"]
    assert not (bench.folder / "finetune-launch").exists()  # a request is not a start


def test_the_printed_line_makes_the_file_of_its_secrets(
    bench: Any, golden: Callable[[str, str], None]
) -> None:
    planned = bench.plan(target="cpu", secrets={"HF_TOKEN": "hf_s3cr3t", "A": "s3cr3t too"})
    line = rendered(planned.plan).printed()
    golden("docker/cpu-secrets.txt", bench.text(line, planned).replace(" ", " \\\n    ") + "\n")


def test_the_file_is_there_for_the_start_alone(bench: Any) -> None:
    planned = bench.plan(target="cpu", secrets={"HF_TOKEN": "hf_s3cr3t", "A": "a\nb='\udcff"})
    request, seen = rendered(planned.plan), list[bytes]()
    assert request.secrets is not None
    file = request.secrets.path
    with secretfile.handed(request.secrets, planned.secrets):
        assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
        seen.append(file.read_bytes())
    assert seen == [b"A=a\nb='\xff\0HF_TOKEN=hf_s3cr3t\0"]
    assert not file.exists()
    with pytest.raises(ZeroDivisionError), secretfile.handed(request.secrets, planned.secrets, read=True):
        raise ZeroDivisionError  # the program was not started
    assert not file.exists()


def test_printed_and_sdk_have_the_same_variables(bench: Any) -> None:
    request = rendered(bench.plan(target="cuda", **asked("snapshot", bench)).plan)
    printed = dict(value.split("=", 1) for value in options(request, "--env"))
    assert printed == request.sdk()["environment"]
    assert printed["WANDB_MODE"] == "offline"
    assert printed["MODEL"] == f"/model/models--BAAI--bge-m3/snapshots/{'5' * 40}"
    assert request.command == ("bash", "/launch/recipes/bge-m3-unified.sh", "--seed", "7 8")
    assert shlex.split(request.printed())[-4:] == list(request.command)


def test_odd_paths_survive_the_printed_line(bench: Any) -> None:
    path = bench.data('a,"b c".jsonl')
    request = rendered(bench.plan(target="cpu", data=(path,)).plan)
    (mount,) = [value for value in options(request, "--mount") if "/data/0" in value]
    assert mount == 'type=bind,"source={}","target=/data/0/a,""b c"".jsonl",readonly'.format(
        str(path).replace('"', '""')
    )


def test_image_entry_is_mounted_whole(bench: Any) -> None:
    plan = bench.plan(target="cpu", model=str(bench.snapshot())).plan
    (mount,) = [mount for mount in rendered(plan).mounts if str(mount.target).startswith("/model")]
    assert mount == Mount(
        source=bench.folder / "hub" / "models--BAAI--bge-m3",
        target=PurePosixPath("/model/models--BAAI--bge-m3"),
        read_only=True,
    )


# ---------------------------------------------------------------------------------------- the engine
class FakeContainer:
    """What the SDK's container is used for."""

    id = "c0ffee"
    client = None

    def __init__(self, *, log: list[bytes] = (), code: int = 0, oom: bool = False) -> None:  # type: ignore[assignment]
        self._log, self._code = log, code
        ended = "2026-11-21T20:00:00.123456789Z"
        self.attrs: dict[str, Any] = {"State": {"OOMKilled": oom, "FinishedAt": ended}}
        self.removed = False
        self.refusal: Exception | None = None
        self.asked: list[object] = []

    def start(self) -> None:
        if self.refusal is not None:
            raise self.refusal

    def logs(self, **_: object) -> list[bytes]:
        return self._log

    def wait(self) -> dict[str, int]:
        return {"StatusCode": self._code}

    def reload(self) -> None:
        pass

    def remove(self, *, force: bool) -> None:
        self.removed = force

    def stop(self, *, timeout: int) -> None:
        self.asked.append(timeout)

    def kill(self) -> None:
        self.asked.append("kill")


def refusal(text: str, status: int = 500) -> APIError:
    answer = SimpleNamespace(status_code=status, url="/x", reason="refused")
    return APIError(text, response=answer, explanation=text)


def connected(client: Any, monkeypatch: pytest.MonkeyPatch) -> DockerEngine:
    monkeypatch.setattr(DockerEngine, "connect", lambda self: client)
    return DockerEngine()


def lines(container: FakeContainer, log: Path, begins: int = 0) -> list[str]:
    return list(DockerHandle(container).lines(log, begins, begins))  # type: ignore[arg-type]


def test_lines_are_put_together_from_blocks(tmp_path: Path) -> None:
    container = FakeContainer(log=[b"one\ntw", b"o\n", b"\xe8\xae", b"\xad\nlast"])
    log = tmp_path / "log.txt"
    assert lines(container, log) == ["one", "two", "训", "last"]
    assert log.read_text() == "one\ntwo\n训\nlast"


@given(
    blocks=st.lists(st.binary(max_size=20), max_size=8),
    earlier=st.binary(max_size=10),
    share=st.floats(0, 1),
)
def test_a_log_goes_on_where_another_launcher_ended(
    blocks: list[bytes], earlier: bytes, share: float
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log, output = Path(folder) / "log.txt", b"".join(blocks)
        log.write_bytes(earlier + output[: int(share * len(output))])
        lines(FakeContainer(log=blocks), log, len(earlier))
        assert log.read_bytes() == earlier + output


@pytest.mark.parametrize(("code", "oom"), [(0, False), (3, False), (137, True)])
def test_wait_reads_the_end_and_keeps_the_container(code: int, oom: bool) -> None:
    container = FakeContainer(code=code, oom=oom)
    handle = DockerHandle(container)  # type: ignore[arg-type]
    assert handle.wait() == Exit(code=code, out_of_memory=oom, ended="2026-11-21T20:00:00.123+00:00")
    assert not container.removed
    handle.remove()
    assert container.removed


@pytest.mark.parametrize(
    ("status", "phase"),
    [
        ("running", Phase.RUNNING),
        ("paused", Phase.RUNNING),
        ("restarting", Phase.RUNNING),
        ("removing", Phase.RUNNING),
        ("exited", Phase.ENDED),
        ("dead", Phase.ENDED),
    ],
)
def test_phase_is_the_engines_word(status: str, phase: Phase) -> None:
    container = FakeContainer()
    container.attrs["State"]["Status"] = status
    assert DockerHandle(container).phase() is phase  # type: ignore[arg-type]


@pytest.mark.parametrize(("age", "phase"), [(2, Phase.RUNNING), (20, Phase.UNSTARTED)])
def test_what_was_just_made_may_be_about_to_start(age: float, phase: Phase) -> None:
    container = FakeContainer()
    made = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=age)
    container.attrs["State"]["Status"] = "created"
    container.attrs["Created"] = made.strftime("%Y-%m-%dT%H:%M:%S.123456789Z")
    assert DockerHandle(container).phase() is phase  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "status", "over"),
    [
        ("no such container", 404, True),
        ("removal of container x is already in progress", 409, True),
        ("cannot remove container x: it is starting", 409, False),
    ],
)
def test_only_what_is_gone_or_going_counts_as_removed(text: str, status: int, over: bool) -> None:
    container = FakeContainer()

    def remove(*, force: bool) -> None:
        raise refusal(text, status)

    container.remove = remove  # type: ignore[method-assign]
    with nullcontext() if over else pytest.raises(EngineError):
        DockerHandle(container).remove()  # type: ignore[arg-type]


ENDS: dict[str, tuple[Exception, type[EngineError], str]] = {
    "removed": (NotFound("no such container"), EngineError, "its container is gone"),
    "refused": (APIError("odd"), EngineError, "refused to tell"),
    "no answer": (DockerException("?"), EngineGoneError, "it may still run"),
    "connection lost": (RequestsConnectionError("gone"), EngineGoneError, "it may still run"),
    "stream broken": (ProtocolError("broken"), EngineGoneError, "it may still run"),
}


@pytest.mark.parametrize(("error", "kind", "message"), ENDS.values(), ids=ENDS.keys())
def test_a_lost_container_and_a_lost_engine_are_told_apart(
    tmp_path: Path, error: Exception, kind: type[EngineError], message: str
) -> None:
    container = FakeContainer()

    def broken(**_: object) -> Any:
        raise error

    container.wait = container.logs = broken  # type: ignore[method-assign]
    for ask in (DockerHandle(container).wait, lambda: lines(container, tmp_path / "log.txt")):  # type: ignore[arg-type]
        with pytest.raises(kind, match=message) as caught:
            ask()
        assert type(caught.value) is kind


REFUSALS: dict[str, tuple[str, type[LaunchError], str]] = {
    "no runtime": (
        'could not select device driver "" with capabilities: [[gpu]]',
        DeviceRuntimeError,
        "NVIDIA",
    ),
    "no CDI": (
        "failed to discover GPU vendor from CDI: no known GPU vendor found",
        DeviceRuntimeError,
        "NVIDIA",
    ),
    "no CDI device": ("unresolvable CDI devices nvidia.com/gpu=all", DeviceRuntimeError, "NVIDIA"),
    "no such GPU": (
        "nvidia-container-cli: device error: 7: unknown device: unknown",
        DeviceError,
        "does not know a GPU",
    ),
    "toolkit": (
        'exec: "nvidia-container-runtime-hook": executable file not found in $PATH',
        DeviceRuntimeError,
        "NVIDIA",
    ),
    "driver": (
        "error running hook #0: exit status 1, stdout: , stderr: Auto-detected mode as 'legacy'\n"
        "nvidia-container-cli: initialization error: nvml error: driver/library version mismatch: unknown",
        DeviceError,
        "does not answer",
    ),
    "driver by CDI": (
        "failed to initialize NVML: Driver/library version mismatch",
        DeviceError,
        "does not answer",
    ),
    "no device": (
        'error gathering device information while adding custom device "/dev/dri": no such file or directory',
        DeviceError,
        "/dev/dri is not on this machine",
    ),
    "name taken": ('The container name "/x" is already in use by container "y"', EngineError, "exists"),
    "other": ("something new", EngineError, "refused"),
}


@pytest.mark.parametrize(("text", "error", "message"), REFUSALS.values(), ids=REFUSALS.keys())
def test_refused_start_is_named_and_leaves_nothing(
    bench: Any, monkeypatch: pytest.MonkeyPatch, text: str, error: type[LaunchError], message: str
) -> None:
    container = FakeContainer()
    container.refusal = refusal(text)
    client = SimpleNamespace(containers=SimpleNamespace(create=lambda **_: container))
    request = rendered(bench.plan(target="cpu").plan)
    with pytest.raises(error, match=message):
        connected(client, monkeypatch).start(request, {})
    assert container.removed


def test_a_refusal_says_what_the_engine_said() -> None:
    for name in ("driver", "driver by CDI", "no such GPU", "no runtime", "no CDI device", "toolkit"):
        text = REFUSALS[name][0]
        found = refusals.named(text)
        assert found is not None
        assert text in found.why
        assert ("toolkit" in found.hint) is isinstance(found, DeviceRuntimeError)
    driver = refusals.named(REFUSALS["driver"][0])
    assert driver is not None
    assert "nvidia-smi" in driver.hint
    assert "reboot" in driver.hint
    assert refusals.named("something new") is None


def test_refused_creation(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def create(**_: object) -> None:
        raise refusal("no such image", 404)

    request = rendered(bench.plan(target="cpu").plan)
    client = SimpleNamespace(containers=SimpleNamespace(create=create))
    with pytest.raises(EngineError, match="refused"):
        connected(client, monkeypatch).start(request, {})


def test_an_engine_that_does_not_answer_at_the_start(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def create(**_: object) -> None:
        raise RequestsConnectionError("timed out")

    unseen = FakeContainer()  # made, but the answer was lost
    request = rendered(bench.plan(target="cpu").plan)
    known = {request.name: unseen}
    client = SimpleNamespace(containers=SimpleNamespace(create=create, get=known.__getitem__))
    with pytest.raises(EngineError, match="did not start"):
        connected(client, monkeypatch).start(request, {})
    assert unseen.removed


def test_interrupted_start_leaves_nothing(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    container = FakeContainer()
    container.refusal = KeyboardInterrupt()  # type: ignore[assignment]
    request = rendered(bench.plan(target="cpu").plan)
    client = SimpleNamespace(containers=SimpleNamespace(create=lambda **_: container))
    with pytest.raises(KeyboardInterrupt):
        connected(client, monkeypatch).start(request, {})
    assert container.removed


def client_with(images: dict[str, Any], info: dict[str, Any]) -> Any:
    def get(name: str) -> Any:
        if name not in images:
            raise ImageNotFound("no such image")
        return images[name]

    return SimpleNamespace(
        images=SimpleNamespace(get=get), info=lambda: info, version=lambda: {"Version": "26.1"}
    )


def test_check_image_runtime_and_device(bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cuda, xpu = bench.plan(target="cuda").plan, bench.plan(target="xpu").plan
    with pytest.raises(ImageMissingError) as missing:
        connected(client_with({}, {}), monkeypatch).check(cuda)
    assert missing.value.hint == "launch image build cuda"
    same = {"launch.lock-digest": f"sha256:{cuda.lock_digest}"}
    images = {name: SimpleNamespace(id="sha256:1", labels=same) for name in (cuda.image, xpu.image) if name}
    partial = replace(cuda, lock_digest="0" * 64, without=("flash-attn",))
    with pytest.raises(ImageMissingError, match="holds other packages than the plan's") as missing:
        connected(client_with(images, {}), monkeypatch).check(partial)
    assert missing.value.hint == "launch image build cuda --without flash-attn"
    with pytest.raises(DeviceRuntimeError):
        connected(client_with(images, {"Runtimes": {"runc": {}}}), monkeypatch).check(cuda)
    connected(client_with(images, {"Runtimes": {"nvidia": {}}}), monkeypatch).check(cuda)
    (tmp_path / "cdi").mkdir()
    (tmp_path / "cdi" / "nvidia.yaml").write_text("")
    connected(client_with(images, {"CDISpecDirs": [str(tmp_path / "cdi"), "/nowhere"]}), monkeypatch).check(
        cuda
    )
    absent = replace(xpu, access=replace(xpu.access, devices=(str(tmp_path / "dri"),)))
    with pytest.raises(DeviceError, match="is not on this machine"):
        connected(client_with(images, {}), monkeypatch).check(absent)


SIGNS: dict[str, dict[str, Any]] = {
    "runtime": {"Runtimes": {"nvidia": {}, "runc": {}}},
    "discovered": {"DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}]},
    "nothing": {"Runtimes": {"runc": {}}, "DiscoveredDevices": None, "CDISpecDirs": ["/nowhere"]},
    "another vendor": {"DiscoveredDevices": [{"Source": "cdi", "ID": "intel.com/gpu=0"}]},
    "old engine": {},
}


@pytest.mark.parametrize(("sign", "info"), SIGNS.items(), ids=SIGNS.keys())
def test_signs_of_an_engine_that_gives_gpus(
    sign: str, info: dict[str, Any], tmp_path: Path, bench: Any
) -> None:
    bench.patch.setattr(refusals, "_SYSTEM_PATH", str(tmp_path))
    bench.patch.setenv("PATH", "")
    assert refusals.gives_gpus(info) is (sign in ("runtime", "discovered"))
    for helper in ("nvidia-container-runtime-hook", "nvidia-cdi-hook"):  # no runtime has to be registered
        (tmp_path / helper).write_text("")
        (tmp_path / helper).chmod(0o755)
        assert refusals.gives_gpus(info)
        (tmp_path / helper).unlink()


def test_describe(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = bench.plan(target="cpu").plan
    facts = {"ServerVersion": "26.1", "Name": "box", "ID": "5f0c", "DockerRootDir": "/var/lib/docker"}
    client = client_with({plan.image: SimpleNamespace(id="sha256:1")}, facts)
    found = connected(client, monkeypatch).describe(plan)
    assert found == Description(image_digest="sha256:1", version="26.1", where="box:5f0c")


@pytest.mark.parametrize("error", [DockerException(), RequestsConnectionError(), EngineError("gone")])
def test_describe_when_the_engine_went_away(
    bench: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    plan = bench.plan(target="cpu").plan

    def gone() -> None:
        raise error

    with pytest.raises(EngineGoneError, match="does not answer"):
        connected(SimpleNamespace(info=gone), monkeypatch).describe(plan)


def test_stop_and_kill(monkeypatch: pytest.MonkeyPatch) -> None:
    class AtOnce:
        def __init__(self, *, target: Callable[[], None], daemon: bool) -> None:
            self.start = target

    monkeypatch.setattr(engine_module.threading, "Thread", AtOnce)
    container = FakeContainer()
    handle = DockerHandle(container)
    handle.stop(7.6)
    handle.kill()
    assert container.asked == [8, "kill"]
    monkeypatch.setattr(container, "kill", lambda: (_ for _ in ()).throw(refusal("not running", 409)))
    handle.kill()
    monkeypatch.setattr(container, "kill", lambda: (_ for _ in ()).throw(refusal("broken", 500)))
    with pytest.raises(APIError):
        handle.kill()


def test_the_plan_is_json(bench: Any) -> None:
    text = plans.to_json(bench.plan(target="cpu", **asked("local", bench)).plan)
    assert json.loads(text)["access"]["network"] == "none"
