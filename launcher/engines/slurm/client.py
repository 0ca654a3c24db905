"""Slurm's programs: the questions to slurmctld, and how seldom they are asked."""

import os
import shutil
import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from launcher import process
from launcher.engines.slurm import problems, state
from launcher.engines.slurm.state import Job
from launcher.errors import EngineError, EngineGoneError, ProgramError
from launcher.process import Completed

#: Seconds for which an answer counts: slurmctld serves a whole cluster.
FRESH = 2.0

#: Seconds in which a program answers; Slurm's own MessageTimeout is 10, and it tries again.
_PATIENCE = 60.0

#: What Slurm's programs get of this shell: where Slurm is, and who asks. Others (SLURM_CLUSTERS,
#: SQUEUE_USERS, SCANCEL_INTERACTIVE) would have them ask elsewhere, leave jobs out, or wait for a yes.
_KEPT: tuple[str, ...] = (
    "HOME",
    "LANG",
    "LC_ALL",
    "LOGNAME",
    "MUNGE_SOCKET",
    "PATH",
    "SLURM_CONF",
    "TZ",
    "USER",
)

#: What sbatch gets besides: what a site's users set for themselves, and the option that each stands for.
_OF_SBATCH = {
    "SBATCH_ACCOUNT": "account",
    "SBATCH_CONSTRAINT": "constraint",
    "SBATCH_PARTITION": "partition",
    "SBATCH_QOS": "qos",
    "SBATCH_RESERVATION": "reservation",
    "SBATCH_TIMELIMIT": "time",
}

T = TypeVar("T")

_answers: dict[tuple[str, ...], tuple[float, object]] = {}
_lock = threading.Lock()


def _lately(key: tuple[str, ...], ask: Callable[[], T]) -> T:
    """An answer that is fresh enough; many threads of one command ask the same of each run."""
    with _lock:
        found = _answers.get(key)
        if found is not None and time.monotonic() - found[0] < FRESH:
            return found[1]  # type: ignore[return-value]
        answer = ask()
        _answers[key] = (time.monotonic(), answer)
        return answer


def forget() -> None:
    """What was said before something changed counts no more."""
    with _lock:
        _answers.clear()


def present() -> None:
    """Raise when this machine cannot submit.

    Raises:
        EngineError: Slurm's programs are not here.
    """
    missing = [name for name in ("sbatch", "scontrol", "squeue", "scancel") if shutil.which(name) is None]
    if missing:
        raise EngineError(
            f"{', '.join(missing)} not found: this machine submits nothing to Slurm",
            why="Slurm's programs are not installed here, or not on PATH",
            hint="run it on a login node of the cluster; some sites: module load slurm",
        )


def config() -> str:
    """``scontrol show config``.

    Raises:
        EngineGoneError: slurmctld does not answer.
    """
    return _lately(("config",), lambda: _asked("scontrol", "show", "config"))


def version() -> str:
    """Of Slurm's programs here."""
    return state.version(_asked("scontrol", "--version"))


def job(number: str, name: str) -> Job | None:
    """A job; None: slurmctld has forgotten it, or another one has its number.

    Raises:
        EngineGoneError: slurmctld does not answer.
    """

    def ask() -> Job | None:
        try:
            return state.job(_asked("scontrol", "-o", "show", "job", number))
        except _UnknownJobError:
            return None

    found = _lately(("job", number), ask)
    return found if found is not None and found.name == name else None


def number_of(name: str) -> str:
    """The number of a job by its name; empty: slurmctld knows none.

    Raises:
        EngineGoneError: slurmctld does not answer.
    """
    ask = ("squeue", "--noheader", "--states=all", f"--name={name}", "--format=%i")
    lines = _lately(ask, lambda: _asked(*ask)).split()
    return lines[-1] if lines else ""


def submit(script: str | Path, *, given: Collection[str] = (), test: bool = False) -> str:
    """Submit a script; returns the job's number, or nothing for a test.

    Args:
        script: its text for a test, otherwise its file.
        given: options that it holds by the user's own word. sbatch(1): "Environment variables will override
            any options set in a batch script", so the shell's variables for them are left out.
        test: only ask whether and when it could run.

    Raises:
        EngineError: Slurm refuses it, or has given it to another cluster.
        EngineGoneError: slurmctld does not answer; nobody knows whether it has the job.
    """
    # Of a clean shell everything is exported: asked for nothing, Slurm would log in on the node to get more.
    argv = ["sbatch", "--export=ALL", "--test-only" if test else "--parsable"]
    stdin = script if isinstance(script, str) else None
    kept = [name for name, key in _OF_SBATCH.items() if key not in given]
    done = _ran([*argv, str(script)] if stdin is None else argv, stdin=stdin, kept=kept)
    if done.returncode:
        if problems.unreachable(done.stderr):
            raise _gone(done.stderr)
        raise problems.refused(done.stderr)
    number, _, cluster = done.stdout.strip().partition(";")
    if cluster:
        raise EngineError(
            f"job {number} went to the cluster {cluster}, where nobody looks for it",
            why="sbatch was told of another cluster than the one that this machine asks",
            hint=f"scancel --clusters={cluster} {number}; then log in to that cluster, or set SLURM_CONF",
        )
    return number


def cancel(number: str, *options: str) -> None:
    """``scancel``; a job that has ended is no error.

    Raises:
        EngineGoneError: slurmctld does not answer.
    """
    with suppress(_UnknownJobError):
        _asked("scancel", *options, number)
    forget()


class _UnknownJobError(Exception):
    """slurmctld has no such job."""


def _asked(*argv: str) -> str:
    """What a program prints.

    Raises:
        EngineGoneError, _UnknownJobError.
    """
    done = _ran(argv)
    if done.returncode:
        if problems.unknown_job(done.stderr):
            raise _UnknownJobError
        raise _gone(done.stderr)
    return done.stdout


def _ran(argv: Sequence[str], *, stdin: str | None = None, kept: Sequence[str] = ()) -> Completed:
    """A program of Slurm's, with nothing of this shell but what is kept.

    Raises:
        EngineGoneError: it does not end.
    """
    given = [f"{name}={os.environ[name]}" for name in (*_KEPT, *kept) if name in os.environ]
    try:
        return process.run(["env", "-i", *given, *argv], stdin=stdin, timeout=_PATIENCE, check=False)
    except ProgramError as error:
        raise _gone(error.message.replace("env ", f"{argv[0]} ", 1)) from None


def _gone(said: str) -> EngineGoneError:
    lines: Sequence[str] = [line.strip() for line in said.splitlines() if line.strip()]
    return EngineGoneError(
        "Slurm does not answer; what it has of ours may still run",
        why=lines[-1] if lines else "",
        hint="scontrol ping; when it answers again: launch runs list",
    )
