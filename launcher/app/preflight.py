"""The doctor's quick and local lines, for a start: nothing is asked over a network, of a driver or an engine.

A module of its own: a run loads nothing else of the doctor.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from launcher import model, paths
from launcher.app.plan import Planned
from launcher.app.probes import Broken
from launcher.diagnosis import machine, storage
from launcher.diagnosis.lines import Line, bytes_of, unknown
from launcher.host import limits, memory

T = TypeVar("T")

LIMITS = ("limits.nofile", "limits.memlock", "limits.stack")


def preflight(planned: Planned) -> tuple[Line, ...]:
    """Disk, RAM, shared memory, limits and clock for a planned run; a few milliseconds, nothing is raised."""
    plan, container = planned.plan, planned.plan.engine == "docker"
    trains = planned.plan.access.gpus == "" and not planned.plan.access.devices
    wanted = bytes_of(plan.access.shm_size)
    weights = _tried(lambda: model.size(plan.model) if plan.model else 0)
    weights = 0 if isinstance(weights, Broken) else weights
    ram = _tried(memory.facts)
    known = None if isinstance(ram, Broken) else ram
    folder = plan.output or paths.runs()
    return (
        *guarded(
            ["disk.output"],
            _tried(lambda: memory.disk(folder)),
            lambda found: storage.output(found, weights=weights),
        ),
        *guarded(["memory"], ram, lambda found: machine.memory(found, weights=weights, trains=trains)),
        *guarded(
            ["shm"],
            _tried(memory.shared),
            lambda found: machine.shm(found, wanted=wanted, container=container, ram=known),
        ),
        *guarded(LIMITS, _tried(limits.facts), lambda found: machine.limits(found, container=container)),
        *guarded(["clock"], (), lambda found: machine.clock(time.time(), found)),
    )


def _tried(probe: Callable[[], T]) -> T | Broken:
    try:
        return probe()
    except Exception as error:  # noqa: BLE001 - as in guarded
        return Broken(why=f"{type(error).__name__}: {error}")


def guarded(
    names: Sequence[str], fact: Any, say: Callable[[Any], Line | tuple[Line, ...]]
) -> tuple[Line, ...]:
    """The lines of a fact; each name is unknown when the probe or the judge broke."""
    if isinstance(fact, Broken):
        return tuple(unknown(name, fact.why) for name in names)
    try:
        lines = say(fact)
    except Exception as error:  # noqa: BLE001 - a judge that breaks is a line, not the end of all others
        return tuple(unknown(name, f"{type(error).__name__}: {error}") for name in names)
    return (lines,) if isinstance(lines, Line) else lines
