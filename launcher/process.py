"""The only module that starts programs: printed before they run, never through a shell."""

import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import ProgramError

#: Set by the command line's ``--verbose``; programs are then printed before they run.
announce: Callable[[str], None] | None = None


#: The code of a program that was ended because it took too long, as timeout(1) has it.
TIMED_OUT = 124

#: Seconds that a program of :func:`attached` has to end when the launcher is told to.
_HEED = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """What a program printed and how it ended."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str


def printed(argv: Sequence[str]) -> str:
    """The command as one line that can be pasted into a shell."""
    return shlex.join(argv)


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
    timeout: float | None = None,
    check: bool = True,
) -> Completed:
    """Run a program to its end and return its output.

    Args:
        argv: program and arguments.
        env: variables added to (and overriding) the launcher's own environment.
        cwd: working folder.
        stdin: text for its standard input; without it there is none.
        timeout: seconds.
        check: raise when it exits with anything but 0.

    Raises:
        ProgramError: not found, timed out, or (with ``check``) failed.
    """
    _announce(argv)
    try:
        done = subprocess.run(
            list(argv),
            env={**os.environ, **(env or {})},
            cwd=cwd,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError:
        raise _not_found(argv) from None
    except subprocess.TimeoutExpired:
        raise ProgramError(
            f"{argv[0]} did not finish within {timeout:g} s", returncode=TIMED_OUT, why=printed(argv)
        ) from None
    if check and done.returncode != 0:
        raise failed(argv, done.returncode, done.stderr or done.stdout)
    return Completed(argv=tuple(argv), returncode=done.returncode, stdout=done.stdout, stderr=done.stderr)


class Child:
    """A program that runs while its output (both streams, one pipe) is read.

    It leads a process group of its own, so that a signal reaches its children too.
    """

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path | None = None) -> None:
        """Start it with exactly these variables.

        Raises:
            ProgramError: it cannot be started.
        """
        _announce(argv)
        try:
            self._child = subprocess.Popen(
                list(argv),
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except FileNotFoundError:
            raise _not_found(argv) from None

    @property
    def pid(self) -> int:
        """Process id, and id of its group."""
        return self._child.pid

    def lines(self) -> Iterator[str]:
        """Its output until it ends."""
        if self._child.stdout is not None:
            with self._child.stdout as stream:
                for line in stream:
                    yield line.decode(errors="replace").rstrip("\n")

    def wait(self, timeout: float | None = None) -> int | None:
        """Exit code, negative for a signal; None when it still runs after ``timeout`` seconds."""
        try:
            return self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def signal_group(self, number: int) -> None:
        """Send a signal to it and its children; nothing happens when all have ended."""
        with suppress(ProcessLookupError):
            os.killpg(self._child.pid, number)


@contextmanager
def started(argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> Iterator[Child]:
    """A program with these variables added to the launcher's own; killed if the block is left early."""
    child = Child(argv, env={**os.environ, **(env or {})})
    try:
        yield child
    finally:
        if child.wait(0) is None:
            child.signal_group(signal.SIGKILL)
            child.wait()


def attached(argv: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> int:
    """Run a program on the launcher's own streams, with exactly these variables; returns its exit code.

    Ctrl-C is the program's: the launcher waits for what it makes of it. SIGTERM and SIGHUP are passed on;
    what does not end by them (an interactive bash ignores SIGTERM) is killed a little later. The code is
    128 + number when a signal ended it.

    Raises:
        ProgramError: it cannot be started.
    """
    _announce(argv)
    child: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def end(number: int, *_: object) -> None:
        if child is None:
            early.append(number)
            return
        child.send_signal(number)
        killer = threading.Timer(_HEED, child.kill)
        killer.daemon = True
        killer.start()

    # Handlers, for an ignored signal would stay ignored in the program.
    wanted = {signal.SIGINT: lambda *_: None, signal.SIGQUIT: lambda *_: None}
    before = {
        number: signal.signal(number, handler)
        for number, handler in {**wanted, signal.SIGTERM: end, signal.SIGHUP: end}.items()
    }
    try:
        child = subprocess.Popen(list(argv), env=dict(env), cwd=cwd)
        for number in early:
            end(number)
        code = child.wait()
    except FileNotFoundError:
        raise _not_found(argv) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 128 - code if code < 0 else code


def detach(
    argv: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    keep: Sequence[int] = (),
) -> int:
    """Start a program that outlives the launcher, in a session of its own.

    Args:
        argv: program and arguments.
        log: its output is appended to this file.
        env: exactly these variables; None: the launcher's own.
        cwd: working folder.
        keep: descriptors of this process that it gets too.

    Returns:
        Its process id.
    """
    _announce(argv)
    with log.open("ab") as stream:
        child = subprocess.Popen(
            list(argv),
            env=None if env is None else dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
            pass_fds=tuple(keep),
        )
    return child.pid


def members(session: int) -> list[int]:
    """The processes of a session; its number is not given to another process while there is one."""
    return [pid for pid, _, fields in _living() if int(fields[3]) == session]


def with_variables(wanted: Mapping[str, str]) -> list[int]:
    """The processes that were started with these variables, as far as this user may see."""
    lines = {f"{name}={value}".encode() for name, value in wanted.items()}
    found = []
    for pid, entry, _ in _living():
        with suppress(OSError):
            if pid != os.getpid() and lines.issubset((entry / "environ").read_bytes().split(b"\0")):
                found.append(pid)
    return found


def _living() -> Iterator[tuple[int, Path, list[str]]]:
    """Processes that have not ended: number, folder in /proc, and the fields of ``stat`` behind the name."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
                if fields[0] not in "ZX":
                    yield int(entry.name), entry, fields


def failed(argv: Sequence[str], returncode: int, output: str) -> ProgramError:
    """The error of a program that exited with another code than 0; carries its last lines."""
    tail = "\n".join(output.strip().splitlines()[-15:])
    return ProgramError(
        f"{Path(argv[0]).name} exited with code {returncode}",
        returncode=returncode,
        output=output,
        why=tail,
        hint=f"to see it by itself: {printed(argv)}",
    )


def _announce(argv: Sequence[str]) -> None:
    if announce is not None:
        announce(printed(argv))


def _not_found(argv: Sequence[str]) -> ProgramError:
    return ProgramError(
        f"{argv[0]} is not installed, or not on PATH",
        returncode=127,
        hint=f"looked in: {os.environ.get('PATH', '')} (Python: {sys.executable})",
    )
