"""``launch accept``, the use case: what fails does not stop the ladder, nothing is lost or overwritten."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from launcher import acceptance, manifest, paths, process, settings
from launcher.acceptance import Check, Report, judging
from launcher.app import accept, ladder, machine
from launcher.app import plan as planning
from launcher.app.ladder import Asked
from launcher.errors import (
    CheckError,
    DeviceError,
    EngineError,
    LaunchError,
    OutputError,
    RefusedError,
    UsageError,
)
from launcher.image import inputs
from launcher.image.check import Outcome, request, run_here
from launcher.process import Completed
from launcher.progress import Silent, SilentView

RECORD = judging.read((paths.images() / "acceptance.toml").read_text(), source="acceptance.toml")


class Machine:
    """Trainings that end as they are told; ``says`` maps a recipe to an error, or to what it does first."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.asked: list[planning.Request] = []
        self.says: dict[str, BaseException | str] = {}
        self.folder = folder
        monkeypatch.setattr(planning, "make", self._make)
        monkeypatch.setattr(ladder.execute, "begin", lambda planned, parent: planned)
        monkeypatch.setattr(ladder.execute, "execute", self._execute)
        monkeypatch.setattr(machine, "facts", lambda planned: {"launcher": "1"})
        monkeypatch.setattr(machine, "checks", lambda *_: iter([Check(name="c", status="ok")]))
        monkeypatch.setattr(machine, "shape", lambda start: {"num_hidden_layers": 2})

    def _make(self, request: planning.Request, *_: object, **__: object) -> Any:
        self.asked.append(request)
        said = self.says.get(request.recipe)
        if request.parameters.get("unsloth") == "on":
            raise RefusedError("refused", ["this image has no Unsloth"])
        if isinstance(said, DeviceError):
            raise said
        plan = SimpleNamespace(target=request.target, engine="venv", recipe=request.recipe)
        return SimpleNamespace(plan=plan, notes=("a note",), request=request)

    def _execute(self, planned: Any, view: object, *, grace: float) -> Any:
        request = planned.request
        said = self.says.get(request.recipe)
        if isinstance(said, KeyboardInterrupt):
            raise said
        run = self.folder / f"run-{len(self.asked)}"
        run.mkdir()
        (run / "plan.json").write_text(json.dumps({"parameters": [["precision", "bf16"], ["seed", "42"]]}))
        curve = RECORD.curves.get(request.recipe)
        losses = curve.losses if curve and "learning_rate" in request.parameters else (2.0,) * 8
        lines = [{"event": "begin", "device": "cpu:0"}]
        lines += [{"event": "step", "loss": loss, "time": float(n)} for n, loss in enumerate(losses)]
        lines += [{"event": "end"}, {"event": "memory", "before": 1, "peak": 5}]
        (run / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        place = SimpleNamespace(run=run, output=request.output)
        text = said if isinstance(said, str) else ""
        result = SimpleNamespace(error=text, exit_code=1 if text else 0, seconds=1.5, model={})
        return SimpleNamespace(result=result, place=place, tail=("Traceback", "Boom"), error=None)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    return Machine(monkeypatch, tmp_path)


@contextmanager
def silently() -> Iterator[Silent]:
    yield Silent()


@contextmanager
def unseen(plan: object) -> Iterator[SilentView]:
    yield SilentView()


def climbed(target: str = "cpu", **asked: Any) -> Report:
    request = Asked(target=target, **asked)
    return accept.run(request, settings.load(), progress=silently, watch=unseen)


def test_the_whole_ladder(here: Machine) -> None:
    report = climbed()
    assert (report.complete, report.failed, report.size) == (True, (), "tiny")
    assert [check.name for check in report.checks] == ["c"]
    assert [(curve.recipe, curve.precision) for curve in report.curves] == [
        (recipe, precision) for recipe, _ in acceptance.CURVES for precision in acceptance.PRECISIONS
    ]
    assert [(each.name, each.status) for each in report.speed] == [
        ("bf16, without unsloth", "ok"),
        ("bf16, with unsloth", "left-out"),
        ("fp32, without unsloth", "ok"),
        ("fp32, with unsloth", "left-out"),
    ]
    assert report.speed[1].detail == "not in this target: this image has no Unsloth"
    assert report.speed[0].step_seconds == 1.0
    assert {request.nproc for request in here.asked} == {1}
    assert report.notes == ("a note",)
    made = [request.parameters["kind"] for request in here.asked[1:] if request.recipe == "tiny-xlmr"]
    assert made == ["reranker", "m3"], "each model is made once"
    assert not list((paths.cache() / "accept").iterdir()), "the work folder stayed"


def test_a_gpu_gets_the_large_model(here: Machine) -> None:
    here.says["bge-reranker"] = "failed"
    report = climbed("xpu", only=("speed",))
    assert report.size == "large"
    (made,) = [request for request in here.asked[1:] if request.recipe == "tiny-xlmr"]
    assert dict(made.parameters)["embedding_rows"] == "250002"
    assert (report.facts, report.checks, report.curves) == (None, (), ())


def test_a_model_that_is_given_is_measured(here: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accept.model, "resolve", lambda name, download: None)
    report = climbed(only=("speed",), model="some/reranker")
    assert report.size == "given"
    assert {request.model for request in here.asked[1:]} == {"some/reranker"}


def test_what_fails_does_not_stop_the_rest(here: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Iterator[Check]:
        yield Check(name="first", status="ok")
        raise EngineError("the engine went away", why="who knows")

    monkeypatch.setattr(machine, "checks", broken)
    here.says["bge-m3-unified"] = "failed"
    report = climbed()
    assert [(check.name, check.status) for check in report.checks] == [
        *(("first", "ok"), ("step checks", "failed"))
    ]
    assert [curve.status for curve in report.curves] == ["ok", "ok", "failed", "failed"]
    assert report.curves[2].detail.endswith("Traceback\nBoom")
    assert report.speed[0].status == "ok"
    with pytest.raises(CheckError) as caught:
        accept.judge(report)
    assert caught.value.exit_code == 72
    assert caught.value.problems[0] == "check step checks: the engine went away"


def test_not_even_a_slip_of_ours_stops_the_rest(here: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Iterator[Check]:
        raise KeyError("peak")

    monkeypatch.setattr(machine, "checks", broken)
    report = climbed()
    assert [(check.name, check.status) for check in report.checks] == [("step checks", "failed")]
    assert "KeyError" in report.checks[0].detail
    assert report.speed[0].status == "ok"


def test_without_a_model_what_needs_it_says_so(here: Machine) -> None:
    here.says["tiny-xlmr"] = "failed"
    report = climbed()
    assert {curve.status for curve in report.curves} == {speed.status for speed in report.speed} == {"failed"}
    assert all(curve.detail.startswith("no tiny model: tiny-xlmr ended") for curve in report.curves)
    assert report.complete


@pytest.mark.parametrize("how", [KeyboardInterrupt(), "stopped by SIGINT"])
def test_an_interruption_keeps_what_was_done(here: Machine, how: BaseException | str) -> None:
    here.says["bge-m3-unified"] = how
    report = climbed()
    assert not report.complete
    assert [curve.status for curve in report.curves] == ["ok", "ok"]
    assert report.speed == ()
    accept.judge(report)


def test_without_a_device_nothing_begins(here: Machine) -> None:
    here.says["tiny-xlmr"] = DeviceError("there is no GPU")
    with pytest.raises(DeviceError):
        climbed("xpu")
    assert len(here.asked) == 1


@pytest.mark.parametrize(
    ("asked", "error"),
    [({"only": ("speeds",)}, UsageError), ({"target": "tpu"}, UsageError), ({"model": "./no"}, LaunchError)],
)
def test_what_cannot_be_meant(here: Machine, asked: dict[str, Any], error: type[LaunchError]) -> None:
    with pytest.raises(error):
        climbed(**asked)
    assert here.asked == []


def test_nothing_is_overwritten(here: Machine, tmp_path: Path) -> None:
    (tmp_path / "r.md").write_text("mine")
    with pytest.raises(OutputError):
        accept.place_of("cpu", tmp_path / "r.md")
    written = accept.write(
        climbed(only=("facts",)), tmp_path / "r.md"
    )  # it came while the ladder was climbed
    assert written == tmp_path / "r-2.md"
    assert (tmp_path / "r.md").read_text() == "mine"
    assert written.read_text().startswith("# Acceptance of `cpu`")
    assert accept.place_of("cpu", tmp_path / "new.md") == tmp_path / "new.md"
    assert sorted(path.name for path in tmp_path.glob("*.md")) == ["r-2.md", "r.md"]


def test_a_folder_without_room_for_the_report_is_noticed_first(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no file can be made in"):
        accept.place_of("cpu", tmp_path / "none" / "r.md")
    with pytest.raises(OutputError, match="no file can be made in"):
        accept.place_of("cpu", Path("/proc/r.md"))


def test_uuids_of_gpus_are_unsaid() -> None:
    def used(gpus: str, devices: tuple[str, ...] = ()) -> str:
        return machine._used(SimpleNamespace(access=SimpleNamespace(gpus=gpus, devices=devices)))  # type: ignore[arg-type]

    assert used("GPU-8932f937-d72c,GPU-1234") == "2"
    assert (used("0,1"), used("all"), used("0.0")) == ("0,1", "all", "0.0")
    assert (used(""), used("", ("/dev/dri",))) == ("none", "all")


def test_names_of_this_machine_are_unsaid(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine.socket, "gethostname", lambda: "box.corp.example")
    monkeypatch.setattr(machine.platform, "node", lambda: "localhost")
    monkeypatch.setattr(machine.getpass, "getuser", lambda: "jo")
    (tmp_path / "model of mine").mkdir()
    said = machine.secrets(tmp_path / "work", str(tmp_path / "model of mine")).cleaned(
        f"{tmp_path}/work/a {Path.home()}/b {paths.cache()}/c {tmp_path}/model of mine/d box jo localhost"
    )
    assert said == "[work]/a ~/b [cache]/c [model]/d [host] [user] localhost"
    monkeypatch.setenv("HF_HOME", "/mnt/acme/hf")
    others = f"BOX.other.example, /mnt/acme/hf/hub {paths.runs()}/r1 {Path.cwd()}/x"
    said = machine.secrets(tmp_path / "work").cleaned(others)
    assert said == "[host], [hub]/hub [runs]/r1 [here]/x"
    assert "BAAI" not in str(machine.secrets(tmp_path, "BAAI/bge-reranker-v2-m3").folders)


def test_facts_of_cards_without_what_tells_them_apart() -> None:
    card = {"name": "A", "uuid": "GPU-1", "memory": 5, "capability": (9, 0), "instances": ("MIG-1",)}
    said = machine._cards({"driver": "570", "gpus": (card,)}, memory="memory")
    assert said == {"driver": "570", "gpu": [{"name": "A", "memory_bytes": 5, "capability": "9.0"}]}
    card = {"device": "e211", "bar": 7, "gid": 44, "group": "render", "node": "/dev/dri/renderD128"}
    said = machine._cards({"gpus": (card,)}, memory="bar")
    assert said == {"gpu": [{"device": "8086:e211", "bar_bytes": 7, "node": "/dev/dri/renderD128"}]}


def test_checks_of_an_image_are_those_of_image_check(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def check(name: str, **given: Any) -> Any:
        asked.update(given, name=name)
        outcome = Outcome(check="device", status="needs-gpu", detail="no device here", seconds=1.26)
        return SimpleNamespace(outcomes=(outcome,))

    monkeypatch.setattr(machine.images, "check", check)
    plan: Any = SimpleNamespace(target="cuda", container=True, without=("flash-attn",))
    found = list(machine.checks(plan, settings.load(), Silent()))
    assert found == [Check(name="device", status="needs-gpu", detail="no device here", seconds=1.3)]
    assert (asked["name"], asked["without"], asked["only"]) == ("cuda", ("flash-attn",), ())


def test_checks_of_an_environment_are_the_same_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def here(inside: Any, folder: Path, name: str) -> Outcome:
        asked.append(name)
        assert folder.name.startswith(f"cpu-{inside.lock.digest[:12]}")
        return Outcome(check=name, status="ok", detail="", seconds=0.0)

    monkeypatch.setattr(machine.programs, "run_here", here)
    target = manifest.shipped().target("cpu")
    plan: Any = SimpleNamespace(target="cpu", container=False, without=())
    found = list(machine.checks(plan, settings.load(), Silent()))
    assert asked == [check.name for check in found] == [*target.checks, "size"]


@pytest.mark.parametrize("name", ["pruned", "size"])
def test_what_is_about_images_is_not_run_in_an_environment(name: str, tmp_path: Path) -> None:
    target = manifest.shipped().target("cpu")
    found = run_here(inputs.load(paths.images(), target), tmp_path, name)
    assert (found.status, found.detail) == ("not-run", "it is about images")


def test_a_check_in_an_environment_is_told_what_one_in_an_image_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran: dict[str, Any] = {}

    def run(argv: list[str], **given: Any) -> Completed:
        ran.update(given, argv=argv)
        verdict = json.dumps({"check": "imports", "status": "ok", "detail": "all"})
        return Completed(argv=tuple(argv), returncode=0, stdout=verdict + "\n", stderr="a warning\n")

    monkeypatch.setattr(process, "run", run)
    inside = inputs.load(paths.images(), manifest.shipped().target("cpu"))
    found = run_here(inside, tmp_path / "env", "imports")
    assert (found.status, found.detail) == ("ok", "all")
    assert ran["argv"][0] == str(tmp_path / "env" / "bin" / "python")
    assert ran["env"]["PATH"].startswith(f"{tmp_path / 'env' / 'bin'}:")
    of_image = request(inside, "imports", ())["environment"]
    for name in ("TARGET", "WITHOUT", "CUDA", "ARCHITECTURES", "MINIMUM"):
        assert ran["env"][name] == of_image[name]
    assert all(Path(file).is_file() for file in ran["env"]["LOCKS"].split(":"))
