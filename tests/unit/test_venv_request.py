"""launcher.engines.venv: what a plan becomes without containers, and how its process ends."""

import shlex
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher import process, runs
from launcher.engines import venv as engine_module
from launcher.engines.base import Exit
from launcher.engines.venv import ProcessHandle, ProcessRequest, VenvEngine
from launcher.errors import DeviceError
from launcher.plan import RunPlan
from tests.unit.test_plan import folder_of_model, models_recipe


def rendered(bench: Any, plan: RunPlan) -> ProcessRequest:
    engine = VenvEngine(bench.folder / "envs" / "cpu")
    return engine.render(plan, runs.folders("RUN_ID", plan), "RUN_ID")


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
    assert request.secrets == ("HF_TOKEN",)


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
    assert VenvEngine(tmp_path).describe(plan) == (None, "unknown")
    (tmp_path / "pyvenv.cfg").write_text("home = /usr\nversion_info = 3.11.9\n")
    assert VenvEngine(tmp_path).describe(plan) == (None, "3.11.9")


class FakeChild:
    """process.Child, without a process."""

    def __init__(self, *codes: int | None) -> None:
        self._codes = iter(codes)
        self.signals: list[int] = []

    def lines(self) -> Iterator[str]:
        yield "one"

    def wait(self, timeout: float | None = None) -> int | None:
        return next(self._codes)

    def signal_group(self, number: int) -> None:
        self.signals.append(number)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (0, Exit(code=0)),
        (3, Exit(code=3)),
        (-signal.SIGTERM, Exit(code=143)),
        (-signal.SIGKILL, Exit(code=137, out_of_memory=True)),
        (137, Exit(code=137, out_of_memory=True)),
    ],
)
def test_how_it_ended(code: int, expected: Exit) -> None:
    child = FakeChild(code)
    assert ProcessHandle(child).wait() == expected  # type: ignore[arg-type]
    assert child.signals == [signal.SIGKILL]  # what the recipe may have left behind


@pytest.mark.parametrize(
    ("codes", "signals"), [((0,), [signal.SIGTERM]), ((None,), [signal.SIGTERM, signal.SIGKILL])]
)
def test_stop_asks_first(
    monkeypatch: pytest.MonkeyPatch, codes: tuple[int | None, ...], signals: list[int]
) -> None:
    class AtOnce:
        def __init__(self, *, target: Callable[[], None], daemon: bool) -> None:
            self.start = target

    monkeypatch.setattr(engine_module.threading, "Thread", AtOnce)
    child = FakeChild(*codes)
    ProcessHandle(child).stop(1)  # type: ignore[arg-type]
    assert child.signals == signals


def test_start_gives_secrets_to_the_process_alone(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def child(argv: Any, *, env: Any, cwd: Any) -> FakeChild:
        seen.update(argv=argv, env=env, cwd=cwd)
        return FakeChild(0)

    monkeypatch.setattr(process, "Child", child)
    planned = bench.plan(target="cpu", engine="venv", secrets={"HF_TOKEN": "hf_s3cr3t"})
    request = rendered(bench, planned.plan)
    handle = VenvEngine(bench.folder).start(request, planned.secrets)
    assert list(handle.lines()) == ["one"]
    assert seen["env"] == {**dict(request.environment), "HF_TOKEN": "hf_s3cr3t"}
    assert (seen["argv"], seen["cwd"]) == (request.command, request.folder)
