"""How a run ended: the recipe's own exit code, or what the launcher has to say beside it."""

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher import metrics, texts
from launcher.engines.base import Exit
from launcher.errors import DeviceError, LaunchError, NodesError, OutOfMemoryError, WorldSizeError
from launcher.metrics import Event
from launcher.plan import RunPlan

#: What the libraries print when a device, or the allocator, has no memory left.
_OUT_OF_MEMORY = (
    "OutOfMemoryError",
    "CUDA out of memory",
    "DefaultCPUAllocator: can't allocate memory",
)

#: What torchrun and bash print of a process that was killed from outside. The kernel does that for want of
#: memory, but then the engine knows.
_KILLED = re.compile(r"Signal 9 \(SIGKILL\) received by PID|: line \d+: +\d+ Killed ")

#: The type of the failure that a meeting of nodes reports (recipes/runtime/meeting.py).
_NOT_MET = "runtime.nodes.NotMet"

#: The command that a run was stopped by, when it was not its own launcher's signal.
STOP = "launch runs stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The end of one start.

    Attributes:
        stage: ``start``, ``train``, ``verify`` or ``done``.
        exit_code: the launcher's.
        recipe_exit: the recipe's own; None when it never started, or nobody knows.
        error: the launcher's verdict; None: the recipe's exit code says it all.
        message: the same in one line; also says who stopped it.
        ended: UTC, ISO 8601; empty: now.
        crashed: it ended by itself and badly, so that another start may help.
        restarts: how often the engine itself has started it again.
    """

    stage: str
    exit_code: int
    recipe_exit: int | None
    error: LaunchError | None = None
    message: str = ""
    ended: str = ""
    crashed: bool = False
    restarts: int = 0


def judge(
    plan: RunPlan,
    end: Exit,
    events: Sequence[Event],
    tail: Sequence[str],
    *,
    stopped: str,
    asked: str = "",
    log: Path,
) -> Outcome:
    """Name how it ended: the launcher's own verdict, who stopped it, or the recipe's exit code.

    Args:
        plan: what was to be done.
        end: what the engine says.
        events: what the trainer reported in this start.
        tail: the last lines of its output.
        stopped: a signal's name, or :data:`STOP`; empty: nobody stopped it.
        asked: when it was asked to end: UTC, ISO 8601; empty: nobody knows.
        log: for the hints.
    """
    if end.code == 0 or (asked and end.ended and end.ended < asked):
        stopped = ""  # it ended by itself, or had done so before it was asked to
    error = None if stopped else _error(plan, end, list(events), tail, log)
    if error is not None:
        code, message = error.exit_code, error.message
    elif stopped:
        number = signal.SIGTERM if stopped == STOP else signal.Signals[stopped]
        code, message = 128 + number, texts.STOPPED_BY + stopped
    else:
        killed = end.code and any(_KILLED.search(line) for line in tail)
        code, message = end.code, "a process of the training was killed by somebody" if killed else ""
    wrong_world = isinstance(error, WorldSizeError)
    return Outcome(
        stage="verify" if wrong_world else "train" if code else "done",
        exit_code=code,
        recipe_exit=end.code,
        error=error,
        message=message,
        ended=end.ended,
        crashed=bool(code) and not stopped and not isinstance(error, WorldSizeError | DeviceError),
    )


def _killed(end: Exit, tail: Sequence[str]) -> bool:
    """Whether the recipe, or a process of it that it waited for, was ended by SIGKILL."""
    return end.code == 128 + signal.SIGKILL or any(_KILLED.search(line) for line in tail)


def refused(error: BaseException, *, stage: str) -> Outcome:
    """The end of what the engine did not start, or the launcher could not follow."""
    if isinstance(error, LaunchError):
        return Outcome(
            stage=stage, exit_code=error.exit_code, recipe_exit=None, error=error, message=error.message
        )
    message = f"{type(error).__name__}: {error}"
    return Outcome(stage=stage, exit_code=LaunchError.exit_code, recipe_exit=None, message=message)


def _error(
    plan: RunPlan, end: Exit, events: list[Event], tail: Sequence[str], log: Path
) -> LaunchError | None:
    """The launcher's own verdict; None leaves the recipe's exit code as it is."""
    killed = end.out_of_memory or (end.memory_kills and _killed(end, tail))
    if end.code and (killed or any(mark in line for line in tail for mark in _OUT_OF_MEMORY)):
        limit = f" (limit {plan.access.memory})" if plan.access.memory else ""
        return OutOfMemoryError(
            f"the run ran out of memory{limit}",
            why="the kernel killed it" if killed else "an allocation failed",
            hint="fewer rows per step, shorter texts, or gradient checkpointing: see the recipe's --help",
        )
    if not plan.world_size:
        return None
    if end.code and (apart := _apart(events)) is not None:
        return apart
    last = metrics.of_attempt(events, max(metrics.attempts(events), default=1))
    begun_on = (str(event.get("device", "")) for event in last if event.get("event") == "begin")
    seen = {device.split(":")[0] for device in begun_on if device}
    if end.code and seen and plan.device not in seen:
        return DeviceError(
            f"torch saw {', '.join(sorted(seen))} and not {plan.device}: nothing was trained",
            why="driver too old, no permission for the device, or a device that its libraries do not know",
            hint=f"launch image check {plan.target} --only device; launch doctor --target {plan.target}",
        )
    problem = metrics.world_problem(events, plan.world_size)
    wrong_world = any(
        event.get("event") == "begin" and event.get("world_size") != plan.world_size for event in last
    )
    if problem and (end.code == 0 or wrong_world):
        return WorldSizeError(
            problem,
            why="processes that do not find each other train alone, and still exit with code 0",
            hint=f"see {log}",
        )
    return None


def _apart(events: list[Event]) -> NodesError | None:
    """What kept the nodes of a run apart, in the words of recipes/runtime/meeting.py; None: nothing did.

    Its first line says what happened, the last one what to do.
    """
    failed = metrics.failure(events)
    if failed is None or failed.type != _NOT_MET:
        return None
    first, *more = failed.message.splitlines() or ["the nodes did not meet"]
    return NodesError(first, why="; ".join(more[:-1]), hint=more[-1] if more else "")
