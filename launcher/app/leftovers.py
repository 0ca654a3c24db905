"""What a killed launcher leaves of its session: the next session's start ends it.

A session belongs to the launcher that began it, and says so in a file of its folder and in a label of its
container. Nothing is touched that belongs to another user, or to a launcher that may be alive.
"""

import os
import re
import shutil
import signal
import stat
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher import paths, process, secretfile, supervisor
from launcher.engines.base import Engine, Phase
from launcher.engines.docker import DockerEngine
from launcher.engines.supervised import ProcessHandle
from launcher.errors import EngineError

#: The label of a session's container that says whose it is.
LABEL = "launch.launcher"

#: The file of a session's folder that says the same, and on a second line the session.
_NOTE = "launcher"

#: Seconds in which a supervisor ends a server.
_PATIENCE = 10.0

_TEXT = re.compile(r"([0-9]{1,10}) ([0-9]{1,10}) ([0-9]{1,20}) ([0-9a-f-]+) (pid:\[[0-9]+\])", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A launcher, told from every other one.

    Attributes:
        uid: its user.
        pid: its number, in its namespace.
        start: when it started, in the kernel's ticks since the boot.
        boot: the kernel's id of the boot.
        space: the kernel's name of the namespace of process numbers: a container has its own.
    """

    uid: int
    pid: int
    start: int
    boot: str
    space: str

    def text(self) -> str:
        """On one line, as :func:`read` takes it."""
        return f"{self.uid} {self.pid} {self.start} {self.boot} {self.space}"


def read(text: str) -> Owner | None:
    """The launcher of a label or file; None: it is none of ours."""
    found = _TEXT.fullmatch(text)
    if found is None:
        return None
    uid, pid, start, boot, space = found.groups()
    return Owner(uid=int(uid), pid=int(pid), start=int(start), boot=boot, space=space)


def own() -> Owner:
    """This launcher."""
    said = supervisor.identity(os.getpid())
    assert said is not None  # noqa: S101 - it is this process
    return Owner(uid=os.getuid(), space=str(Path("/proc/self/ns/pid").readlink()), **said)


def dead(owner: Owner, *, ended: bool) -> bool:
    """Whether a session's launcher is gone, as far as can be known here.

    Args:
        owner: of the session.
        ended: what decides after another boot, which may be another machine's.
    """
    here = own()
    if owner.uid != here.uid:
        return False
    if owner.boot != here.boot:
        return ended
    if owner.space != here.space:  # its number means nothing here
        return False
    try:
        return supervisor.identity(owner.pid) != {"pid": owner.pid, "start": owner.start, "boot": owner.boot}
    except PermissionError:  # somebody else's process by now
        return True


def note(folder: Path, session: str, owner: str) -> None:
    """Write whose a session's folder is."""
    paths.write_atomic(folder / _NOTE, f"{owner}\n{session}\n", mode=0o600)


def sweep(engine: Engine[Any], parent: Path) -> None:
    """End the sessions that nobody holds any more; what cannot be ended is left to the next sweep.

    Args:
        engine: whose containers are looked at.
        parent: of the sessions' folders.
    """
    secretfile.sweep()
    if isinstance(engine, DockerEngine):
        _sweep_containers(engine)
    for folder in parent.glob("launch-*"):
        with suppress(OSError, UnicodeDecodeError):
            _sweep_folder(folder)


def _sweep_containers(engine: DockerEngine) -> None:
    from docker.errors import DockerException

    with suppress(DockerException, EngineError, OSError):
        for container in engine.connect().containers.list(
            all=True, filters={"label": LABEL}, ignore_removed=True
        ):
            owner = read(container.labels.get(LABEL, ""))
            if owner is not None and dead(owner, ended=container.status in ("exited", "dead")):
                with suppress(DockerException):
                    container.remove(force=True)


def _sweep_folder(folder: Path) -> None:
    """Remove a dead session's folder, and end what was started in it.

    Raises:
        OSError: it is not one, or of somebody else.
    """
    file = folder / _NOTE
    of_file, of_folder = file.lstat(), folder.lstat()
    if not (stat.S_ISREG(of_file.st_mode) and stat.S_ISDIR(of_folder.st_mode)):
        return
    if of_file.st_uid != os.getuid():
        return
    line, _, session = file.read_text().strip().partition("\n")
    owner = read(line)
    if owner is None or not session or not dead(owner, ended=True):
        return
    # Under sudo a folder is handed to another user, who could name any process in it: none is ended then.
    supervised = of_folder.st_uid == os.getuid() and _end_supervised(folder)
    left = process.with_variables({"LAUNCH_RUN_ID": session})
    if left and not supervised:
        return  # a shell's own programs, or a container that this engine does not know
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    secretfile.forget(session)
    shutil.rmtree(folder, ignore_errors=True)


def _end_supervised(folder: Path) -> bool:
    """End the programs that a supervisor of this session holds; False: there was never one."""
    handles = [ProcessHandle(trace) for trace in folder.glob("run/attempts/*.process")]
    for handle in handles:
        if handle.phase() is Phase.RUNNING and not handle.lost():
            handle.kill()
        deadline = time.monotonic() + _PATIENCE
        while handle.phase() is Phase.RUNNING and not handle.lost() and time.monotonic() < deadline:
            time.sleep(0.05)
    return bool(handles)
