"""launcher.engines.venv: what a plan becomes without containers, and how its process ends."""

import json
import os
import shlex
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher import paths, process, runs, supervisor
from launcher.engines import venv as engine_module
from launcher.engines.base import Exit, Phase
from launcher.engines.supervised import ProcessHandle
from launcher.engines.venv import ProcessRequest, VenvEngine
from launcher.errors import DeviceError, EngineError
from launcher.plan import RunPlan, Start
from tests.unit.test_plan import folder_of_model, models_recipe


def rendered(bench: Any, plan: RunPlan) -> ProcessRequest:
    engine = VenvEngine(bench.folder / "envs" / "cpu")
    return engine.render(plan, runs.folders("RUN_ID", plan), Start(run="RUN_ID"))


@pytest.fixture(autouse=True)
def callers_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in engine_module._INHERITED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "C.UTF-8")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("HF_TOKEN", "hf_s3cr3t")


def test_golden_request(bench: Any, golden: Callable[[str, str], None]) -> None:
    planned = bench.plan(
        target="cpu",
        engine="venv",
        data=(bench.data(),),
        model=str(bench.model()),
        nproc=2,
        arguments=("-x",),
    )
    assert planned.plan.image is None
    assert isinstance(planned.engine, VenvEngine)
    line = rendered(bench, planned.plan).printed()
    golden("venv/cpu-local.txt", bench.text(line, planned).replace(" ", " \\\n    ") + "\n")


def test_golden_request_of_models(bench: Any, golden: Callable[[str, str], None]) -> None:
    other = folder_of_model(bench.folder / "tuned" / "tiny")
    planned = bench.plan(
        recipe=str(models_recipe(bench.folder)),
        target="cpu",
        engine="venv",
        model=str(bench.model()),
        parameters={"baseline": str(other)},
    )
    line = rendered(bench, planned.plan).printed()
    golden("venv/cpu-models.txt", bench.text(line, planned).replace(" ", " \\\n    ") + "\n")


def test_only_named_variables_are_inherited(bench: Any) -> None:
    environment = dict(rendered(bench, bench.plan(target="cpu", engine="venv").plan).environment)
    assert environment["LANG"] == "C.UTF-8"
    assert environment["PATH"] == f"{bench.folder}/envs/cpu/bin:/usr/bin:/bin"
    assert "PYTHONPATH" not in environment
    assert "HF_TOKEN" not in environment


def test_gpus_are_those_of_the_plan(bench: Any) -> None:
    bench.patch.setenv("CUDA_VISIBLE_DEVICES", "1")  # of the shell: it made the plan, and says no more

    def gpus(**asked: Any) -> tuple[str | None, str | None]:
        environment = dict(rendered(bench, bench.plan(engine="venv", **asked).plan).environment)
        return environment.get("CUDA_VISIBLE_DEVICES"), environment.get("CUDA_DEVICE_ORDER")

    assert gpus(target="cuda", gpus="1,0") == ("1,0", "PCI_BUS_ID")
    assert gpus(target="cuda") == ("1", "PCI_BUS_ID")
    assert gpus(target="cuda", gpus="all") == (None, "PCI_BUS_ID")
    assert gpus(target="cpu") == (None, None)


def test_no_secret_is_printed(bench: Any) -> None:
    planned = bench.plan(target="cpu", engine="venv", secrets={"HF_TOKEN": "hf_s3cr3t"})
    request = rendered(bench, planned.plan)
    assert "s3cr3t" not in request.printed()
    assert "s3cr3t" not in repr(request)
    assert request.secrets is not None
    assert request.secrets.names == ("HF_TOKEN",)


def test_printed_line_can_be_pasted(bench: Any) -> None:
    plan = bench.plan(
        target="cpu", engine="venv", parameters={"query_instruction_for_retrieval": "find: it's"}
    ).plan
    words = shlex.split(rendered(bench, plan).printed())
    assert words[:4] == ["cd", str(bench.folder / "runs" / "RUN_ID" / "output"), "&&", "env"]
    assert "QUERY_INSTRUCTION_FOR_RETRIEVAL=find: it's" in words
    assert words[-2:] == ["bash", str(plan.recipe_path)]


def test_check(bench: Any, tmp_path: Path) -> None:
    engine = VenvEngine(tmp_path)
    plan = bench.plan(target="cpu", engine="venv").plan
    engine.check(plan)
    engine.check(replace(plan, access=replace(plan.access, devices=(str(tmp_path),))))
    with pytest.raises(DeviceError, match="is not on this machine"):
        engine.check(replace(plan, access=replace(plan.access, devices=(str(tmp_path / "dri"),))))


def test_check_of_gpus(bench: Any, tmp_path: Path) -> None:
    plan = bench.plan(target="cuda", engine="venv").plan
    bench.patch.setattr(engine_module.nvidia, "may_be_there", lambda: True)
    VenvEngine(tmp_path).check(plan)
    bench.patch.setattr(engine_module.nvidia, "may_be_there", lambda: False)
    with pytest.raises(DeviceError, match="no NVIDIA GPU"):
        VenvEngine(tmp_path).check(plan)


def test_describe_says_the_environments_python(bench: Any, tmp_path: Path) -> None:
    plan = bench.plan(target="cpu", engine="venv").plan
    assert VenvEngine(tmp_path).describe(plan).version == "unknown"
    (tmp_path / "pyvenv.cfg").write_text("home = /usr\nversion_info = 3.11.9\n")
    found = VenvEngine(tmp_path).describe(plan)
    assert (found.image_digest, found.version, found.where) == (None, "3.11.9", VenvEngine(tmp_path).where())


# ------------------------------------------------------------------------------------- the supervisor's word
def trace(folder: Path, **said: Any) -> Path:
    """What a supervisor has written; without anything: nothing yet."""
    file = folder / "1.process"
    file.write_bytes((json.dumps(said).encode() if said else b"").ljust(supervisor.TRACE))
    return file


HERE = supervisor.identity(os.getpid()) or {}


@pytest.mark.parametrize("code", [0, 3, 137, 143])
def test_an_end_is_what_the_supervisor_wrote(tmp_path: Path, code: int) -> None:
    file = trace(tmp_path, **HERE, code=code, memory_kills=code == 137, ended="2026-11-21T20:00:00+00:00")
    handle = ProcessHandle(file)
    assert handle.phase() is Phase.ENDED
    assert not handle.lost()
    assert handle.wait() == Exit(code=code, memory_kills=code == 137, ended="2026-11-21T20:00:00+00:00")


def test_it_runs_as_long_as_its_supervisor_is_there(tmp_path: Path) -> None:
    handle = ProcessHandle(trace(tmp_path, **HERE))
    assert handle.phase() is Phase.RUNNING
    assert not handle.lost()


@pytest.mark.parametrize("other", [{"start": 1}, {"boot": "another"}, {"pid": 2**22 + 1}])
def test_another_process_of_its_number_is_not_its_supervisor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: dict[str, Any]
) -> None:
    monkeypatch.setattr(process, "members", lambda session: [])
    monkeypatch.setattr(process, "with_variables", lambda wanted: [])
    handle = ProcessHandle(trace(tmp_path, **{**HERE, **other}))
    assert handle.lost()
    with pytest.raises(EngineError, match="its supervisor is gone"):
        handle.wait()


def test_a_supervisor_that_never_spoke(tmp_path: Path) -> None:
    file = trace(tmp_path)
    assert ProcessHandle(file).phase() is Phase.RUNNING  # it may just be about to
    os.utime(file, (0, 0))
    assert ProcessHandle(file).phase() is Phase.UNSTARTED
    with pytest.raises(EngineError, match="never spoke"):
        ProcessHandle(file).wait()


@pytest.mark.parametrize(
    "said",
    [b"[1]", b"[" * 9000, b"\xff", b'{"pid": 1}', b'{"code": 0}', json.dumps({**HERE, "code": "0"}).encode()],
    ids=["list", "deep", "bytes", "no start", "no process", "text"],
)
def test_a_damaged_trace_says_nothing(tmp_path: Path, said: bytes) -> None:
    file = trace(tmp_path)
    file.write_bytes(said)
    assert not ProcessHandle(file).lost()
    assert ProcessHandle(file).phase() is Phase.RUNNING
    os.utime(file, (0, 0))
    assert ProcessHandle(file).phase() is Phase.UNSTARTED


def test_what_a_killed_supervisor_left_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[tuple[int, int]] = []
    own = 2**22 + 1
    session, others = [own + 1, own + 2], [own + 2, own + 3]  # the last one has left the session
    monkeypatch.setattr(process, "members", lambda _: [] if killed else session)
    monkeypatch.setattr(
        process, "with_variables", lambda wanted: [] if killed or "LAUNCH_RUN_ID" not in wanted else others
    )
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append((pid, number)))
    file = trace(tmp_path, **{**HERE, "pid": 2**22 + 1})
    assert ProcessHandle(file).lost()
    ProcessHandle(file).bury()
    assert killed == [(own + number, signal.SIGKILL) for number in (1, 2, 3)]
    ProcessHandle(trace(tmp_path, **{**HERE, "pid": 2**22 + 1, "boot": "another"})).bury()
    assert len(killed) == 3  # of another boot: these are other processes


def test_start_gives_secrets_to_the_process_alone(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr(process, "detach", lambda argv, **options: seen.update(argv=argv, **options))
    planned = bench.plan(target="cpu", engine="venv", secrets={"HF_TOKEN": "hf_s3cr3t"})
    request = rendered(bench, planned.plan)
    request.trace.parent.parent.mkdir(parents=True)
    handle = VenvEngine(bench.folder).start(request, planned.secrets)
    assert handle.phase() is Phase.RUNNING
    assert request.secrets is not None
    file = request.secrets.path
    assert file.read_bytes() == b"HF_TOKEN=hf_s3cr3t\0"  # the entry removes it
    assert seen["env"] == dict(request.environment)
    assert "HF_TOKEN" not in seen["env"]
    entry = ("-I", "-S", str(paths.recipes() / "runtime" / "entry.py"), "mask", str(file))
    assert tuple(seen["argv"][-len(request.command) - 5 :]) == (*entry, *request.command)
    assert (seen["log"], seen["cwd"]) == (request.log, request.folder)
    with pytest.raises(FileExistsError):  # one start, one supervisor
        VenvEngine(bench.folder).start(request, planned.secrets)
