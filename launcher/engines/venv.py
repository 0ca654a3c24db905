"""Runs without containers: the same lock in an environment of the user's cache, the same recipe.

A supervisor (:mod:`launcher.supervisor`) is the recipe's parent and writes its log and its end, so that a run
is found again, and its end is known, whatever becomes of the launcher.
"""

import json
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher import plan as plans
from launcher import process, secretfile, supervisor
from launcher.engines.base import Description, Exit, Phase
from launcher.errors import DeviceError, EngineError
from launcher.host import nvidia
from launcher.plan import EngineName, Folders, RunPlan, Start
from launcher.secretfile import SecretFile

#: What a run inherits of the caller's environment; everything else is in the plan.
_INHERITED = ("LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TZ")

#: What a supervisor says, and what it adds when the recipe has ended; see launcher.supervisor.
_SAID: dict[str, type] = {"pid": int, "start": int, "boot": str}
_ENDED: dict[str, type] = {"code": int, "memory_kills": bool, "ended": str}

#: The PID namespace of a machine itself; see PROC_PID_INIT_INO in the kernel's linux/proc_ns.h.
_INITIAL = "pid:[4026531836]"

#: Seconds between two looks at a supervisor.
_PAUSE = 0.05

#: Seconds in which a supervisor says who it is; it takes some hundredths.
_HELLO = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRequest:
    """One process, as data.

    Attributes:
        command: without what gives it its secrets.
        secrets: how it gets them; None: it has none.
    """

    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    secrets: SecretFile | None
    folder: Path
    log: Path
    trace: Path

    def argv(self) -> tuple[str, ...]:
        """What is started."""
        return self.command if self.secrets is None else self.secrets.command(self.command)

    def printed(self) -> str:
        """The equivalent ``env`` line; the values of secrets are left to the caller's shell."""
        variables = [f"{name}={value}" for name, value in self.environment]
        folder = process.printed([str(self.folder)])
        line = f"cd {folder} && {process.printed(['env', *variables, *self.argv()])}"
        return line if self.secrets is None else self.secrets.around(line)


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


class VenvEngine:
    """Processes in an embedded environment.

    Args:
        environment: the folder of the environment; a dry run may name one that does not exist yet.
    """

    name: EngineName = "venv"

    def __init__(self, environment: Path) -> None:
        self.environment = environment

    def check(self, plan: RunPlan) -> None:
        """See base.Engine.check.

        Raises:
            DeviceError: the target's device is not on this machine.
        """
        if plan.access.nvidia and not nvidia.may_be_there():
            raise DeviceError("there is no NVIDIA GPU on this machine", hint="choose another --target")
        for device in plan.access.devices:
            if not Path(device).exists():
                raise DeviceError(f"{device} is not on this machine", hint="choose another --target")

    def describe(self, plan: RunPlan) -> Description:
        """See base.Engine.describe; the version is that of the environment's Python."""
        home = self.environment / "pyvenv.cfg"
        lines = home.read_text().splitlines() if home.is_file() else []
        found = [line.split("=", 1)[1].strip() for line in lines if line.startswith("version")]
        return Description(image_digest=None, version=found[0] if found else "unknown", where=self.where())

    def where(self) -> str:
        """See base.Engine.where.

        Process ids mean something in one PID namespace of one machine: in another, a run that goes on would
        look lost.
        """
        machine, namespace = "", str(Path("/proc/self/ns/pid").readlink())
        with suppress(OSError):
            machine = Path("/etc/machine-id").read_text().strip()[:8]
        found = (platform.node(), machine, "" if namespace == _INITIAL else namespace)
        return ":".join(part for part in found if part)

    def render(self, plan: RunPlan, folders: Folders, start: Start) -> ProcessRequest:
        """See base.Engine.render."""
        places = plans.on_host(plan, folders)
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        path = f"{self.environment / 'bin'}:{os.environ.get('PATH', os.defpath)}"
        # What the target says of its environment's folder is of this one here.
        wanted = {
            name: value.replace(plans.ENVIRONMENT, str(self.environment))
            for name, value in plans.environment(plan, places, start)
        }
        variables = {**inherited, **wanted, **_gpus(plan), "PATH": path}
        return ProcessRequest(
            command=plans.command(plan, places),
            environment=tuple(sorted({**variables, "VIRTUAL_ENV": str(self.environment)}.items())),
            secrets=secretfile.on_host(plan, start, self.environment),
            folder=folders.output,
            log=folders.run / "log.txt",
            trace=_trace(folders, start),
        )

    def start(self, submission: ProcessRequest, secrets: Mapping[str, str]) -> ProcessHandle:
        """See base.Engine.start."""
        trace, log = submission.trace, submission.log
        trace.parent.mkdir(exist_ok=True)
        with trace.open("xb") as stream:  # all of it now: it is written in place, on a full disk too
            stream.write(b" " * supervisor.TRACE)
            stream.flush()
            os.fsync(stream.fileno())
        # -I and -S: the recipe's variables and folder are not for the supervisor's Python.
        program = [sys.executable, "-I", "-S", supervisor.__file__, str(trace), str(log), "--"]
        variables = dict(submission.environment)
        with secretfile.handed(submission.secrets, secrets, read=True):
            process.detach([*program, *submission.argv()], log=log, env=variables, cwd=submission.folder)
        return ProcessHandle(trace)

    def find(self, folders: Folders, start: Start) -> ProcessHandle | None:
        """See base.Engine.find."""
        trace = _trace(folders, start)
        if not trace.is_file():
            return None
        handle = ProcessHandle(trace)
        if handle.lost():
            handle.bury()
            return None
        return handle


def _trace(folders: Folders, start: Start) -> Path:
    return folders.run / "attempts" / f"{start.attempt}.process"


def _boot() -> str:
    return str((supervisor.identity(os.getpid()) or {}).get("boot"))


def _gpus(plan: RunPlan) -> dict[str, str]:
    """The plan's GPUs as CUDA takes them; numbers are those of nvidia-smi, not the fastest GPU first.

    What Level Zero takes is the same in containers, and in :func:`launcher.plan.environment`.
    """
    gpus = plan.access.nvidia
    order = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"} if gpus else {}
    return order if gpus in ("", "all") else {**order, plans.VISIBLE: gpus}
