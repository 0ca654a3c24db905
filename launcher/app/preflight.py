"""What a run is told before it starts: the doctor's quick and local lines, and whether it fits into memory.

Nothing is asked over a network, of a driver or an engine. A module of its own: a run loads nothing else of
the doctor.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from launcher import model, paths
from launcher.app import fit
from launcher.app.plan import Planned
from launcher.app.probes import Broken, reason
from launcher.diagnosis import machine, storage
from launcher.diagnosis.lines import Line, bytes_of, unknown
from launcher.errors import CheckError, OutOfMemoryError
from launcher.host import limits, memory

T = TypeVar("T")

LIMITS = ("limits.nofile", "limits.memlock", "limits.stack")


#: No estimate of a step was off by more, neither of published figures nor of measured steps (docs/fit.md):
#: what takes this many times the memory does not fit, whatever the estimate is worth.
_CERTAIN = 1.5


def ready(planned: Planned, *, dry_run: bool) -> tuple[str, ...]:
    """What to say before the start of a planned run.

    Raises:
        CheckError: the run would break, all reasons at once; a dry run says them.
        OutOfMemoryError: a step takes far more memory than there is; a dry run says it.
    """
    if not planned.plan.preflight:
        return ("not looked at: data, memory, machine (--no-preflight)",)
    lines = preflight(planned)
    refused = [said(line) for line in lines if line.status == "failed"]
    notes = [said(line) for line in lines if line.status == "warning"]
    memory_notes = fitting(planned, dry_run=dry_run, otherwise="; or --no-preflight to try it")
    if refused and not dry_run:
        raise CheckError(
            "this machine is not ready for the run",
            refused,
            hint="launch doctor looks at all of it; --no-preflight starts anyway",
        )
    return (*refused, *notes, *memory_notes)


def fitting(planned: Planned, *, dry_run: bool, otherwise: str = "") -> tuple[str, ...]:
    """What to say of the memory before the start; nothing where it fits, or nobody knows.

    Args:
        otherwise: how to start all the same, for the hint.

    Raises:
        OutOfMemoryError: as :func:`ready`.
    """
    verdict = fit.foreseen(planned)
    if verdict is None:
        return ()
    if verdict.share >= _CERTAIN and not dry_run:
        raise OutOfMemoryError(
            verdict.text,
            why="that is beyond any error of the estimate seen so far (docs/fit.md)",
            hint=f"{verdict.advice or 'launch fit says what takes the memory'}{otherwise}",
        )
    return (str(verdict),)


def said(line: Line) -> str:
    """A line of the doctor as a note."""
    return "; ".join(filter(None, (f"{line.name}: {line.found}", line.means, line.fix and f"do: {line.fix}")))


def preflight(planned: Planned) -> tuple[Line, ...]:
    """Disk, RAM, shared memory, limits and clock for a planned run; a few milliseconds, nothing is raised."""
    plan, container = planned.plan, planned.plan.container
    trains = planned.plan.access.gpus == "" and not planned.plan.access.devices
    wanted = bytes_of(plan.access.shm_size)
    weights = _tried(lambda: model.size(plan.model) if plan.model else 0)
    weights = 0 if isinstance(weights, Broken) else weights
    ram = _tried(memory.facts)
    known = None if isinstance(ram, Broken) else ram
    folder = plan.output or paths.runs()
    room = guarded(
        ["disk.output"],
        _tried(lambda: memory.disk(folder)),
        lambda found: storage.output(found, weights=weights),
    )
    clock = guarded(["clock"], (), lambda found: machine.clock(time.time(), found))
    if plan.elsewhere:  # this machine only hands it over
        return (*room, *clock)
    return (
        *room,
        *guarded(["memory"], ram, lambda found: machine.memory(found, weights=weights, trains=trains)),
        *guarded(
            ["shm"],
            _tried(memory.shared),
            lambda found: machine.shm(found, wanted=wanted, container=container, ram=known),
        ),
        *guarded(LIMITS, _tried(limits.facts), lambda found: machine.limits(found, container=container)),
        *clock,
    )


def _tried(probe: Callable[[], T]) -> T | Broken:
    try:
        return probe()
    except Exception as error:  # noqa: BLE001 - as in guarded
        return Broken(why=reason(error))


def guarded(
    names: Sequence[str], fact: Any, say: Callable[[Any], Line | tuple[Line, ...]]
) -> tuple[Line, ...]:
    """The lines of a fact; each name is unknown when the probe or the judge broke."""
    if isinstance(fact, Broken):
        return tuple(unknown(name, fact.why) for name in names)
    try:
        lines = say(fact)
    except Exception as error:  # noqa: BLE001 - a judge that breaks is a line, not the end of all others
        return tuple(unknown(name, reason(error)) for name in names)
    return (lines,) if isinstance(lines, Line) else lines
