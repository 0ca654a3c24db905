"""What faults in real runs brought to light (tests/faults), each by itself."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher import paths, runs
from launcher.app import runs as seen
from launcher.app.runs import State
from launcher.engines.base import Phase
from launcher.errors import EngineError, OutputError, RecordError, UsageError
from launcher.plan import Folders
from launcher.progress import Silent
from launcher.runs import Attempt
from tests.unit.test_checkpoints import checkpoint
from tests.unit.test_execute import FakeEngine, FakeHandle, planned
from tests.unit.test_runs_of_others import abandoned, engine, result

__all__ = ["engine"]  # a fixture


def test_an_end_that_cannot_be_written_is_written_later(
    bench: Any, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = abandoned(bench, engine, Phase.ENDED)

    def full(*_: Any, **__: Any) -> None:
        assert not (run / runs.RESERVE).exists()  # what was kept is given free before the first byte
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(paths, "write_atomic", full)
        found = seen.look(run)
        assert (found.state, "No space left" in found.why) == (State.UNKNOWN, True)
    assert seen.look(run).state is State.DONE


def test_a_record_that_goes_away_while_it_is_looked_at(
    bench: Any, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = abandoned(bench, engine, Phase.ENDED)

    def gone(*_: Any) -> None:
        run.rename(run.with_name(".removed-it"))

    monkeypatch.setattr(FakeEngine, "find", gone)
    assert seen.look(run).state is State.UNREADABLE
    assert runs.everything() == []


def test_a_container_that_its_launcher_removes_while_it_is_looked_at(
    bench: Any, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = abandoned(bench, engine, Phase.ENDED)
    attempt = runs.attempts(run)[0]

    def removed(self: FakeHandle) -> Phase:
        runs.write_attempt(run, replace(attempt, ended=runs.now(), recipe_exit=0))
        engine.handle = None
        raise EngineError("the run was lost: its container is gone")

    monkeypatch.setattr(type(engine.handle), "phase", removed)
    monkeypatch.setattr(FakeEngine, "find", lambda self, *_: self.handle)
    assert seen.look(run).state is not State.UNKNOWN


def test_a_resume_that_did_not_come_to_its_start_changes_nothing(bench: Any, engine: FakeEngine) -> None:
    run = abandoned(bench, engine, Phase.ENDED, code=143)
    (run / "stopped").touch()
    assert seen.look(run).state is State.STOPPED
    before = (run / "result.json").read_bytes()
    runs.set_aside_result(run, 1)
    (run / "stopped").unlink()
    assert seen.look(run).state is State.STOPPED
    assert (run / "result.json").read_bytes() == before


def test_who_comes_second_does_not_resume_again(
    bench: Any, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = abandoned(bench, engine, Phase.ENDED, code=9)
    assert seen.look(run).state is State.FAILED
    checkpoint(run / "output", 10)
    take = runs.Lock.take

    def slow(folder: Path) -> runs.Lock:
        """Until the lock is free, another launcher has resumed the run, and failed again."""
        (run / "result.json").write_text(json.dumps({**result(run), "exit_code": 3}))
        return take(folder)

    monkeypatch.setattr(seen.Lock, "take", slow)
    with pytest.raises(UsageError, match="was resumed meanwhile"):
        seen.resume(run, {}, say=lambda _: None, progress=Silent())
    assert not runs.followed(run)


def test_stopping_reaches_the_start_that_came_meanwhile(
    bench: Any, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = abandoned(bench, engine, Phase.RUNNING)
    monkeypatch.setattr(seen, "_PAUSE", 0.0)
    asked: list[int] = []

    def stop(self: FakeHandle, grace: float) -> None:
        number = runs.attempts(run)[-1].number
        asked.append(number)
        if number == 1:  # its launcher was just about to start it again
            runs.write_attempt(run, replace(runs.attempts(run)[0], number=2))
        else:
            engine.handle.state = Phase.ENDED  # type: ignore[union-attr]

    monkeypatch.setattr(type(engine.handle), "stop", stop)
    assert seen.stop(run, grace=0.1).state.over
    assert asked == [1, 2]


def test_a_run_that_cannot_be_prepared_leaves_nothing(
    bench: Any, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plan = planned(bench, engine).plan
    place = runs.folders("ONE", replace(plan, output=tmp_path / "out"))

    def full(place: Folders) -> None:
        place.output.mkdir(parents=True)
        raise OSError(errno.ENOSPC, "No space left on device", str(place.run / runs.RESERVE))

    monkeypatch.setattr("launcher.runs.folder.make", full)
    with pytest.raises(OutputError, match="cannot be made"):
        runs.prepare(plan, "ONE", "docker run …", place)
    assert not place.run.exists()
    runs.refuse_used_output(place.output)  # it is free


def test_an_output_is_given_free_by_its_own_run_alone(tmp_path: Path) -> None:
    place = Folders(run=tmp_path / "ONE", output=tmp_path, home=tmp_path)
    claim = tmp_path / runs.CLAIM
    claim.write_text("ANOTHER\n")
    runs.unclaim(place)
    assert claim.exists()
    claim.write_text("ONE\n")
    runs.unclaim(place)
    runs.unclaim(place)
    assert not claim.exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"number": "1"},
        {"began": "x"},
        {"began": "2026-11-21"},
        {"log_offset": -1},
        {"cause": None},
        {"recipe_exit": "0"},
    ],
)
def test_a_start_with_values_that_no_launcher_writes_is_damaged(
    tmp_path: Path, wrong: dict[str, Any]
) -> None:
    attempt = Attempt(number=1, where="here", image_digest=None, engine_version="9", began=runs.now())
    runs.write_attempt(tmp_path, attempt)
    file = tmp_path / "attempts" / "1.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **wrong}))
    with pytest.raises(RecordError, match="is damaged"):
        runs.attempts(tmp_path)


def test_what_killed_launchers_left_half_written_goes_with_the_end(bench: Any, engine: FakeEngine) -> None:
    run = abandoned(bench, engine, Phase.ENDED)
    halves = [run / ".result.json.x1", run / "attempts" / ".1.json.x2", run / ".plan.json.x3"]
    for half in halves:
        half.write_bytes(os.urandom(9))
    assert seen.look(run).state is State.DONE
    assert not [half for half in halves if half.exists()]


def test_a_late_start_is_not_concluded(
    bench: Any, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the lock, a supervisor that was given up has spoken."""
    run = abandoned(bench, engine, Phase.UNSTARTED)
    phases = [Phase.UNSTARTED, Phase.RUNNING]
    monkeypatch.setattr(type(engine.handle), "phase", lambda self: phases.pop(0))
    assert seen.look(run).state is State.RUNNING
    assert not (run / "result.json").exists()


def test_models_that_cannot_be_read_do_not_take_the_end(bench: Any, engine: FakeEngine) -> None:
    run = abandoned(bench, engine, Phase.ENDED)
    (run / "models.json").write_text("[1")
    assert seen.look(run).state is State.DONE
