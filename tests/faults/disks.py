"""Full and read-only places; every case has a file system of its own, which needs root."""

import signal
import subprocess
import time
from pathlib import Path

from tests.faults.kinds import Kind, filled
from tests.faults.world import Case, send


def _mount(*arguments: object) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True, capture_output=True)


def unmount(folder: Path) -> None:
    """Take a file system away, whoever still looks at it."""
    subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True)


def _small(case: Case, size: str = "1m") -> None:
    case.runs.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={size}", "none", case.runs)


def filled_by_somebody(case: Case) -> None:
    """The records' file system is full, from some moment on; later there is room again."""
    case.full = case.hit = True
    _small(case)
    launcher = case.run(*(["--detach"] if case.chance.random() < 0.3 else []))
    case.until(case.chance.choice(("early", "record", "attempt", "start", "running", "ending")), launcher)
    filled(case.runs)
    _end(case, launcher)
    if case.chance.random() < 0.5:  # before there is room again
        done = case.call("runs", "list", "--json")
        if done.code:
            case.problems.append(f"list on a full disk: {done.code} {done.err[-400:]}")
    (case.runs / "somebody-elses").unlink()


def filled_by_recipe(case: Case) -> None:
    """The recipe fills the file system that the record is on: the end is on the record all the same."""
    case.full = case.hit = True
    _small(case)
    case.output = case.runs / "out"
    launcher = case.run("--no-preflight", FILL=case.chance.randint(1, 3), steps=4)
    case.until("start", launcher)
    _end(case, launcher)


def no_room(case: Case) -> None:
    """There is no room for a record: refused, and nothing stays."""
    case.full = True
    _small(case, size=case.chance.choice(("64k", "200k", "280k")))
    launcher = case.run()
    launcher.wait()
    (case.runs / "out").mkdir(exist_ok=True)


def _end(case: Case, launcher: "subprocess.Popen[bytes]") -> None:
    """The run's own end, with or without its launcher."""
    if case.chance.random() < 0.3:
        time.sleep(case.chance.random() * 0.3)
        send(launcher.pid, signal.SIGKILL)
    launcher.wait()
    case.wait(lambda: not case.left())


def read_only(case: Case) -> None:
    """Nothing can be written into the record for a while, from some moment on."""
    case.full = case.hit = True
    launcher = case.run(steps=6)
    case.until(case.chance.choice(("record", "attempt", "start", "running", "ending")), launcher)
    record = case.record
    if record is None:
        case.problems.append("no record")
        return
    aside = case.folder / "aside"
    aside.mkdir()
    _mount("--bind", record, aside)
    _mount("-o", "remount,ro,bind", aside)
    _mount("--bind", aside, record)  # in one step: what is open already stays writable
    try:
        _end(case, launcher)
        done = case.call("runs", "list", "--json")
        if done.code:
            case.problems.append(f"list of a read-only record: {done.code} {done.err[-400:]}")
    finally:
        unmount(record)
        unmount(aside)


DISKS: dict[Kind, int] = {filled_by_somebody: 6, filled_by_recipe: 3, no_room: 2, read_only: 4}
