"""What is done to runs: signals, kills, and commands that meet each other."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults.world import MOMENTS, Case, send

Kind = Callable[[Case], None]

_POLITE = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_STORM = (
    *_POLITE,
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
    signal.SIGCONT,
)


def launcher_killed(case: Case) -> None:
    """kill -9 of the launcher: the run goes on without it."""
    launcher = case.run(*_sometimes(case, "--detach"))
    case.until(case.chance.choice(MOMENTS), launcher)
    send(launcher.pid, signal.SIGKILL)
    _wait_without_launcher(case)


def launcher_asked(case: Case) -> None:
    """One polite signal to the launcher: the run is stopped."""
    launcher = case.run(steps=case.chance.choice((4, 20)))
    case.asked = True
    case.until(case.chance.choice(MOMENTS), launcher)
    send(launcher.pid, case.chance.choice(_POLITE))


def launcher_storm(case: Case) -> None:
    """Ten to fifty signals in a second."""
    launcher = case.run(steps=8)
    case.asked = True
    case.until(case.chance.choice(MOMENTS), launcher)
    signals = case.chance.choice((_POLITE, _STORM))
    for _ in range(count := case.chance.randint(10, 50)):
        send(launcher.pid, case.chance.choice(signals))
        time.sleep(case.chance.random() * 2 / count)
    launcher.wait()
    _wait_without_launcher(case)


def supervisor_killed(case: Case) -> None:
    """kill -9 of the supervisor, with children of the recipe that left its session."""
    case.hit = True
    launcher = case.run(steps=8, DAEMONS=case.chance.choice((0, 1)))
    case.until(case.chance.choice(("start", "start", "running", "ending", "concluding")), launcher)
    send(case.supervisor(), signal.SIGKILL)


def supervisor_storm(case: Case) -> None:
    """Many signals to the supervisor."""
    case.hit = case.asked = True
    launcher = case.run(steps=8)
    case.until(case.chance.choice(("start", "running")), launcher)
    for _ in range(case.chance.randint(10, 50)):
        send(
            case.supervisor(), case.chance.choice((*_POLITE, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM))
        )
        time.sleep(0.02)


def both_killed(case: Case) -> None:
    """kill -9 of launcher and supervisor at once: nobody is left to say anything."""
    case.hit = True
    launcher = case.run(steps=8, DAEMONS=case.chance.choice((0, 1)))
    case.until(case.chance.choice(("start", "running", "ending")), launcher)
    pids = [launcher.pid, case.supervisor()]
    case.chance.shuffle(pids)
    for pid in pids:
        send(pid, signal.SIGKILL)


def recipe_killed(case: Case) -> None:
    """kill -9 of the recipe, alone or with its group."""
    case.hit = True
    launcher = case.run(steps=8, DAEMONS=case.chance.choice((0, 1)))
    case.until("running", launcher)
    send(case.recipe(), signal.SIGKILL, group=case.chance.random() < 0.5)


def recipe_storm(case: Case) -> None:
    """Many signals to the recipe's group."""
    case.hit = True
    launcher = case.run(steps=8)
    case.until("running", launcher)
    for _ in range(case.chance.randint(10, 50)):
        send(case.recipe(), case.chance.choice((signal.SIGHUP, signal.SIGINT, signal.SIGUSR1)), group=True)
        time.sleep(0.01)


def daemons(case: Case) -> None:
    """A recipe that leaves children behind which left its session and ignore SIGTERM."""
    launcher = case.run(DAEMONS=1)
    fault = case.chance.choice(("none", "asked", "killed"))
    case.until("running", launcher)
    if fault == "asked":
        case.asked = True
        send(launcher.pid, signal.SIGTERM)
    elif fault == "killed":
        send(launcher.pid, signal.SIGKILL)
        _wait_without_launcher(case)


def one_output(case: Case) -> None:
    """Two or five launchers into one output folder at once: one of them has it."""
    launchers = [case.run() for _ in range(case.chance.choice((2, 5)))]
    for launcher in launchers:
        launcher.wait()
    codes = sorted(launcher.returncode for launcher in launchers)
    if codes != sorted([case.code] + [77] * (len(launchers) - 1)):
        case.problems.append(f"launchers into one output ended with {codes}")
    if len(starts := [line for line in case.notes() if line[0] == "start"]) != 1:
        case.problems.append(f"{len(starts)} recipes in one output")
    if len(folders := list(case.runs.iterdir())) != 1:
        case.problems.append(f"{len(folders)} records of one run")


def commands(case: Case) -> None:
    """Several commands at once with a run, and with each other."""
    launcher = case.run(steps=case.chance.choice((4, 30)))
    case.until(
        case.chance.choice(("record", "attempt", "running", "running", "ending", "concluding")), launcher
    )
    if case.chance.random() < 0.5:
        send(launcher.pid, signal.SIGKILL)
    record = case.record
    if record is None:
        return
    given = [case.chance.choice(("stop", "attach", "resume", "rm", "logs", "stop")) for _ in range(3)]
    given.append(case.chance.choice(given))
    case.asked = "stop" in given
    case.removed = "rm" in given
    more = {"rm": ["--yes"], "logs": ["-f"]}
    for verb in given:
        case.command("runs", verb, record, *more.get(verb, []))
        time.sleep(case.chance.choice((0, 0, 0.2)))
    if not case.asked:
        _wait_without_launcher(case)


def looked_at(case: Case) -> None:
    """list and show, again and again, while the launcher comes and goes."""
    launcher = case.run(steps=10)
    case.until("record", launcher)
    kill_at = case.chance.randint(0, 2)
    for number in range(3):
        if number == kill_at:
            send(launcher.pid, signal.SIGKILL)
        alive = case.left()
        done = case.call("runs", "list", "--json")
        if done.code or (alive and case.left() == alive and '"failed"' in done.out):
            case.problems.append(f"list while it runs: {done.code} {done.out[-400:]} {done.err[-400:]}")
    _wait_without_launcher(case)


def _wait_without_launcher(case: Case) -> None:
    """Until the run has ended by itself, whoever watches it."""
    case.wait(lambda: not case.left() or case.ended())


def _sometimes(case: Case, option: str) -> list[str]:
    return [option] if case.chance.random() < 0.2 else []


def stopped_processes(case: Case) -> None:
    """SIGSTOP of supervisor or recipe, then `runs stop`: it ends all the same."""
    launcher = case.run(steps=30)
    case.asked = case.hit = True
    case.until("running", launcher)
    send(case.chance.choice((case.supervisor(), case.recipe())), signal.SIGSTOP)
    if case.record is not None:
        case.call("runs", "stop", "--grace", "0.2", case.record)


#: Kinds of the embedded environment, and how often each comes in a hundred cases.
PROCESSES: dict[Kind, int] = {
    launcher_killed: 18,
    launcher_asked: 12,
    launcher_storm: 8,
    supervisor_killed: 9,
    supervisor_storm: 4,
    both_killed: 6,
    recipe_killed: 6,
    recipe_storm: 3,
    daemons: 6,
    one_output: 3,
    commands: 9,
    looked_at: 3,
    stopped_processes: 2,
}


def is_root() -> bool:
    """Mounts need it."""
    return os.geteuid() == 0


def filled(folder: Path) -> None:
    """Take what is left of a small file system."""
    with (folder / "somebody-elses").open("ab", buffering=0) as stream:
        for block in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    if not stream.write(b"\0" * block):
                        break
            except OSError:
                continue
