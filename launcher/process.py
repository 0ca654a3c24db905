"""The only module that starts programs: printed before they run, never through a shell."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import ProgramError

#: Set by the command line's ``--verbose``; programs are then printed before they run.
announce: Callable[[str], None] | None = None


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
        raise ProgramError(f"{argv[0]} did not finish within {timeout:g} s", why=printed(argv)) from None
    if check and done.returncode != 0:
        raise failed(argv, done.returncode, done.stderr or done.stdout)
    return Completed(argv=tuple(argv), returncode=done.returncode, stdout=done.stdout, stderr=done.stderr)


@contextmanager
def started(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    clean_env: bool = False,
    cwd: Path | None = None,
    own_group: bool = False,
) -> Iterator["subprocess.Popen[str]"]:
    """Start a program whose output (both streams, one pipe) is read while it runs.

    It is killed when the block is left while it still runs, so that no exception leaks a process.

    Args:
        argv: program and arguments.
        env: variables added to the launcher's own environment, or all of them with ``clean_env``.
        clean_env: start from an empty environment.
        cwd: working folder.
        own_group: a process group of its own, so that a signal reaches its children too.
    """
    _announce(argv)
    base = {} if clean_env else dict(os.environ)
    try:
        child = subprocess.Popen(
            list(argv),
            env={**base, **(env or {})},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=own_group,
        )
    except FileNotFoundError:
        raise _not_found(argv) from None
    try:
        yield child
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
        if child.stdout is not None:
            child.stdout.close()


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
