"""launcher.app.execute: start, follow, judge, record; with an engine that is a few lines of Python."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from launcher import data, paths
from launcher.app import execute, recording
from launcher.app.plan import Planned
from launcher.app.signals import Signals
from launcher.data.profile import profile
from launcher.engines.base import Description, Exit, Phase
from launcher.errors import (
    DeviceError,
    EngineError,
    ImageMissingError,
    OutOfMemoryError,
    OutputError,
    WorldSizeError,
)
from launcher.plan import Folders, RunPlan, Start
from launcher.progress import SilentView

Event = dict[str, Any]


def trained(world: int = 1, *, steps: int = 3, ranks: int | None = None) -> list[Event]:
    """What metrics.jsonl holds after a training."""
    found: list[Event] = []
    for rank in range(world if ranks is None else ranks):
        found.append({"event": "begin", "rank": rank, "world_size": world, "max_steps": 3, "time": 0})
    found += [
        {"event": "step", "rank": 0, "step": n + 1, "loss": 1 / (n + 1), "time": n} for n in range(steps)
    ]
    found += [{"event": "step", "rank": 0, "step": steps, "train_loss": 0.5, "time": steps}]
    found += [{"event": "end", "rank": rank, "step": steps, "time": 9} for rank in range(world)]
    return found


@dataclass
class Request:
    """A submission."""

    run: Path

    def printed(self) -> str:
        return "fake run"


@dataclass
class FakeHandle:
    """A run that writes its events, prints its lines, and ends."""

    run: Path
    end: Exit
    events: list[Event]
    output: list[str]
    during: Callable[[], None] | None = None
    calls: list[object] = field(default_factory=list)

    def waiting(self) -> str:
        return ""

    def phase(self) -> Phase:
        return Phase.ENDED

    def lines(self, log: Path, begins: int, shown: int, *, follow: bool = True) -> Iterator[str]:
        with (self.run / "metrics.jsonl").open("a") as stream:
            for event in self.events:
                stream.write(json.dumps(event) + "\n")
        with log.open("a") as stream:
            stream.writelines(line + "\n" for line in self.output)
        yield from self.output
        if self.during is not None:
            self.during()

    def wait(self) -> Exit:
        self.calls.append("wait")
        return self.end

    def remove(self) -> None:
        self.calls.append("remove")

    def stop(self, grace: float) -> None:
        self.calls.append(("stop", grace))

    def kill(self) -> None:
        self.calls.append("kill")


@dataclass
class FakeEngine:
    """An engine without programs."""

    end: Exit = field(default_factory=lambda: Exit(code=0))
    events: list[Event] = field(default_factory=trained)
    output: list[str] = field(default_factory=lambda: ["hello"])
    during: Callable[[], None] | None = None
    missing: Exception | None = None
    refusal: Exception | None = None
    name: str = "venv"
    handle: FakeHandle | None = None
    secrets: Mapping[str, str] = field(default_factory=dict)

    def check(self, plan: RunPlan) -> None:
        if self.missing is not None:
            raise self.missing

    def where(self) -> str:
        return "here"

    def describe(self, plan: RunPlan) -> Description:
        return Description(image_digest="sha256:1mage", version="9.9", where="here")

    def render(self, plan: RunPlan, folders: Folders, start: Start) -> Request:
        return Request(folders.run)

    def find(self, folders: Folders, start: Start) -> FakeHandle | None:
        return self.handle

    def start(self, submission: Request, secrets: Mapping[str, str]) -> FakeHandle:
        if self.refusal is not None:
            raise self.refusal
        self.secrets = secrets
        self.handle = FakeHandle(submission.run, self.end, self.events, self.output, self.during)
        return self.handle


class Watched(SilentView):
    """Remembers what it was shown."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.events: list[Event] = []
        self.stops: list[float] = []

    def line(self, text: str) -> None:
        self.lines.append(text)

    def event(self, event: Event) -> None:
        self.events.append(event)

    def stopping(self, *, grace: float) -> None:
        self.stops.append(grace)


def planned(bench: Any, engine: FakeEngine, **changes: Any) -> Planned:
    found: Planned = bench.plan(
        target="cpu", data=(bench.data(),), model=str(bench.model()), secrets={"HF_TOKEN": "s3cr3t"}
    )
    return replace(found, engine=engine, plan=replace(found.plan, **changes))


def run(bench: Any, engine: FakeEngine, **changes: Any) -> execute.Ended:
    return execute.execute(execute.begin(planned(bench, engine, **changes)), SilentView(), grace=5)


def record(ended: execute.Ended) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ended.place.run / "result.json").read_text())
    return found


# ------------------------------------------------------------------------------------------- how it ends
def test_success_and_its_record(bench: Any) -> None:
    engine = FakeEngine()
    ended = run(bench, engine)
    assert ended.error is None
    found = record(ended)
    file = bench.data()
    assert found.pop("seconds") >= 0
    assert found.pop("summary")["loss"] == pytest.approx(1 / 3)
    assert found.pop("failure") is None
    assert found.pop("profile") is None
    began = found.pop("started")
    assert began <= found["ended"]
    (attempt,) = found.pop("attempts")
    assert (attempt["began"], attempt["ended"]) == (began, found.pop("ended"))
    assert (attempt["number"], attempt["checkpoint"], attempt["cause"]) == (1, "", "")
    assert (attempt["where"], attempt["log_offset"], attempt["recipe_exit"]) == ("here", 0, 0)
    assert found.pop("run") == ended.place.run.name
    assert found.pop("versions").keys() == {"launcher", "python", "docker"}
    assert found.pop("host")["nvidia"] == 2
    assert found.pop("data") == [
        {"path": str(file), "sha256": data.fingerprint(file), "size": file.stat().st_size, "rows": 4}
    ]
    model = found.pop("model")
    assert (model["name"], len(model["weights_sha256"])) == (str(bench.folder / "models" / "tiny"), 64)
    assert found == {
        "schema": 1,
        "models": {},
        "recipe": "bge-m3-unified",
        "target": "cpu",
        "engine": "docker",
        "stage": "done",
        "exit_code": 0,
        "recipe_exit": 0,
        "error": "",
        "image": "finetune:cpu-0123456789ab",
        "image_digest": "sha256:1mage",
        "lock_digest": "10cc" * 16,
        "world_size": 1,
        "steps": 3,
        "final": {"loss": 1 / 3, "train_loss": 0.5},
        "outputs": {},
        "runtime": None,
        "buckets": None,
    }
    assert engine.secrets == {"HF_TOKEN": "s3cr3t"}


def test_what_the_rows_looked_like_is_recorded(bench: Any) -> None:
    looked = profile([{"query": "how", "pos": ["so", "thus"], "neg": ["никак"]}])
    begun = execute.begin(replace(planned(bench, FakeEngine()), profile=looked))
    found = record(execute.execute(begun, SilentView(), grace=5))["profile"]
    assert [(each["field"], each["most"]) for each in found["lengths"]] == [
        ("query", 3),
        ("pos", 2),
        ("neg", 5),
    ]
    assert dict(found["scripts"]).keys() == {"Latin", "Cyrillic"}


def test_what_the_folder_holds(bench: Any) -> None:
    ended = run(bench, FakeEngine(output=["one", "二"]))
    held = sorted(path.name for path in ended.place.run.iterdir())
    files = ["command", "log.txt", "metrics.jsonl", "models.json", "plan.json", "result.json"]
    assert held == sorted([".lock", *files, "attempts", "output"])
    assert (ended.place.run / "log.txt").read_text() == "one\n二\n"
    assert (ended.place.run / "command").read_text() == "fake run\n"
    assert ended.tail == ("one", "二")
    for path in ended.place.run.iterdir():
        if path.is_file():
            assert "s3cr3t" not in path.read_text()


def test_what_is_being_written_stays_and_what_a_killed_launcher_left_goes(bench: Any) -> None:
    """The digests of the models are written beside the run: its end must not take the file away."""
    begun = execute.begin(planned(bench, FakeEngine()))
    half, writing = begun.place.run / ".result.json.k1ll3d", begun.place.run / ".models.json.n0w"
    half.touch()
    begun = replace(begun, planned=replace(begun.planned, engine=FakeEngine(during=writing.touch)))
    execute.execute(begun, SilentView(), grace=5)
    assert writing.exists()
    assert not half.exists()


def test_the_view_sees_lines_and_events(bench: Any) -> None:
    view = Watched()
    begun = execute.begin(planned(bench, FakeEngine(output=["a", "b"])))
    execute.execute(begun, view, grace=5)
    assert view.lines == ["a", "b"]
    assert view.events == trained()


@pytest.mark.parametrize("code", [1, 2, 3, 127, 130, 255])
def test_exit_code_passes_through(bench: Any, code: int) -> None:
    ended = run(bench, FakeEngine(end=Exit(code=code)))
    assert ended.error is None
    assert (ended.result.exit_code, ended.result.recipe_exit, ended.result.stage) == (code, code, "train")


WORLDS: dict[str, tuple[list[Event], str]] = {
    "each trains alone": (
        [event for _ in range(2) for event in trained(1)],
        "the trainer saw world size 1; 2 was planned",
    ),
    "larger": (trained(4), "the trainer saw world size 4; 2 was planned"),
    "a rank is missing": (trained(2, ranks=1), "ranks [0] trained; 0 to 1 were planned"),
    "a rank twice": (trained(2) + trained(2, ranks=1), "ranks [0, 0, 1] trained; 0 to 1 were planned"),
    "never began": ([], "the trainer never began"),
    "no step": (trained(2, steps=0), "without a single optimiser step"),
}


@pytest.mark.parametrize(("events", "message"), WORLDS.values(), ids=WORLDS.keys())
def test_world_that_was_not_planned(bench: Any, events: list[Event], message: str) -> None:
    ended = run(bench, FakeEngine(events=events), world_size=2, nproc=2)
    assert isinstance(ended.error, WorldSizeError)
    assert message in ended.error.message
    found = record(ended)
    assert (found["stage"], found["exit_code"], found["recipe_exit"]) == (
        "verify",
        WorldSizeError.exit_code,
        0,
    )
    assert message in found["error"]


def test_wrong_world_explains_a_failure_too(bench: Any) -> None:
    ended = run(bench, FakeEngine(events=trained(1, steps=0), end=Exit(code=1)), world_size=2)
    assert isinstance(ended.error, WorldSizeError)
    assert ended.result.recipe_exit == 1


def test_another_device_explains_a_failure(bench: Any) -> None:
    events = [{**event, "device": "xpu:0"} for event in trained(2, steps=0)]
    ended = run(bench, FakeEngine(events=events, end=Exit(code=1)), world_size=2)
    assert isinstance(ended.error, DeviceError)
    assert ended.error.message == "torch saw xpu and not cpu: nothing was trained"
    assert (ended.result.exit_code, ended.result.recipe_exit) == (75, 1)


def test_failure_before_the_training_is_the_recipes_own(bench: Any) -> None:
    ended = run(bench, FakeEngine(events=[], end=Exit(code=1)), world_size=2)
    assert ended.error is None
    assert ended.result.exit_code == 1


def test_recipes_that_do_not_train_have_no_world(bench: Any) -> None:
    ended = run(bench, FakeEngine(events=[]), world_size=0)
    assert (ended.error, ended.result.stage, ended.result.steps) == (None, "done", None)
    assert record(ended)["world_size"] is None


@pytest.mark.parametrize(
    ("end", "line"),
    [
        (Exit(code=137, out_of_memory=True), "…"),
        (Exit(code=1, out_of_memory=True), "KeyError: 'a worker was killed for memory before'"),
        (Exit(code=137, memory_kills=True), "…"),
        (Exit(code=1, memory_kills=True), "  traceback : Signal 9 (SIGKILL) received by PID 4711"),
        (Exit(code=5, memory_kills=True), "/x/hog.sh: line 12: 23493 Killed                  python -c …"),
        (Exit(code=1), "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB"),
        (Exit(code=1), "RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_out_of_memory(bench: Any, end: Exit, line: str) -> None:
    ended = run(bench, FakeEngine(end=end, output=[line]))
    assert isinstance(ended.error, OutOfMemoryError)
    assert (ended.result.exit_code, ended.result.recipe_exit) == (OutOfMemoryError.exit_code, end.code)
    assert ended.result.stage == "train"


def test_a_killed_rank_is_not_said_to_lack_memory(bench: Any) -> None:
    ended = run(
        bench, FakeEngine(end=Exit(code=1), output=["  traceback : Signal 9 (SIGKILL) received by PID 1"])
    )
    assert (ended.error, ended.result.exit_code) == (None, 1)
    assert ended.result.error == "a process of the training was killed by somebody"


@pytest.mark.parametrize("end", [Exit(code=0, out_of_memory=True), Exit(code=1, memory_kills=True)])
def test_another_process_that_lacked_memory_is_not_this_one(bench: Any, end: Exit) -> None:
    ended = run(bench, FakeEngine(end=end, output=["KeyError: 'x'"]))
    assert (ended.error, ended.result.exit_code) == (None, end.code)


def test_what_ended_before_it_was_asked_to_is_its_own_end(bench: Any) -> None:
    engine = FakeEngine(end=Exit(code=3, ended="2026-11-21T20:00:00.000+00:00"), events=[])
    begun = execute.begin(planned(bench, engine))
    engine.during = (begun.place.run / execute.STOPPED).touch
    ended = execute.execute(begun, SilentView(), grace=5)
    assert (ended.result.exit_code, ended.result.error) == (3, "")


def test_a_warning_about_memory_is_no_failure(bench: Any) -> None:
    assert run(bench, FakeEngine(output=["retrying after OutOfMemoryError"])).error is None


def test_out_of_memory_names_the_limit(bench: Any) -> None:
    access = replace(bench.plan(target="cpu").plan.access, memory="4g")
    ended = run(bench, FakeEngine(end=Exit(code=137, out_of_memory=True)), access=access)
    assert ended.error is not None
    assert "(limit 4g)" in ended.error.message


# ----------------------------------------------------------------------------------------- before a start
def test_what_is_missing_leaves_no_record(bench: Any) -> None:
    with pytest.raises(ImageMissingError):
        run(bench, FakeEngine(missing=ImageMissingError("no image")))
    assert not paths.runs().exists()


def test_refused_start_is_recorded(bench: Any) -> None:
    begun = execute.begin(planned(bench, FakeEngine(refusal=DeviceError("no /dev/dri"))))
    with pytest.raises(DeviceError):
        execute.execute(begun, SilentView(), grace=5)
    found = json.loads((begun.place.run / "result.json").read_text())
    assert (found["stage"], found["exit_code"], found["recipe_exit"]) == (
        "start",
        DeviceError.exit_code,
        None,
    )
    assert found["error"] == "no /dev/dri"
    assert (found["steps"], found["final"]) == (0, {})


@pytest.mark.parametrize("used", ["file", "filled folder"])
def test_output_is_never_overwritten(bench: Any, used: str) -> None:
    output = bench.folder / "out"
    inside = output if used == "file" else output / "model.safetensors"
    inside.parent.mkdir(exist_ok=True)
    inside.write_text("precious")
    with pytest.raises(OutputError):
        run(bench, FakeEngine(), output=output)
    assert inside.read_text() == "precious"
    assert not paths.runs().exists()


def test_empty_output_folder_is_used(bench: Any) -> None:
    (bench.folder / "out").mkdir()
    ended = run(bench, FakeEngine(), output=bench.folder / "out")
    assert ended.place.output == bench.folder / "out"
    assert not (ended.place.run / "output").exists()


def test_resumed_run_keeps_its_folder(bench: Any) -> None:
    begun = execute.begin(planned(bench, FakeEngine()))
    again = execute.take_over(begun.planned, begun.place.run, begun.start, begun.lock)
    assert again == begun
    assert execute.execute(again, SilentView(), grace=5).result.stage == "done"
    assert execute.detached_log(begun.place) == begun.place.run / "launcher.log"


# ----------------------------------------------------------------------------------------------- signals
def test_handler_stops_with_grace_then_kills() -> None:
    view = Watched()
    handle = FakeHandle(Path(), Exit(code=0), [], [])
    signals = Signals(view, 7.5)
    signals.attach(handle)
    signals._receive(signal.SIGTERM, None)
    assert (handle.calls, view.stops, signals.received) == ([("stop", 7.5)], [7.5], signal.SIGTERM)
    signals._receive(signal.SIGINT, None)
    assert handle.calls == [("stop", 7.5), "kill"]
    assert (view.stops, signals.received) == ([7.5], signal.SIGTERM)


def test_nohup_is_respected() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals(Watched(), 5):
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_signal_ends_the_run_and_is_recorded(bench: Any, number: signal.Signals, code: int) -> None:
    before = signal.signal(number, signal.SIG_DFL)  # under nohup SIGHUP would be ignored, and stay so
    delivered = threading.Event()

    def interrupt() -> None:  # called in the thread that reads; Python runs handlers in the main one
        os.kill(os.getpid(), number)
        delivered.wait(5)

    engine = FakeEngine(during=interrupt, end=Exit(code=1), events=[])
    begun = execute.begin(planned(bench, engine))
    view = Watched()
    view.stopping = lambda *, grace: delivered.set()  # type: ignore[method-assign]
    try:
        ended = execute.execute(begun, view, grace=5)
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert engine.handle is not None
    assert engine.handle.calls == [("stop", 5), "wait", "remove"]
    found = record(ended)
    assert (found["exit_code"], found["stage"], found["error"]) == (
        code,
        "train",
        f"stopped by {number.name}",
    )


def test_a_signal_during_the_start_stops_the_run_as_soon_as_it_exists() -> None:
    handle = FakeHandle(Path(), Exit(code=0), [], [])
    signals = Signals(Watched(), 7.5)
    signals._receive(signal.SIGTERM, None)
    signals._receive(signal.SIGTERM, None)
    assert handle.calls == []
    signals.attach(handle)
    assert handle.calls == [("stop", 7.5)]


def test_an_error_of_the_launcher_does_not_leave_the_run_behind(bench: Any) -> None:
    engine = FakeEngine()
    begun = execute.begin(planned(bench, engine))
    view = Watched()

    def broken(event: dict[str, Any]) -> None:
        raise RuntimeError("own")

    view.event = broken  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="own"):
        execute.execute(begun, view, grace=5)
    assert engine.handle is not None
    assert engine.handle.calls == ["kill", "wait", "remove"]
    result = json.loads((begun.place.run / "result.json").read_text())
    assert (result["stage"], result["error"]) == ("train", "RuntimeError: own")


def test_handlers_are_left_alone_outside_the_main_thread() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[object] = []

    def inside() -> None:
        with Signals(Watched(), 5):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert seen == [before]


# ---------------------------------------------------------------------------------------------- atomic
@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_no_half_written_result(bench: Any, broken: str) -> None:
    begun = execute.begin(planned(bench, FakeEngine()))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    bench.patch.setattr(*((os, "fsync") if broken == "fsync" else (Path, "replace")), full)
    with pytest.raises(OSError, match="No space"):
        execute.execute(begun, SilentView(), grace=5)
    assert not [path for path in begun.place.run.iterdir() if "result.json" in path.name]


def test_hub_models_are_recorded_by_revision(bench: Any) -> None:
    model = replace(planned(bench, FakeEngine()).plan.model, revision="5" * 40)  # type: ignore[type-var]
    bench.patch.setattr(bench.__class__, "model", lambda self: self.folder / "models" / "tiny")
    found = record(run(bench, FakeEngine(), model=model))["model"]
    assert found == {"name": str(bench.folder / "models" / "tiny"), "revision": "5" * 40}


def test_models_of_parameters_are_recorded_by_their_names(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[Path] = []
    real = recording.model.weights_sha256
    monkeypatch.setattr(
        recording.model, "weights_sha256", lambda item: (hashed.append(item.path), real(item))[1]
    )
    first = planned(bench, FakeEngine()).plan.model
    assert first is not None
    bench.patch.setattr(bench.__class__, "model", lambda self: self.folder / "models" / "tiny")
    of_hub = replace(first, name="org/reranker", revision="5" * 40)
    found = record(run(bench, FakeEngine(), models=(("baseline", first), ("reranker", of_hub))))
    assert found["models"] == {
        "baseline": found["model"],
        "reranker": {"name": "org/reranker", "revision": "5" * 40},
    }
    assert len(found["model"]["weights_sha256"]) == 64
    assert hashed == [first.path]  # many GB are read once


def test_what_ran_beside_the_trainer_is_recorded(bench: Any) -> None:
    beside = {"patches": [{"name": "sparse-head", "version": 1}], "off": ["x"], "options": {"a": 1}}
    table = [{"passage_max_len": 128, "rows": 100, "batch_size": 32}]
    events: list[Event] = [
        {"schema": 1, "event": "runtime", "rank": 0, "time": 0, **beside},
        {"schema": 1, "event": "buckets", "rank": 0, "time": 0, "buckets": table, "batches": 4},
        {"schema": 1, "event": "of another version", "rank": 0, "time": 0},
        *trained(),
    ]
    found = record(run(bench, FakeEngine(events=events)))
    assert (found["runtime"], found["buckets"], found["steps"]) == (beside, table, 3)


def test_engine_that_is_gone_when_it_starts(bench: Any) -> None:
    with pytest.raises(EngineError):
        run(bench, FakeEngine(refusal=EngineError("gone")))
