"""launcher.app.runs: the state of runs that somebody else started, and their conclusion."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher import runs, secretfile
from launcher.app import execute, place
from launcher.app import runs as seen
from launcher.app.runs import State
from launcher.engines.base import Exit, Phase
from launcher.errors import EngineGoneError, RecordError, UsageError
from launcher.plan import Folders, Start
from launcher.progress import Silent, SilentView
from launcher.replay import Fact
from launcher.runs import Attempt
from tests.unit.test_checkpoints import checkpoint, lose_marker
from tests.unit.test_execute import Event, FakeEngine, FakeHandle, Watched, planned, trained


class Left(FakeHandle):
    """What a killed launcher has left with the engine: a run in some phase, with its output."""

    state = Phase.ENDED

    def phase(self) -> Phase:
        return self.state

    def lines(self, log: Path, begins: int, shown: int, *, follow: bool = True) -> Any:
        yield from super().lines(log, begins, shown, follow=follow)
        self.events, self.output = [], []  # nothing is given twice
        if follow:
            self.state = Phase.ENDED


@pytest.fixture
def engine(bench: Any) -> FakeEngine:
    """The engine of all records of a test."""
    found = FakeEngine()
    bench.patch.setattr(place, "known", lambda plan: found)
    return found


def abandoned(
    bench: Any, engine: FakeEngine, phase: Phase | None, *, code: int = 0, events: list[Event] | None = None
) -> Path:
    """The record of a run whose launcher was killed after its start; ``phase`` None: the engine lost it."""
    begun = execute.begin(planned(bench, engine))
    attempt = Attempt(number=1, where="here", image_digest=None, engine_version="9.9", began=runs.moment())
    begun.place.run.joinpath("log.txt").touch()
    runs.write_attempt(begun.place.run, attempt)
    begun.lock.release()
    if phase is not None:
        reported = trained() if events is None else events
        engine.handle = Left(begun.place.run, Exit(code=code), reported, ["hello"])
        engine.handle.state = phase
    return begun.place.run


def result(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "result.json").read_text()))


@pytest.mark.parametrize(("code", "state"), [(0, State.DONE), (3, State.FAILED)])
def test_the_first_who_looks_concludes_what_has_ended(
    bench: Any, engine: FakeEngine, code: int, state: State
) -> None:
    run = abandoned(bench, engine, Phase.ENDED, code=code)
    assert seen.look(run).state is state
    assert result(run)["exit_code"] == code
    assert result(run)["steps"] == 3
    assert (run / "log.txt").read_text() == "hello\n"
    assert not (run / runs.RESERVE).exists()
    assert isinstance(engine.handle, Left)
    assert engine.handle.calls[-1] == "remove"
    before = (run / "result.json").read_bytes()
    assert seen.look(run).state is state
    assert (run / "result.json").read_bytes() == before


def test_the_verdict_is_that_of_any_run(bench: Any, engine: FakeEngine) -> None:
    run = abandoned(bench, engine, Phase.ENDED, events=[])
    found = seen.look(run)
    assert (found.state, result(run)["exit_code"], result(run)["stage"]) == (State.FAILED, 80, "verify")
    assert "never began" in found.why


def test_what_runs_is_left_alone(bench: Any, engine: FakeEngine) -> None:
    run = abandoned(bench, engine, Phase.RUNNING)
    found = seen.look(run)
    assert (found.state, found.followed) == (State.RUNNING, False)
    assert not (run / "result.json").exists()
    with runs.Lock.take(run):
        assert seen.look(run).followed
        with pytest.raises(UsageError, match="another launcher follows"):
            runs.Lock.take(run)


def test_what_a_launcher_follows_is_not_concluded_by_another(bench: Any, engine: FakeEngine) -> None:
    run = abandoned(bench, engine, Phase.ENDED)
    with runs.Lock.take(run):
        assert seen.look(run).state is State.STARTING
    assert seen.look(run).state is State.DONE


@pytest.mark.parametrize(("phase", "stage"), [(None, "train"), (Phase.UNSTARTED, "start")])
def test_what_the_engine_lost_or_never_started_is_said(
    bench: Any, engine: FakeEngine, phase: Phase | None, stage: str
) -> None:
    run = abandoned(bench, engine, phase)
    found = seen.look(run)
    assert (found.state, result(run)["stage"], result(run)["exit_code"]) == (State.FAILED, stage, 73)
    assert "lost" in found.why or "before the engine started it" in found.why


def test_a_launcher_that_died_before_its_first_start(bench: Any, engine: FakeEngine) -> None:
    begun = execute.begin(planned(bench, engine))
    begun.lock.release()
    assert seen.look(begun.place.run).state is State.FAILED
    assert result(begun.place.run)["stage"] == "start"
    assert not (begun.place.output / runs.CLAIM).exists()


def test_a_launcher_that_died_between_two_starts(bench: Any, engine: FakeEngine) -> None:
    run = abandoned(bench, engine, None)
    (attempt,) = runs.attempts(run)
    runs.write_attempt(run, replace(attempt, ended=runs.moment(), recipe_exit=9, cause="exit code 9"))
    assert seen.look(run).state is State.FAILED
    assert result(run)["exit_code"] == 9


def test_another_machines_run_is_not_judged(bench: Any, engine: FakeEngine) -> None:
    run = abandoned(bench, engine, None)
    bench.patch.setattr(FakeEngine, "where", lambda self: "elsewhere")
    found = seen.look(run)
    assert found.state is State.UNKNOWN
    assert found.why == "it was started on here; this is elsewhere"
    assert not (run / "result.json").exists()


def test_an_engine_that_does_not_answer_is_not_an_end(bench: Any, engine: FakeEngine) -> None:
    run = abandoned(bench, engine, Phase.ENDED)

    def gone(self: FakeEngine, folders: Folders, start: Start) -> None:
        raise EngineGoneError("the engine does not answer any more; it may still run")

    bench.patch.setattr(FakeEngine, "find", gone)
    assert seen.look(run).state is State.UNKNOWN
    assert not (run / "result.json").exists()


@pytest.mark.parametrize("name", ["plan.json", "result.json", "attempts/1.json"])
@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 99}', '{"schema": 1}', "\x00"])
def test_unknown_versions_and_garbage_are_refused_politely(
    bench: Any, engine: FakeEngine, name: str, content: str
) -> None:
    run = abandoned(bench, engine, Phase.ENDED)
    (run / name).write_text(content)
    found = seen.look(run)
    assert found.state is State.UNREADABLE
    assert name in found.why
    assert (run / name).read_text() == content
    with pytest.raises(RecordError):
        seen.attach(run, SilentView())


# ------------------------------------------------------------------------------------------------ attach
def test_attaching_follows_and_concludes(bench: Any, engine: FakeEngine) -> None:
    run = abandoned(bench, engine, Phase.RUNNING)
    view = Watched()
    record = seen.attach(run, view)
    assert record.result is not None
    assert record.result["stage"] == "done"
    assert (view.lines, view.events) == (["hello"], trained())


def test_attaching_to_what_is_over_shows_it(bench: Any, engine: FakeEngine) -> None:
    run = abandoned(bench, engine, Phase.ENDED)
    seen.look(run)
    view = Watched()
    seen.attach(run, view)
    assert (view.lines, view.events) == (["hello"], trained())


def test_a_looker_on_leaves_the_run_alone(bench: Any, engine: FakeEngine) -> None:
    run = abandoned(bench, engine, Phase.RUNNING)
    view = Watched()

    def leave(text: str) -> None:
        raise KeyboardInterrupt

    view.line = leave  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        seen.attach(run, view)
    assert engine.handle is not None
    assert engine.handle.calls == []
    assert not runs.followed(run)
    assert not (run / "result.json").exists()


# -------------------------------------------------------------------------------------------------- stop
def test_stopping_from_elsewhere(bench: Any, engine: FakeEngine) -> None:
    run = abandoned(bench, engine, Phase.RUNNING, code=143)
    handle = engine.handle
    assert isinstance(handle, Left)

    def stop(grace: float) -> None:
        handle.calls.append(("stop", grace))
        handle.state = Phase.ENDED

    handle.stop = stop  # type: ignore[method-assign]
    found = seen.stop(run, grace=7)
    assert (found.state, found.why) == (State.STOPPED, "stopped by launch runs stop")
    assert handle.calls[0] == ("stop", 7)
    assert result(run)["exit_code"] == 143
    with pytest.raises(UsageError, match="does not run: stopped"):
        seen.stop(run, grace=7)


def test_what_ended_well_before_it_was_asked_to_is_done(bench: Any, engine: FakeEngine) -> None:
    run = abandoned(bench, engine, Phase.ENDED)
    (run / execute.STOPPED).touch()
    assert seen.look(run).state is State.DONE


# ---------------------------------------------------------------------------------------------------- rm
def test_removing(bench: Any, engine: FakeEngine) -> None:
    run = abandoned(bench, engine, Phase.RUNNING)
    with pytest.raises(UsageError, match="is running: it cannot be removed"):
        seen.remove(run)
    assert isinstance(engine.handle, Left)
    engine.handle.state = Phase.ENDED
    seen.look(run)
    engine.handle.calls.clear()
    seen.remove(run)
    assert engine.handle.calls == ["remove"]  # its launcher may have been killed before it did that
    assert not list(run.parent.iterdir())
    with pytest.raises(UsageError, match="there is no run"):
        runs.find(run.name)


def test_removing_a_run_that_nobody_concludes_takes_its_secrets(bench: Any, engine: FakeEngine) -> None:
    run = abandoned(bench, engine, Phase.RUNNING)
    secret = replace(runs.load(run).plan, secrets=("HF_TOKEN",))
    shared, other = (
        secretfile.on_nodes(secret, Start(run=name), run.parent, seen="") for name in (run.name, "other")
    )
    assert shared is not None
    assert other is not None
    for file in (shared, other):
        with secretfile.handed(file, {"HF_TOKEN": "s3cr3t"}, read=True):
            pass
    (run / "plan.json").write_text("no plan")
    with pytest.raises(UsageError, match="it cannot be removed"):
        seen.remove(run)
    assert shared.path.exists()
    seen.remove(run, force=True)
    assert [shared.path.exists(), other.path.exists()] == [False, True]


# ------------------------------------------------------------------------------------- resume and restart
def failed_with(bench: Any, engine: FakeEngine, *steps: int) -> Path:
    """A run that has failed, with checkpoints."""
    run = abandoned(bench, engine, Phase.ENDED, code=1)
    for step in steps:
        checkpoint(run / "output", step)
    assert seen.look(run).state is State.FAILED
    bench.patch.setattr(place, "of", lambda plan, progress: engine)
    bench.patch.setattr("launcher.app.sameness.of_plan", lambda plan: [])
    return run


def resumed(run: Path) -> execute.Begun:
    said: list[str] = []
    return seen.resume(run, {"HF_TOKEN": "s3cr3t"}, say=said.append, progress=Silent())


def test_resuming_from_the_last_complete_checkpoint(bench: Any, engine: FakeEngine) -> None:
    run = failed_with(bench, engine, 2, 4)
    lose_marker(run / "output" / "checkpoint-4")
    (attempt,) = runs.attempts(run)
    runs.write_attempt(run, replace(attempt, image_digest="sha256:1mage"))
    begun = resumed(run)
    assert begun.start == Start(run=run.name, attempt=2, checkpoint="checkpoint-2")
    assert (run / "output" / "incomplete-1-checkpoint-4").is_dir()
    assert not (run / "result.json").exists()
    engine.events = [{**event, "attempt": 2} for event in trained()]
    ended = execute.execute(begun, SilentView(), grace=5)
    assert ended.result.stage == "done"
    assert [(item["number"], item["checkpoint"]) for item in ended.result.attempts] == [
        (1, ""),
        (2, "checkpoint-2"),
    ]
    assert json.loads((run / "attempts" / "1.result.json").read_text())["exit_code"] == 1
    with pytest.raises(UsageError, match="is done: there is nothing to resume"):
        resumed(run)


def test_what_cannot_be_resumed_stays_as_it_is(bench: Any, engine: FakeEngine) -> None:
    run = failed_with(bench, engine)
    before = (run / "result.json").read_bytes()
    with pytest.raises(RecordError, match="has no complete checkpoint"):
        resumed(run)
    checkpoint(run / "output", 2)
    (attempt,) = runs.attempts(run)
    runs.write_attempt(run, replace(attempt, image_digest="sha256:0ther"))
    with pytest.raises(RecordError, match="is another one now"):
        resumed(run)
    other = Fact(kind="recipe", subject="the recipe r.sh", was="1", now="2")
    bench.patch.setattr("launcher.app.sameness.of_plan", lambda plan: [other])
    with pytest.raises(RecordError, match="cannot be repeated: recipe"):
        resumed(run)
    assert (run / "result.json").read_bytes() == before
    assert not runs.followed(run)


class Crashing(FakeEngine):
    """Ends badly as often as it has codes left, each start with a checkpoint."""

    codes: tuple[int, ...] = ()
    starts: list[Start]

    def render(self, plan: Any, folders: Folders, start: Start) -> Any:
        self.rendered = start
        return super().render(plan, folders, start)

    def start(self, submission: Any, secrets: Any) -> FakeHandle:
        number = self.rendered.attempt
        self.starts = [*getattr(self, "starts", []), self.rendered]
        self.end = Exit(code=self.codes[number - 1])
        reported = trained() if number == 1 else [{**event, "attempt": number} for event in trained()]
        self.events = reported if self.events else []
        checkpoint(submission.run / "output", number)
        return super().start(submission, secrets)


@pytest.mark.parametrize(
    ("codes", "restarts", "code"),
    [((1, 137, 0), 2, 0), ((1, 1, 1), 1, 1), ((1, 0), 0, 1), ((0,), 5, 0)],
)
def test_restarts_after_a_crash(bench: Any, codes: tuple[int, ...], restarts: int, code: int) -> None:
    engine = Crashing()
    engine.codes = codes
    begun = execute.begin(planned(bench, engine))
    ended = execute.execute(begun, SilentView(), grace=5, restarts=restarts)
    assert ended.result.exit_code == code
    count = min(len(codes), restarts + 1)
    assert [start.checkpoint for start in engine.starts] == [
        "",
        *(f"checkpoint-{number}" for number in range(1, count)),
    ]
    causes = [item["cause"] for item in ended.result.attempts]
    assert causes == [f"exit code {one}" if one else "" for one in codes[:count]]


def test_what_crashed_before_its_training_is_not_started_again(bench: Any) -> None:
    engine = Crashing(events=[])
    engine.codes = (1, 0)
    ended = execute.execute(execute.begin(planned(bench, engine)), SilentView(), grace=5, restarts=3)
    assert (ended.result.exit_code, len(engine.starts)) == (1, 1)


def test_what_was_stopped_is_not_started_again(bench: Any) -> None:
    engine = Crashing()
    engine.codes = (143, 0)
    begun = execute.begin(planned(bench, engine))
    engine.during = (begun.place.run / execute.STOPPED).touch
    ended = execute.execute(begun, SilentView(), grace=5, restarts=3)
    assert (ended.result.error, len(engine.starts)) == ("stopped by launch runs stop", 1)
