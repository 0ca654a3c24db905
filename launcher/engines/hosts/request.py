"""One start on several hosts, as data."""

import ipaddress
import re
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from launcher import process
from launcher.engines import supervised
from launcher.engines.hosts import script
from launcher.engines.hosts.script import DRIVER, Traces
from launcher.engines.shell import quoted, text_of
from launcher.errors import UsageError
from launcher.plan import Folders, RunPlan, Start
from launcher.secretfile import SecretFile

#: Ports of the rendezvous, two for each start, below the ones that Linux gives to programs (32768 and up).
_PORTS, _STARTS = 20000, 6000

#: DeepSpeed's launcher passes a script's path and its own Python's through a shell as they are.
_PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")

#: ssh asks nobody. It gives the script a terminal, which is hung up when the connection ends, however that
#: ends; and it notices within a minute that a host does not answer any more.
SSH = "-o BatchMode=yes"
_ATTACHED = f"-tt {SSH} -o ServerAliveInterval=15 -o ServerAliveCountMax=4"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostsRequest:
    """One start, as data.

    Attributes:
        command: DeepSpeed's launcher with its options.
        environment: of it, exactly.
        text: the script that each host runs.
        hostfile: the hosts, as DeepSpeed reads them.
        secrets: how the hosts get them; None: there are none.
        traces: files for the hosts.
        log: gets the output of all of them.
        trace: the supervisor's file.
        start: which one.
        records: the folder of records.
    """

    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    text: str
    hostfile: str
    secrets: SecretFile | None
    traces: Traces
    log: Path
    trace: Path
    start: Start
    records: Path

    def argv(self) -> tuple[str, ...]:
        """What is started here."""
        return ("bash", "-c", DRIVER, "hosts", str(self.traces.word), *self.command)

    def printed(self) -> str:
        """The same as lines to paste; the values of secrets are left to the caller's shell."""
        left = self.traces
        lines = [f"mkdir -p {quoted(str(left.folder))}"]
        for name, path, text in (
            ("hostfile", left.hostfile, self.hostfile),
            ("script", left.script, self.text),
        ):
            lines.append(text_of(name, text, mark=name.upper()))
            lines.append(f'printf %s "${name}" >{quoted(str(path))}')
        lines.append(f"chmod +x {quoted(str(left.script))}; printf 'goes\\n' >{quoted(str(left.word))}")
        variables = [f"{name}={value}" for name, value in self.environment if name.startswith("PDSH")]
        line = f"cd / && {process.printed(['env', *variables, *self.command])}"
        return "\n".join([*lines, line if self.secrets is None else self.secrets.around(line)])


def render(
    plan: RunPlan,
    folders: Folders,
    start: Start,
    environment: Path | None,
    *,
    program: str,
    variables: tuple[tuple[str, str], ...],
    shell: tuple[tuple[str, str], ...],
) -> HostsRequest:
    """The start of a plan; pure.

    Args:
        plan: of the run.
        folders: the run's own.
        start: which one.
        environment: the embedded one, for a run without a container.
        program: DeepSpeed's launcher.
        variables: of it.
        shell: variables of the hosts' shells; PATH is one.

    Raises:
        UsageError: a path that DeepSpeed's launcher cannot hand on.
    """
    names = plan.hosts.names if plan.hosts else ()
    left = script.traces(folders, start)
    if not _PLAIN.fullmatch(str(left.script)):
        raise UsageError(
            f"DeepSpeed's launcher cannot start what lies below {folders.run}",
            why="it passes the path through a shell without quoting it",
            hint="LAUNCH_RUNS_DIR with nothing but letters, digits and _ @ % + = : , . / - in its name",
        )
    how = script.launched(plan, folders, start, environment, dict(shell)["PATH"])
    port = _PORTS + zlib.crc32(f"{start.run}.{start.attempt}".encode()) % _STARTS * 2
    own = dict(variables)
    own["PDSH_SSH_ARGS_APPEND"] = f"{own.get('PDSH_SSH_ARGS_APPEND', '')} {_ATTACHED}".strip()
    own["LAUNCH_RUN_ID"] = start.run
    return HostsRequest(
        command=(
            *(program, "--hostfile", str(left.hostfile), "--launcher", "pdsh", "--launcher_args=-N"),
            *("--num_gpus", "1", "--no_python", "--no_local_rank"),
            *_address(names[:1]),
            *("--master_port", str(port), "--log_level", "warning", str(left.script)),
        ),
        environment=tuple(sorted(own.items())),
        text=script.script(plan, folders, start, how, shell),
        hostfile="".join(f"{name} slots={plan.nproc}\n" for name in names),
        secrets=how.secrets,
        traces=left,
        log=folders.run / "log.txt",
        trace=supervised.trace(folders, start),
        start=start,
        records=folders.run.parent,
    )


def _address(first: tuple[str, ...]) -> tuple[str, ...]:
    """Where node 0 is reached, if its name says so; otherwise DeepSpeed's launcher asks it (hostname -I)."""
    with suppress(ValueError):
        return ("--master_addr", str(ipaddress.ip_address("".join(first).rpartition("@")[2])))
    return ()
