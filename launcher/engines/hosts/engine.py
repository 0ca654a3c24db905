"""Hosts reached by ssh as an engine; DeepSpeed's launcher and pdsh are programs of the machine."""

import os
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from launcher import paths, process, runs, secretfile
from launcher.engines import nodes, supervised
from launcher.engines.base import Description, Exit
from launcher.engines.hosts import request, script
from launcher.engines.hosts.request import SSH, HostsRequest
from launcher.engines.hosts.script import Traces
from launcher.engines.supervised import ProcessHandle
from launcher.errors import EngineError, ProgramError
from launcher.plan import EngineName, Folders, RunPlan, Start

#: What DeepSpeed's launcher and ssh get of this shell.
_KEPT = ("HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SSH_AUTH_SOCK", "TZ", "USER", "PDSH_SSH_ARGS_APPEND")

#: Where hosts look for programs in any case.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#: Exit code of ssh when it is not the program's own: see ssh(1). pdsh gives the largest of all hosts.
_SSH_FAILED = 255

#: Seconds in which a host whose connection has ended has ended its recipe; it kills after ten.
_HUNG_UP = 20.0

#: Seconds in which hosts answer.
_ANSWER = 60.0

#: Seconds between two looks.
_PAUSE = 0.2


class HostsHandle(ProcessHandle):
    """A run on hosts: what is followed here is DeepSpeed's launcher.

    Args:
        trace: the supervisor's file.
        traces: files for the hosts.
        start: which one.
        records: the folder of records.
    """

    def __init__(self, trace: Path, traces: Traces, start: Start, records: Path) -> None:
        super().__init__(trace)
        self._traces, self._start, self._records = traces, start, records

    def wait(self) -> Exit:
        """See base.Handle.wait; a run that was killed here has ended when the hosts have ended it.

        Raises:
            EngineError: a host was lost.
        """
        end = super().wait()
        if end.code == _SSH_FAILED and not self._traces.own.exists():
            raise EngineError(
                "a host was lost: its connection ended before the recipe did",
                why="the host is down, or the network between here and there is; the log has what ssh says",
                hint=f"launch runs resume {self._start.run} goes on from the last checkpoint",
            )
        deadline = time.monotonic() + _HUNG_UP
        while any(self._going()) and time.monotonic() < deadline:
            time.sleep(_PAUSE)
        return end

    def remove(self) -> None:
        """See base.Handle.remove: the file of secrets is all that is left."""
        secretfile.forget(self._start.run, self._records)

    def _going(self) -> list[Path]:
        return list(self._traces.folder.glob(f"{self._traces.going.name}.*"))


class HostsEngine:
    """Hosts of a plan, by DeepSpeed's launcher.

    Args:
        environment: the embedded environment, for a run without a container; a dry run may name one that does
            not exist yet.
    """

    name: EngineName = "hosts"

    def __init__(self, environment: Path | None = None) -> None:
        self._environment = environment

    def check(self, plan: RunPlan) -> None:
        """See base.Engine.check: every host is asked, by pdsh and ssh, as DeepSpeed's launcher goes there.

        Raises:
            EngineError: a program is not here; a host cannot be reached, or lacks something.
            ImageMissingError: a host has not got the image.
            UsageError: a path that DeepSpeed's launcher cannot hand on.
        """
        program, start = self._program(), Start(run="check")
        if not os.access(program, os.X_OK):
            raise EngineError(
                "DeepSpeed's launcher is not here",
                why=f"there is no program deepspeed on PATH ({os.environ.get('PATH', '')})",
                hint="pip install torch deepspeed, in an environment that all hosts have at the same path",
            )
        if shutil.which("pdsh") is None:
            raise EngineError(
                "pdsh is not here",
                why="DeepSpeed's launcher goes to hosts with it",
                hint="apt-get install pdsh",
            )
        self.render(plan, runs.folders(start.run, plan), start)
        how = script.launched(plan, runs.folders(start.run, plan), start, self._environment, _PATH)
        records = paths.runs()
        there = next(each for each in (records, *records.parents) if each.exists())
        asked = script.check(plan, there, how, _python(program), _shell())
        _ask(plan.hosts.names if plan.hosts else (), asked)

    def describe(self, plan: RunPlan) -> Description:
        """See base.Engine.describe; the version is DeepSpeed's."""
        code = "from importlib.metadata import version; print(version('deepspeed'))"
        try:
            found = process.run([_python(self._program()), "-I", "-c", code], timeout=_ANSWER).stdout.strip()
        except ProgramError:
            found = "unknown"
        return Description(image_digest=None, version=found, where=self.where())

    def where(self) -> str:
        """See base.Engine.where: of what started it, which is followed."""
        return f"hosts:{supervised.where()}"

    def render(self, plan: RunPlan, folders: Folders, start: Start) -> HostsRequest:
        """See base.Engine.render."""
        kept = tuple((name, os.environ[name]) for name in _KEPT if name in os.environ)
        return request.render(
            plan,
            folders,
            start,
            self._environment,
            program=self._program(),
            variables=kept,
            shell=_shell(),
        )

    def start(self, submission: HostsRequest, secrets: Mapping[str, str]) -> HostsHandle:
        """See base.Engine.start."""
        left = submission.traces
        left.folder.mkdir(exist_ok=True)
        paths.write_atomic(left.hostfile, submission.hostfile)
        paths.write_atomic(left.script, submission.text)
        left.script.chmod(0o755)
        with secretfile.handed(submission.secrets, secrets, read=True):
            supervised.begin(
                submission.argv(),
                trace=submission.trace,
                log=submission.log,
                env=dict(submission.environment),
                cwd=Path("/"),  # its path goes through a shell on each host
            )
        return HostsHandle(submission.trace, left, submission.start, submission.records)

    def find(self, folders: Folders, start: Start) -> HostsHandle | None:
        """See base.Engine.find."""
        trace = supervised.trace(folders, start)
        if supervised.found(trace) is None:
            return None
        return HostsHandle(trace, script.traces(folders, start), start, folders.run.parent)

    def _program(self) -> str:
        """DeepSpeed's launcher: the environment's own, if its target has it, or that of PATH."""
        own = (self._environment or Path()) / "bin" / "deepspeed"
        if self._environment is not None and own.is_file():
            return str(own)
        return shutil.which("deepspeed") or "deepspeed"


def _shell() -> tuple[tuple[str, str], ...]:
    """Variables of the hosts' shells."""
    own = [part for part in os.environ.get("PATH", "").split(":") if part.startswith("/")]
    shell = [("PATH", ":".join(dict.fromkeys([*own, *_PATH.split(":")])))]
    # A socket of each host's own; a machine by name would be one for all of them.
    if (address := os.environ.get("DOCKER_HOST", "")).startswith("unix://"):
        shell.append(("DOCKER_HOST", address))
    return tuple(shell)


def _python(program: str) -> str:
    """What runs DeepSpeed's launcher, here and on the hosts: its first line says so."""
    try:
        with Path(program).open("rb") as stream:
            first = os.fsdecode(stream.readline()).strip()
    except OSError:
        first = ""
    return first.removeprefix("#!").split(" ")[0] if first.startswith("#!/") else program


def _ask(names: tuple[str, ...], text: str) -> None:
    """Run a check on all hosts at once, and raise what they say.

    Raises:
        EngineError, ImageMissingError: a host cannot be reached, or lacks something.
    """
    also = f"{os.environ.get('PDSH_SSH_ARGS_APPEND', '')} {SSH}".strip()
    done = process.run(
        ["pdsh", "-R", "ssh", "-N", "-w", ",".join(names), process.printed(["bash", "-c", text])],
        env={"PDSH_SSH_ARGS_APPEND": also},
        timeout=_ANSWER,
        check=False,
    )
    lost = re.findall(rf": (\S+): ssh exited with exit code {_SSH_FAILED}", done.stderr)
    if lost or done.returncode:
        hosts = ", ".join(name for name in names if name in lost) or "the hosts"
        said = [line for line in done.stderr.splitlines() if "ssh exited with exit code" not in line]
        raise EngineError(
            f"{hosts} cannot be reached by ssh",
            why="; ".join(line.strip() for line in said[-3:]),
            hint="ssh -o BatchMode=yes HOST true has to succeed for every host of the file",
        )
    lines = (line for line in done.stdout.splitlines() if line.startswith(script.PROBLEM))
    lacks = nodes.lacking("\n".join(lines), "another --engine")
    if lacks is not None:
        raise lacks
