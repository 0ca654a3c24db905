"""A process of this machine that needs no launcher to go on: a run's recipe, or what starts it elsewhere.

Its parent is :mod:`launcher.supervisor`, which writes down how it ended; this is what reads it, and what
starts both.
"""

import json
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from launcher import process, supervisor
from launcher.engines.base import Exit, Phase
from launcher.errors import EngineError
from launcher.plan import Folders, Start

#: What a supervisor says, and what it adds when the recipe has ended; see launcher.supervisor.
_SAID: dict[str, type] = {"pid": int, "start": int, "boot": str}
_ENDED: dict[str, type] = {"code": int, "memory_kills": bool, "ended": str}

#: The PID namespace of a machine itself; see PROC_PID_INIT_INO in the kernel's linux/proc_ns.h.
_INITIAL = "pid:[4026531836]"

#: Seconds between two looks at a supervisor.
_PAUSE = 0.05

#: Seconds in which a supervisor says who it is; it takes some hundredths.
_HELLO = 10.0


class ProcessHandle:
    """A recipe and its supervisor.

    Args:
        trace: the supervisor's file.
    """

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def phase(self) -> Phase:
        """See base.Handle.phase."""
        found = self._read()
        if "code" in found:
            return Phase.ENDED
        if found:
            return Phase.RUNNING
        begun = time.time() - self._trace.stat().st_mtime < _HELLO
        return Phase.RUNNING if begun else Phase.UNSTARTED

    def lost(self) -> bool:
        """True when the supervisor is gone without a word about the recipe's end."""
        found = self._read()
        if not found or "code" in found or supervisor.identity(found["pid"]) == found:
            return False
        return "code" not in self._read()  # its last word may have come between the two looks

    def bury(self) -> None:
        """End what a killed supervisor has left: the recipe died with it, its children may not have.

        Those that left its session are known by their variables.
        """
        found = self._read()
        if not found or found["boot"] != _boot():
            return
        start = {"LAUNCH_RUN_ID": self._trace.parent.parent.name}
        deadline = time.monotonic() + _HELLO
        while left := {*process.members(found["pid"]), *process.with_variables(start)}:
            if time.monotonic() > deadline:  # a process in the kernel dies when it comes back
                return
            for pid in sorted(left):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(_PAUSE)

    def lines(self, log: Path, begins: int, shown: int, *, follow: bool = True) -> Iterator[str]:
        """See base.Handle.lines; the supervisor has given the recipe the log itself."""
        rest = b""
        with log.open("rb") as stream:
            stream.seek(shown)
            while True:
                over = not follow or self.phase() is not Phase.RUNNING or self.lost()
                *complete, rest = (rest + stream.read()).split(b"\n")
                for line in complete:
                    yield line.decode(errors="replace")
                if over:
                    break
                time.sleep(_PAUSE)
        if rest:
            yield rest.decode(errors="replace")

    def waiting(self) -> str:
        """See base.Handle.waiting: nothing waits here."""
        return ""

    def wait(self) -> Exit:
        """See base.Handle.wait."""
        while self.phase() is Phase.RUNNING:
            if self.lost():
                self.bury()
                raise EngineError(
                    "the run was lost: its supervisor is gone",
                    why="somebody killed it, or the machine was restarted",
                    hint="launch runs resume goes on from the last checkpoint",
                )
            time.sleep(_PAUSE)
        found = self._read()
        if "code" not in found:
            raise EngineError(
                "the recipe was not started: its supervisor never spoke",
                why="somebody killed it, or the machine has no memory left",
            )
        return Exit(code=found["code"], memory_kills=found["memory_kills"], ended=found["ended"])

    def remove(self) -> None:
        """See base.Handle.remove: nothing is kept but the trace."""

    def stop(self, grace: float) -> None:
        """See base.Handle.stop."""

        def act() -> None:
            self._signal(signal.SIGTERM)
            deadline = time.monotonic() + grace
            while self.phase() is Phase.RUNNING and not self.lost():
                if time.monotonic() > deadline:
                    self.kill()
                time.sleep(_PAUSE)

        threading.Thread(target=act, daemon=True).start()

    def kill(self) -> None:
        """See base.Handle.kill."""
        self._signal(signal.SIGUSR1)
        self._signal(signal.SIGCONT)  # it may have been halted

    def _signal(self, number: int) -> None:
        deadline = time.monotonic() + _HELLO
        while not (found := self._read()) and time.monotonic() < deadline:
            time.sleep(_PAUSE)
        if found and "code" not in found and supervisor.identity(found["pid"]) == found:
            with suppress(ProcessLookupError):
                os.kill(found["pid"], number)

    def _read(self) -> dict[str, Any]:
        """What the supervisor wrote last; nothing before its first word."""
        try:
            said = json.loads(self._trace.read_bytes())
        except (ValueError, RecursionError):
            return {}
        wanted = {**_SAID, **(_ENDED if isinstance(said, dict) and "code" in said else {})}
        whole = isinstance(said, dict) and all(type(said.get(key)) is kind for key, kind in wanted.items())
        return said if whole else {}


def begin(argv: Sequence[str], *, trace: Path, log: Path, env: Mapping[str, str], cwd: Path) -> ProcessHandle:
    """Start a program and its supervisor.

    Args:
        argv: program and arguments.
        trace: the supervisor's file; there is none yet.
        log: the program's output is appended to it.
        env: exactly these variables.
        cwd: working folder.
    """
    trace.parent.mkdir(exist_ok=True)
    with trace.open("xb") as stream:  # all of it now: it is written in place, on a full disk too
        stream.write(b" " * supervisor.TRACE)
        stream.flush()
        os.fsync(stream.fileno())
    # -I and -S: the recipe's variables and folder are not for the supervisor's Python.
    program = [sys.executable, "-I", "-S", supervisor.__file__, str(trace), str(log), "--"]
    process.detach([*program, *argv], log=log, env=env, cwd=cwd)
    return ProcessHandle(trace)


def found(trace: Path) -> ProcessHandle | None:
    """What was started before, by whomever; None: it was not, or is lost."""
    if not trace.is_file():
        return None
    handle = ProcessHandle(trace)
    if handle.lost():
        handle.bury()
        return None
    return handle


def trace(folders: Folders, start: Start) -> Path:
    """The supervisor's file of one start."""
    return folders.run / "attempts" / f"{start.attempt}.process"


def where() -> str:
    """This machine, as far as process ids mean something in it.

    They do in one PID namespace of one machine: in another, a run that goes on would look lost.
    """
    machine, namespace = "", str(Path("/proc/self/ns/pid").readlink())
    with suppress(OSError):
        machine = Path("/etc/machine-id").read_text().strip()[:8]
    parts = (platform.node(), machine, "" if namespace == _INITIAL else namespace)
    return ":".join(part for part in parts if part)


def _boot() -> str:
    return str((supervisor.identity(os.getpid()) or {}).get("boot"))
