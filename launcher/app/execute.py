"""From a plan to a result: start, follow, judge, record; again, if that was asked for."""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from launcher import metrics, runs, secretfile
from launcher.app import verdict
from launcher.app.plan import Planned
from launcher.app.recording import Recorder, note_profile
from launcher.app.signals import Signals
from launcher.app.verdict import Outcome
from launcher.engines.base import Exit, Handle
from launcher.errors import EngineGoneError, LaunchError, TakenAwayError
from launcher.metrics import Reader
from launcher.plan import Folders, Start
from launcher.progress import RunView, SilentView
from launcher.runs import Attempt, Lock, Result, checkpoints

#: Lines of the log that a verdict looks at, and that are shown of a run that failed.
_TAIL = 40

#: ``launch runs stop`` leaves it in a record: the end was asked for.
STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A run whose record exists, and which has not started yet, or not again."""

    planned: Planned
    place: Folders
    start: Start
    lock: Lock


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A run that is over; ``error`` is what the launcher has to say beside the recipe's own exit code."""

    result: Result
    place: Folders
    tail: tuple[str, ...]
    error: LaunchError | None = None


def begin(planned: Planned, *, run: str = "", parent: Path | None = None) -> Begun:
    """Check everything that can be checked before the start, then write the record's first part.

    Args:
        run: its id; empty: a new one.
        parent: the folder of run records; None: the working folder's ``runs``.
    """
    start = Start(run=run or runs.new_id(planned.plan.recipe))
    place = runs.folders(start.run, planned.plan, parent)
    runs.refuse_used_output(place.output)
    planned.engine.check(planned.plan)
    submission = planned.engine.render(planned.plan, place, start)
    lock = runs.prepare(planned.plan, start.run, submission.printed(), place)
    if planned.profile is not None:
        note_profile(planned.profile, place.run)
    return Begun(planned=planned, place=place, start=start, lock=lock)


def take_over(planned: Planned, run: Path, start: Start, lock: Lock) -> Begun:
    """The begun run of another process, whose lock this one has inherited."""
    place = runs.folders(run.name, planned.plan, parent=run.parent)
    return Begun(planned=planned, place=place, start=start, lock=lock)


def execute(begun: Begun, view: RunView, *, grace: float, restarts: int = 0) -> Ended:
    """Run it to its end; the record is complete when this returns or raises.

    Args:
        begun: what to start.
        view: shows it.
        grace: seconds between SIGTERM and SIGKILL.
        restarts: how often it is started again, from its last complete checkpoint, when it has crashed.

    Raises:
        EngineGoneError: the engine stopped answering; whoever looks at the run later concludes it.
        LaunchError: the engine refused to start it.
    """
    place, start = begun.place, begun.start
    recorder = Recorder(begun.planned, place, following=True)
    # Signals are caught before the start: a run that is being made must not outlive a Ctrl-C.
    with begun.lock, Signals(view, grace) as signals:
        while True:
            attempt, handle = _started(begun, start, recorder, signals)
            _followed(handle, attempt, place, view, recorder)
            outcome = judge(
                begun.planned, place, attempt, handle.wait, recorder, stopped=signals.name, asked=signals.at
            )
            attempt = recorder.end(attempt, outcome)
            again = None if signals.received else _next(start, outcome, place, recorder, restarts, view)
            restarts -= 1
            if again is None:
                break
            handle.remove()
            start = again
            with suppress(OSError):  # a full disk has no room to keep for the end; the start is tried anyway
                runs.make(place)
        result = recorder.close(outcome)
        handle.remove()
        secretfile.forget(
            start.run, place.run.parent
        )  # a supervisor that was killed at once never came to it
    return ended(result, place, outcome, attempt)


def ended(result: Result, place: Folders, outcome: Outcome, attempt: Attempt) -> Ended:
    """What is shown of a run that is over."""
    tail = tuple(runs.tail(place.run / "log.txt", attempt.log_offset, _TAIL))
    return Ended(result=result, place=place, tail=tail, error=outcome.error)


def submit(begun: Begun) -> None:
    """Hand a run to the site's engine, and leave it: whoever sees its end concludes the record.

    Raises:
        LaunchError: the engine refused it.
    """
    recorder = Recorder(begun.planned, begun.place, following=True)
    with begun.lock, Signals(SilentView(), grace=0) as signals:
        _started(begun, begun.start, recorder, signals)
        recorder.hashed()


def _started(begun: Begun, start: Start, recorder: Recorder, signals: Signals) -> tuple[Attempt, Handle]:
    """Put the start on the record, and start it.

    Raises:
        LaunchError: the engine refused; the record says so.
    """
    planned, place = begun.planned, begun.place
    attempt: Attempt | None = None
    try:
        described = planned.engine.describe(planned.plan)
        log = place.run / "log.txt"
        log.touch()
        attempt = Attempt(
            number=start.attempt,
            checkpoint=start.checkpoint,
            log_offset=log.stat().st_size,
            where=described.where,
            image_digest=described.image_digest,
            engine_version=described.version,
            began=runs.moment(),
        )
        runs.write_attempt(place.run, attempt)
        submission = planned.engine.render(planned.plan, place, start)
        handle = planned.engine.start(submission, planned.secrets)
    except BaseException as broken:
        refused = verdict.refused(broken, stage="start")
        if attempt is not None:
            recorder.end(attempt, refused)
        recorder.close(refused)
        if start.attempt == 1:
            runs.unclaim(place)
        raise
    signals.attach(handle)
    return attempt, handle


def _followed(handle: Handle, attempt: Attempt, place: Folders, view: RunView, recorder: Recorder) -> None:
    """Follow a run of one's own; whatever breaks here, the run does not stay."""
    try:
        follow(handle, attempt, place, view, recorder.reported)
    except EngineGoneError:
        raise  # it may go on
    except OSError:  # a full disk, a terminal that is gone: no reason to end a training
        with suppress(LaunchError):
            handle.wait()
        with suppress(LaunchError, OSError):
            catch_up(handle, attempt, place)
    except BaseException as broken:
        handle.kill()
        with suppress(LaunchError):
            handle.wait()
        outcome = verdict.refused(broken, stage="train")
        recorder.end(attempt, outcome)
        recorder.close(outcome)
        handle.remove()
        raise


def catch_up(handle: Handle, attempt: Attempt, place: Folders) -> None:
    """Bring into the log what the engine has of a start so far, and the log has not."""
    log = place.run / "log.txt"
    for _ in handle.lines(log, attempt.log_offset, log.stat().st_size, follow=False):
        pass


def follow(
    handle: Handle,
    attempt: Attempt,
    place: Folders,
    view: RunView,
    reported: Reader,
    *,
    shown: int | None = None,
) -> None:
    """Write the log and show the progress until the run ends.

    Args:
        shown: how much of the log was shown already, in bytes; None: nothing of this start.
    """
    begins = attempt.log_offset
    broken: list[BaseException] = []

    def read() -> None:
        try:
            for line in handle.lines(place.run / "log.txt", begins, begins if shown is None else shown):
                view.line(line)
        except BaseException as error:  # noqa: BLE001 - raised again where the run can be ended
            broken.append(error)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    why = ""
    while reader.is_alive():
        reader.join(0.1)
        before, why = why, handle.waiting()
        if why and why != before:
            view.notice(f"pending: {why}")
        elif before and not why:
            view.notice("it runs")
        for event in reported.new():
            view.event(event)
    if broken:
        raise broken[0]
    for event in reported.new():
        view.event(event)


def judge(
    planned: Planned,
    place: Folders,
    attempt: Attempt,
    end: Callable[[], Exit],
    recorder: Recorder,
    *,
    stopped: str = "",
    asked: str = "",
) -> Outcome:
    """What became of one start, once it has ended.

    Args:
        end: says how it ended.
        stopped, asked: by which signal, and when; empty: by none.

    Raises:
        EngineGoneError: the engine stopped answering.
    """
    try:
        found = end()
    except EngineGoneError:
        raise
    except LaunchError as lost:
        # What the site has taken away may go on elsewhere.
        return replace(verdict.refused(lost, stage="train"), crashed=isinstance(lost, TakenAwayError))
    recorder.reported.new()
    marker = place.run / STOPPED
    if not stopped and marker.exists():
        stopped, asked = verdict.STOP, runs.moment(marker.stat().st_mtime)
    outcome = verdict.judge(
        planned.plan,
        found,
        metrics.of_attempt(recorder.reported.events, attempt.number + found.restarts),
        runs.tail(place.run / "log.txt", attempt.log_offset, _TAIL),
        stopped=stopped,
        asked=asked,
        log=place.run / "log.txt",
    )
    return replace(outcome, restarts=found.restarts)


def _next(
    start: Start, outcome: Outcome, place: Folders, recorder: Recorder, restarts: int, view: RunView
) -> Start | None:
    """Where to start again; None: it is over.

    What crashed before its training began would crash there again.
    """
    events = metrics.since(recorder.reported.events, start.attempt)
    began = any(event.get("event") == "begin" for event in events)
    if not (outcome.crashed and began and restarts > 0) or (place.run / STOPPED).exists():
        return None
    number = max(start.attempt, *metrics.attempts(events))
    following = next_start(start.run, number, place.output, view.notice)
    why = outcome.message or f"exit code {outcome.exit_code}"
    whence = following.checkpoint or "the beginning"
    view.notice(f"{why}: starting again from {whence} ({restarts} restart{'s' if restarts > 1 else ''} left)")
    return following


def next_start(run: str, number: int, output: Path, say: Callable[[str], None]) -> Start:
    """The start after attempt ``number``: from the last complete checkpoint, if there is one.

    Checkpoints that are not complete are moved out of the trainer's way.
    """
    found, broken = checkpoints.last_complete(output)
    for one in broken:
        kept = checkpoints.set_aside(one)
        say(f"{one.folder.name} is not complete ({'; '.join(one.problems)}): moved to {kept.name}")
    return replace(Start(run=run, attempt=number + 1), checkpoint="" if found is None else found.folder.name)


def detached_log(place: Folders) -> Path:
    """Where a detached launcher writes what it would have shown."""
    return place.run / "launcher.log"
