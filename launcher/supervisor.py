"""Stands by a run without a container, so that it needs no launcher to go on; started as a script.

A container engine keeps the output and the exit code of a run whose launcher is gone. An ordinary process
has nobody for that but its parent, so this is its parent: a few standard modules, a session of its own, no
pipe to anybody. It gives the program the log to write to, and says in the trace file who it is, later how it
ended.

    python -I -S supervisor.py TRACE LOG -- PROGRAM ARGUMENTS…

The trace is one JSON object padded with spaces; it has its size from the start and is written in place, so
that a full disk cannot take the exit code. SIGTERM is passed on; SIGUSR1 kills.
"""

import ctypes
import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

#: Bytes of a trace file: less than a disk's sector, so it is written whole or not at all.
TRACE = 512

#: Seconds in which what was left behind has to be gone.
_CLEARING = 10.0

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
_KILLS = "oom_kill "


def identity(pid: int) -> dict[str, Any] | None:
    """What tells a process from a later one with its number: when it started, and in which boot.

    None: there is none; one that has ended and was not waited for counts as none.
    """
    try:
        # The name, in parentheses, may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if fields[0] in "ZX":
        return None
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return {"pid": pid, "start": int(fields[19]), "boot": boot}


def main() -> None:
    """Start the program, wait for it, and leave nothing of it behind."""
    trace, log, _, *command = sys.argv[1:]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)  # whom the program leaves behind comes here
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        file = os.open(trace, os.O_WRONLY)
    except OSError as error:  # without it nobody would know of the recipe's end: it is not begun
        sys.exit(f"{trace}: {error.strerror}")
    own = identity(os.getpid()) or {}
    before = _out_of_memory_kills()
    # Until there is a child to pass it on to, a signal waits.
    signals = {signal.SIGTERM, signal.SIGUSR1}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    _write(file, own)
    child = os.fork()
    if child == 0:
        _become(command, log, libc)
    with suppress(OSError):  # the child does the same: whoever comes first
        os.setpgid(child, child)
    signal.signal(signal.SIGTERM, lambda *_: _signal_group(child, signal.SIGTERM))
    signal.signal(signal.SIGUSR1, lambda *_: _signal_group(child, signal.SIGKILL))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    code = os.waitstatus_to_exitcode(_wait_for(child))
    kills = _out_of_memory_kills() > before
    _clear(child)
    now = time.time()
    ended = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now * 1000) % 1000:03}+00:00"
    _write(file, {**own, "code": code if code >= 0 else 128 - code, "memory_kills": kills, "ended": ended})


def _become(command: list[str], log: str, libc: ctypes.CDLL) -> None:
    """The child: its own group, the log as its output, and no life without its parent."""
    try:
        os.setpgid(0, 0)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # The last two are ignored by every Python, and would be by the program.
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for stream, target in ((nothing, 0), (output, 1), (output, 2)):
            os.dup2(stream, target)
        os.execvpe(command[0], command, os.environ)  # noqa: S606 - no shell is the point
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(127)


def _wait_for(child: int) -> int:
    """The child's status; others that ended meanwhile are buried."""
    while True:
        pid, status = os.wait()
        if pid == child:
            return status


def _clear(child: int) -> None:
    """Kill what the program left behind: its group, then whoever was handed to this process.

    What cannot be killed, a program with another user's rights for one, must not keep back the exit code.
    """
    _signal_group(child, signal.SIGKILL)
    deadline = time.monotonic() + _CLEARING
    while (left := _children()) and time.monotonic() < deadline:
        for pid in left:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.01)


def _children() -> list[int]:
    """Those of this process; none where the kernel does not list them."""
    with suppress(OSError):
        return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    return []


def _signal_group(group: int, number: int) -> None:
    with suppress(OSError):
        os.killpg(group, number)


def _out_of_memory_kills() -> int:
    """How often the kernel killed for memory so far, here or, in a container, in its group."""
    count = 0
    for file in ("/proc/vmstat", "/sys/fs/cgroup/memory.events"):
        with suppress(OSError):
            lines = Path(file).read_text().splitlines()
            count += sum(int(line.split()[1]) for line in lines if line.startswith(_KILLS))
    return count


def _write(file: int, found: dict[str, Any]) -> None:
    os.pwrite(file, json.dumps(found).encode().ljust(TRACE), 0)
    os.fsync(file)


if __name__ == "__main__":
    main()
