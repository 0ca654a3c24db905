"""From a plan to a result: start, follow, verify, record."""

import platform
import signal
import threading
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, TextIO

from launcher import metrics, model, runs
from launcher.app.plan import Planned
from launcher.engines.base import Exit, Handle, Submission
from launcher.errors import DeviceError, LaunchError, OutOfMemoryError, WorldSizeError
from launcher.plan import Folders, Model
from launcher.progress import RunView
from launcher.runs import Result

#: What the libraries print when a device, or the allocator, has no memory left. The last one is torchrun's,
#: of a process that was killed from outside, which is what the kernel does then.
_OUT_OF_MEMORY = (
    "OutOfMemoryError",
    "CUDA out of memory",
    "DefaultCPUAllocator: can't allocate memory",
    "Signal 9 (SIGKILL) received by PID",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A run whose record exists, and which has not started yet."""

    planned: Planned
    run_id: str
    place: Folders
    submission: Submission


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A run that is over; ``error`` is what the launcher has to say beside the recipe's own exit code."""

    result: Result
    place: Folders
    tail: tuple[str, ...]
    error: LaunchError | None = None


def begin(planned: Planned, *, parent: Path | None = None) -> Begun:
    """Check everything that can be checked before the start, then write the record's first part.

    Args:
        parent: the folder of run records; None: the working folder's ``runs``.
    """
    run_id = runs.new_id(planned.plan.recipe)
    place = runs.folders(run_id, planned.plan, parent)
    runs.refuse_used_output(place.output)
    planned.engine.check(planned.plan)
    submission = planned.engine.render(planned.plan, place, run_id)
    runs.prepare(planned.plan, run_id, submission.printed(), place)
    return Begun(planned=planned, run_id=run_id, place=place, submission=submission)


def resume(planned: Planned, run: Path) -> Begun:
    """The begun run of another process: its record exists, it has not been started."""
    place = runs.folders(run.name, planned.plan, parent=run.parent)
    submission = planned.engine.render(planned.plan, place, run.name)
    return Begun(planned=planned, run_id=run.name, place=place, submission=submission)


def execute(begun: Begun, view: RunView, *, grace: float) -> Ended:
    """Run it to its end; the record is complete when this returns or raises.

    Raises:
        LaunchError: the engine refused to start it.
    """
    record = _Record(begun)
    # Signals are caught before the start: a run that is being made must not outlive a Ctrl-C.
    with _Signals(view, grace) as signals:
        try:
            handle = begun.planned.engine.start(begun.submission, begun.planned.secrets)
            signals.attach(handle)
            followed = _follow(handle, begun.place, view, record.reported)
        except BaseException as broken:
            code = broken.exit_code if isinstance(broken, LaunchError) else LaunchError.exit_code
            message = (
                broken.message if isinstance(broken, LaunchError) else f"{type(broken).__name__}: {broken}"
            )
            stage = "train" if record.reported.events else "start"
            record.close(stage=stage, exit_code=code, recipe_exit=None, error=message)
            if stage == "start":
                runs.unclaim(begun.place)
            raise
    return _conclude(begun, followed, record, signals.received)


def _conclude(begun: Begun, followed: "_Followed", record: "_Record", received: int) -> Ended:
    """Name how it ended: the launcher's own verdict, a signal, or the recipe's exit code."""
    error = None if received else _judge(begun, followed, record.reported.events)
    if error is not None:
        code, message = error.exit_code, error.message
    elif received:
        code, message = 128 + received, f"stopped by {signal.Signals(received).name}"
    else:
        code, message = followed.exit.code, ""
    stage = "verify" if isinstance(error, WorldSizeError) else "train" if code else "done"
    result = record.close(stage=stage, exit_code=code, recipe_exit=followed.exit.code, error=message)
    return Ended(result=result, place=begun.place, tail=tuple(followed.tail), error=error)


@dataclass(slots=True, kw_only=True)
class _Followed:
    exit: Exit
    tail: deque[str]


def _follow(handle: Handle, place: Folders, view: RunView, reported: metrics.Reader) -> _Followed:
    """Write the log and show the progress until the run ends; whatever breaks here, the run does not stay."""
    tail: deque[str] = deque(maxlen=40)
    broken: list[BaseException] = []

    def read(log: TextIO) -> None:
        try:
            for line in handle.lines():
                log.write(line + "\n")
                log.flush()
                tail.append(line)
                view.line(line)
        except BaseException as error:  # noqa: BLE001 - raised again where the run can be ended
            broken.append(error)

    try:
        with (place.run / "log.txt").open("a", encoding="utf-8") as log:
            reader = threading.Thread(target=read, args=(log,), daemon=True)
            reader.start()
            while reader.is_alive():
                reader.join(0.1)
                for event in reported.new():
                    view.event(event)
        if broken:  # a full disk, say: without its log the run would end by a broken pipe, unexplained
            raise broken[0]
    except BaseException:
        handle.kill()
        handle.wait()
        raise
    end = handle.wait()
    for event in reported.new():
        view.event(event)
    return _Followed(exit=end, tail=tail)


def _judge(begun: Begun, followed: _Followed, events: list[dict[str, Any]]) -> LaunchError | None:
    """The launcher's own verdict; None leaves the recipe's exit code as it is."""
    plan, end = begun.planned.plan, followed.exit
    if end.out_of_memory or (
        end.code and any(mark in line for line in followed.tail for mark in _OUT_OF_MEMORY)
    ):
        limit = f" (limit {plan.access.memory})" if plan.access.memory else ""
        return OutOfMemoryError(
            f"the run ran out of memory{limit}",
            why="the kernel killed it" if end.out_of_memory else "an allocation failed, or a rank was killed",
            hint="fewer rows per step, shorter texts, or gradient checkpointing: see the recipe's --help",
        )
    if not plan.world_size:
        return None
    begun_on = (str(event.get("device", "")) for event in events if event.get("event") == "begin")
    seen = {device.split(":")[0] for device in begun_on if device}
    if end.code and seen and plan.device not in seen:
        return DeviceError(
            f"torch saw {', '.join(sorted(seen))} and not {plan.device}: nothing was trained",
            why="driver too old, no permission for the device, or a device that its libraries do not know",
            hint=f"launch image check {plan.target} --only device; launch doctor --target {plan.target}",
        )
    problem = metrics.world_problem(events, plan.world_size)
    wrong_world = any(
        event.get("event") == "begin" and event.get("world_size") != plan.world_size for event in events
    )
    if problem and (end.code == 0 or wrong_world):
        return WorldSizeError(
            problem,
            why="processes that do not find each other train alone, and still exit with code 0",
            hint=f"see {begun.place.run / 'log.txt'}",
        )
    return None


@dataclass(slots=True)
class _Record:
    """Collects what result.json says; the weights are hashed while the run goes on."""

    begun: Begun
    started: str = field(default_factory=runs.now)
    _clock: float = field(default_factory=time.monotonic)
    reported: metrics.Reader = field(init=False)
    _models: dict[str, dict[str, str]] = field(default_factory=dict)
    _hashing: threading.Thread | None = None

    def __post_init__(self) -> None:
        self.reported = metrics.Reader(self.begun.place.run / "metrics.jsonl")
        planned = self._planned()
        self._models = {
            name: {"name": item.name, "revision": item.revision} for name, item in planned.items()
        }
        if not all(item.revision for item in planned.values()):
            self._hashing = threading.Thread(target=self._hash, daemon=True)
            self._hashing.start()

    def _planned(self) -> dict[str, Model]:
        """The model to start from as ``model``, which no parameter may be called, and the parameters' own."""
        plan = self.begun.planned.plan
        return {**({} if plan.model is None else {"model": plan.model}), **dict(plan.models)}

    def _hash(self) -> None:
        known: dict[Path, str] = {}
        for name, item in self._planned().items():
            if not item.revision:
                if item.path not in known:
                    known[item.path] = model.weights_sha256(item)
                self._models[name]["weights_sha256"] = known[item.path]

    def close(self, *, stage: str, exit_code: int, recipe_exit: int | None, error: str) -> Result:
        """Write result.json."""
        if self._hashing is not None:  # many GB take a while: only a good run waits for all of them
            self._hashing.join(None if exit_code == 0 else 1)
        planned, plan = self.begun.planned, self.begun.planned.plan
        digest, engine_version = planned.engine.describe(plan)
        events = self.reported.events
        result = Result(
            run=self.begun.run_id,
            recipe=plan.recipe,
            target=plan.target,
            engine=plan.engine,
            stage=stage,
            exit_code=exit_code,
            recipe_exit=recipe_exit,
            error=error,
            image=plan.image,
            image_digest=digest,
            lock_digest=plan.lock_digest,
            data=[{**asdict(file), "path": str(file.path)} for file in plan.data],
            model=self._models.get("model", {}),
            models={name: self._models[name] for name, _ in plan.models},
            started=self.started,
            ended=runs.now(),
            seconds=round(time.monotonic() - self._clock, 3),
            world_size=plan.world_size or None,
            steps=metrics.steps(events) if plan.world_size else None,
            final=metrics.final_numbers(events),
            runtime=metrics.runtime(events),
            buckets=metrics.buckets(events),
            versions={
                "launcher": plan.launcher,
                "python": platform.python_version(),
                plan.engine: engine_version,
            },
            host=asdict(planned.host),
        )
        runs.finish(self.begun.place, result)
        return result


class _Signals:
    """Ctrl-C, SIGTERM, SIGHUP end the run, not the launcher: grace first, a second signal kills at once.

    A launcher under nohup, whose SIGHUP is ignored, goes on.
    """

    def __init__(self, view: RunView, grace: float) -> None:
        self._view, self._grace = view, grace
        self._handle: Handle | None = None
        self._before: dict[int, Any] = {}
        self.received = 0

    def __enter__(self) -> "_Signals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def attach(self, handle: Handle) -> None:
        """The run has started; a signal that came while it was being made is for it."""
        self._handle = handle
        if self.received:
            handle.stop(self._grace)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        first, self.received = not self.received, self.received or number
        if first:
            self._view.stopping(grace=self._grace)
        if self._handle is not None:
            if first:
                self._handle.stop(self._grace)
            else:
                self._handle.kill()


def detached_log(place: Folders) -> Path:
    """Where a detached launcher writes what it would have shown."""
    return place.run / "launcher.log"
