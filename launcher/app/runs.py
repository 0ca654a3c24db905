"""Runs that somebody started: what state they are in, and what can be done with them.

The state is the engine's word, never a guess from what the record holds. A run whose launcher is gone is
concluded by the first command that sees its end: with the same verdict and the same record as any other.
"""

import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from launcher import metrics, paths, runs, secretfile, texts
from launcher.app import conclusion, execute, place
from launcher.app import plan as planning
from launcher.app.execute import Begun
from launcher.app.plan import Planned
from launcher.engines.base import Handle, Phase
from launcher.engines.docker import DockerEngine
from launcher.errors import EngineError, EngineGoneError, LaunchError, RecordError, UsageError
from launcher.metrics import Reader
from launcher.plan import Start
from launcher.progress import Progress, RunView
from launcher.runs import Lock, Record

#: Seconds between two looks at a run that another launcher follows.
_PAUSE = 0.2

#: Seconds that a launcher may take between a run's end and its result: a model's weights are hashed.
_CONCLUSION = 60.0


class State(StrEnum):
    """What a run is doing."""

    STARTING = "starting"
    PENDING = "pending"  # the site's engine has it, and has no nodes for it yet
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"
    UNKNOWN = "unknown"  # its engine does not answer, or is another machine's
    UNREADABLE = "unreadable"  # of another version, or damaged

    @property
    def over(self) -> bool:
        """It has ended, and its record is complete."""
        return self in (State.DONE, State.FAILED, State.STOPPED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A run as it was found.

    Attributes:
        why: of a state that needs a reason; of a run that failed, its error.
        followed: a launcher follows it, and will conclude its record.
        record: None when it cannot be read.
    """

    folder: Path
    state: State
    why: str = ""
    followed: bool = False
    record: Record | None = None


def look(folder: Path) -> Seen:
    """The state of a run; one that has ended unobserved is concluded."""
    try:
        return _look(folder)
    except EngineGoneError as error:
        return _unknown(folder, error.message)
    except EngineError:  # it lost a container between two questions: its launcher has just removed it
        pass
    except RecordError as error:
        return Seen(folder=folder, state=State.UNREADABLE, why=error.message)
    except (LaunchError, OSError) as error:
        return _unknown(folder, str(error))
    try:
        return _look(folder)
    except (LaunchError, OSError) as error:
        return _unknown(folder, str(error))


def _look(folder: Path) -> Seen:
    record = runs.load(folder)
    if record.result is not None:
        return _over(record)
    followed = runs.followed(folder)
    handle = _handle(record)
    phase = None if handle is None else handle.phase()
    if handle is not None and phase is Phase.PENDING:
        why = handle.waiting()
        return Seen(folder=folder, state=State.PENDING, why=why, followed=followed, record=record)
    if phase is Phase.RUNNING:
        return Seen(folder=folder, state=State.RUNNING, followed=followed, record=record)
    if followed:
        return Seen(folder=folder, state=State.STARTING, followed=True, record=record)
    return _concluded(folder)


def _unknown(folder: Path, why: str) -> Seen:
    """What cannot be found out now: nothing is concluded. A record may go away while it is looked at."""
    try:
        record = runs.load(folder)
        return Seen(
            folder=folder, state=State.UNKNOWN, why=why, followed=runs.followed(folder), record=record
        )
    except (RecordError, OSError):
        return Seen(folder=folder, state=State.UNREADABLE, why=why)


def _over(record: Record) -> Seen:
    result = record.result or {}
    why = str(result.get("error") or "")
    stopped = why.startswith(texts.STOPPED_BY)
    code = result.get("exit_code")
    state = State.STOPPED if stopped else State.FAILED if code else State.DONE
    if code and not why:
        why = f"exit code {code}"
    return Seen(folder=record.folder, state=state, why=why, record=record)


def _handle(record: Record) -> Handle | None:
    """What the engine knows of the newest start; None: nothing.

    Raises:
        EngineGoneError: the engine does not answer, or is not the one that it was started on.
    """
    if not record.attempts:
        return None
    attempt, engine = record.attempts[-1], place.known(record.plan)
    if attempt.where != (here := engine.where()):
        raise EngineGoneError(f"it was started on {attempt.where}; this is {here}")
    return engine.find(record.place, Start(run=record.id, attempt=attempt.number))


def _concluded(folder: Path) -> Seen:
    """Conclude a run that nobody follows, and that does not run."""
    try:
        lock = Lock.take(folder)
    except UsageError:  # somebody was faster
        return Seen(folder=folder, state=State.STARTING, followed=True, record=runs.load(folder))
    with lock:
        record = runs.load(folder)
        if record.result is None:
            handle = _handle(record)
            if handle is not None and handle.phase().going:  # it was started late
                return Seen(folder=folder, state=State.RUNNING, record=record)
            conclusion.conclude(record, planning.known(record.plan), handle)
    return _over(runs.load(folder))


def catch_up(folder: Path) -> None:
    """Bring the log up to date; where a launcher follows the run it always is.

    Raises:
        RecordError: the record cannot be read.
    """
    seen = look(folder)
    if seen.state not in (State.RUNNING, State.PENDING) or seen.followed:
        return
    with suppress(UsageError), Lock.take(folder):
        record = runs.load(folder)
        handle = None if record.result else _handle(record)
        if handle is not None:
            execute.catch_up(handle, record.attempts[-1], record.place)


def attach(folder: Path, view: RunView, *, shown: int = 0) -> Record:
    """Look on until a run ends; one that nobody follows is followed and concluded.

    A Ctrl-C ends the looking, not the run.

    Args:
        shown: how much of the log was shown already, in bytes.

    Raises:
        RecordError: the record cannot be read.
        EngineGoneError: the engine does not answer.
    """
    reported = Reader(folder / "metrics.jsonl")
    while True:
        seen = look(folder)
        if seen.record is None:
            raise RecordError(f"{folder.name}: {seen.why}")
        if seen.state is State.UNKNOWN:
            raise EngineGoneError(f"{folder.name}: {seen.why}")
        shown = _show(folder, view, reported, shown)
        if seen.state.over:
            return seen.record
        if seen.followed:
            shown = _watched(folder, view, reported, shown)
        else:
            shown = _followed(folder, view, reported, shown)


def _followed(folder: Path, view: RunView, reported: Reader, shown: int) -> int:
    """Follow a run to its end, unless it has one, or another launcher follows it; returns what was shown."""
    with suppress(UsageError), Lock.take(folder):
        record = runs.load(folder)
        handle = None if record.result else _handle(record)
        if handle is not None and handle.phase().going:
            execute.follow(handle, record.attempts[-1], record.place, view, reported, shown=shown)
            shown = record.log.stat().st_size
            conclusion.conclude(record, planning.known(record.plan), handle)
    return shown


def _watched(folder: Path, view: RunView, reported: Reader, shown: int) -> int:
    """Show what another launcher writes, for as long as it follows the run; returns what was shown."""
    going_on = True
    while going_on:
        time.sleep(_PAUSE)
        going_on = runs.followed(folder) and not (folder / "result.json").exists()
        shown = _show(folder, view, reported, shown)
    return shown


def _show(folder: Path, view: RunView, reported: Reader, shown: int) -> int:
    """Show what log and metrics have gained; returns how much of the log was shown, in whole lines."""
    log = folder / "log.txt"
    if log.is_file():
        with log.open("rb") as stream:
            stream.seek(shown)
            block = stream.read()
        whole = block[: block.rfind(b"\n") + 1]
        shown += len(whole)
        for line in whole.splitlines():
            view.line(line.decode(errors="replace"))
    for event in reported.new():
        view.event(event)
    return shown


def stop(folder: Path, *, grace: float) -> Seen:
    """End a run from anywhere: SIGTERM, SIGKILL after ``grace`` seconds, and a complete record.

    Raises:
        UsageError: it does not run.
        EngineError: it does not end.
    """
    seen = look(folder)
    if seen.state not in (State.RUNNING, State.STARTING, State.PENDING):
        raise UsageError(f"{folder.name} does not run: {seen.state} {seen.why}".rstrip())
    with suppress(OSError):  # where nothing can be written it ends all the same, as one that was killed
        (folder / execute.STOPPED).touch()
    deadline, asked = time.monotonic() + grace + _CONCLUSION, 0
    while time.monotonic() < deadline:
        record = runs.load(folder)
        newest = record.attempts[-1].number if record.attempts else 0
        handle = None if record.result or asked == newest else _handle(record)
        # Of every start: its launcher may have been about to start it again. What is only made hears nothing.
        if handle is not None and handle.phase().going:
            handle.stop(grace)
            asked = newest
        seen = look(folder)
        if seen.state.over:
            return seen
        time.sleep(_PAUSE)
    raise EngineError(f"{folder.name} was asked to end, and has not", hint=f"launch runs show {folder.name}")


def remove(folder: Path, *, force: bool = False) -> None:
    """Delete a record, and the output in it; an output folder elsewhere stays.

    Args:
        folder: of the run.
        force: also where nobody can say whether it still runs.

    Raises:
        UsageError: it runs, or its state cannot be found out.
    """
    seen = look(folder)
    blind = seen.state in (State.UNREADABLE, State.UNKNOWN)
    if not (seen.state.over or (blind and force)):
        raise UsageError(
            f"{folder.name} is {seen.state}: it cannot be removed",
            why=seen.why,
            hint="--force, if you know that it is over" if blind else f"launch runs stop {folder.name}",
        )
    with Lock.take(folder):
        if seen.state.over and runs.load(folder).result is None:
            raise UsageError(f"{folder.name} was resumed meanwhile", hint=f"launch runs stop {folder.name}")
        _forget_container(seen)
        secretfile.forget(folder.name, folder.parent)
        going = folder.rename(folder.with_name(f".removed-{folder.name}"))  # never seen half of it
    shutil.rmtree(going)
    (paths.known_runs() / folder.name).unlink(missing_ok=True)


def _forget_container(seen: Seen) -> None:
    """Without its record nobody would know that a container is left of the run."""
    if seen.record is not None and seen.state.over:
        with suppress(EngineError):
            if (handle := _handle(seen.record)) is not None:
                handle.remove()


def resume(
    folder: Path, secrets: Mapping[str, str], *, say: Callable[[str], None], progress: Progress
) -> Begun:
    """Begin the next start of a run that has ended badly, from its last complete checkpoint.

    Raises:
        UsageError: it runs, is done, or does not train.
        RecordError: there is no complete checkpoint, or what the plan names is not what it was.
    """
    seen = look(folder)
    if seen.record is None or not seen.state.over or seen.state is State.DONE:
        raise UsageError(
            f"{folder.name} is {seen.state}: there is nothing to resume",
            why=seen.why,
            hint=f"launch runs show {folder.name}",
        )
    if not seen.record.plan.world_size:
        recipe = seen.record.plan.recipe
        raise UsageError(f"{recipe} does not train: it has no checkpoints", hint="run it again")
    lock = Lock.take(folder)
    try:
        record = runs.load(folder)
        if record.result != seen.record.result:  # somebody was faster, and has ended already
            raise UsageError(f"{folder.name} was resumed meanwhile", hint=f"launch runs show {folder.name}")
        planned = planning.again(record.plan, folder.name, secrets, progress=progress)
        _refuse_another_image(record, planned)
        start = _next_start(record, say)
        prepare_again(record, start)
    except BaseException:
        lock.release()
        raise
    return Begun(planned=planned, place=record.place, start=start, lock=lock)


def _refuse_another_image(record: Record, planned: Planned) -> None:
    before = record.attempts[-1].image_digest if record.attempts else None
    now = planned.engine.describe(planned.plan).image_digest
    if before is not None and now != before:
        raise RecordError(
            f"the image {record.plan.image} is another one now",
            why=f"the run began in {before}; this is {now}",
            hint="build that one again, or start a new run",
        )


def _next_start(record: Record, say: Callable[[str], None]) -> Start:
    # What reported under a number has it, also when the engine that started it again could not say so.
    reported = metrics.attempts(metrics.read(record.metrics))
    number = max([*(attempt.newest for attempt in record.attempts), *reported], default=0)
    start = execute.next_start(record.id, number, record.output, say)
    if not start.checkpoint:
        raise RecordError(
            f"{record.id} has no complete checkpoint in {record.output}",
            why="it ended before the first one, or a smaller --save-steps was needed",
            hint=f"launch run --plan {record.folder / 'plan.json'} begins it anew",
        )
    return start


def prepare_again(record: Record, start: Start) -> None:
    """Make the record ready for another start."""
    last = max((attempt.number for attempt in record.attempts), default=start.attempt - 1)
    runs.set_aside_result(record.folder, last)
    (record.folder / execute.STOPPED).unlink(missing_ok=True)
    runs.make(record.place)
    runs.own(record.place, record.plan.uid, record.plan.gid)


def tidy(seen: Iterable[Seen]) -> None:
    """Remove what outlived the records' end, because a launcher was killed: containers, files of secrets."""
    secretfile.sweep()
    over = {one.record.id: one for one in seen if one.record is not None and one.state.over}
    names = {one.record.plan.engine for one in over.values() if one.record} & {"docker", "podman"}
    for name in sorted(names):
        with suppress(EngineError):
            for run, handle in DockerEngine("podman" if name == "podman" else "docker", patience=5).every():
                # Asked again: a run may have been resumed since.
                if run in over and _left(over[run].folder) and handle.phase() is not Phase.RUNNING:
                    handle.remove()


def _left(folder: Path) -> bool:
    return (folder / "result.json").exists() and not runs.followed(folder)
