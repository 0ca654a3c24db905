"""What is done to containers, and to the launchers that follow them."""

import signal
import subprocess
import time

from tests.faults import kinds
from tests.faults.kinds import Kind
from tests.faults.world import Case, send

#: Seconds after which nothing starts any more of what a killed launcher had asked for.
_STARTED = 12.0

_MOMENTS = ("early", "record", "created", "start", "running", "ending", "concluding")


def _docker(case: Case, *arguments: str) -> None:
    """Do something to the case's container, which may be gone."""
    if case.record is not None:
        subprocess.run(["docker", *arguments, f"launch-{case.record.name}"], check=False, capture_output=True)


def box_launcher_killed(case: Case) -> None:
    """kill -9 of the launcher at any moment, between the making of the container and its start too."""
    launcher = case.run(steps=case.chance.choice((3, 10)))
    case.until(case.chance.choice(_MOMENTS), launcher)
    send(launcher.pid, signal.SIGKILL)
    killed = time.monotonic()
    case.wait(lambda: case.container() in ("", "exited") or time.monotonic() > killed + _STARTED)


def box_launcher_asked(case: Case) -> None:
    """One polite signal to the launcher, or a storm of them."""
    launcher = case.run(steps=20)
    case.asked = True
    case.until(case.chance.choice(_MOMENTS), launcher)
    for _ in range(case.chance.choice((1, 1, 30))):
        send(launcher.pid, case.chance.choice((signal.SIGTERM, signal.SIGINT, signal.SIGHUP)))


def box_killed(case: Case) -> None:
    """docker kill: the recipe did not end by itself, and its launcher may be gone too."""
    case.hit = True
    launcher = case.run(steps=20, DAEMONS=case.chance.choice((0, 1)))
    case.until(case.chance.choice(("start", "running")), launcher)
    if case.chance.random() < 0.3:
        send(launcher.pid, signal.SIGKILL)
    _docker(case, "kill")


def box_removed(case: Case) -> None:
    """docker rm -f: the engine knows nothing any more."""
    case.hit = case.lost_log = True
    launcher = case.run(steps=20)
    case.until(case.chance.choice(("created", "start", "running", "concluding")), launcher)
    if case.chance.random() < 0.5:
        send(launcher.pid, signal.SIGKILL)
    _docker(case, "rm", "--force")


def box_paused(case: Case) -> None:
    """docker pause: it runs, until somebody stops it or lets it go on."""
    launcher = case.run(steps=10)
    case.until("running", launcher)
    _docker(case, "pause")
    listed = case.call("runs", "list", "--json").out
    if case.container() == "paused" and '"running"' not in listed:
        case.problems.append(f"paused, and not running: {listed[-400:]}")
    if case.chance.random() < 0.5:
        case.asked = True
        if case.record is not None:
            case.call("runs", "stop", case.record)
    else:
        _docker(case, "unpause")


CONTAINERS: dict[Kind, int] = {
    box_launcher_killed: 8,
    box_launcher_asked: 5,
    box_killed: 4,
    box_removed: 4,
    box_paused: 2,
    kinds.commands: 3,
}
