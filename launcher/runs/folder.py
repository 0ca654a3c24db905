"""A run's folder: its id, what is made before the start, and who may write where."""

import datetime
import os
import re
import secrets
import shutil
import time
from contextlib import suppress
from pathlib import Path

from launcher import paths
from launcher import plan as plans
from launcher.errors import OutputError
from launcher.plan import Folders, RunPlan
from launcher.runs.lock import Lock

#: Names the run in its output folder. Made exclusively, so that two launchers never share one: between a
#: start and the first file of a trainer lie many seconds in which the folder looks unused.
CLAIM = ".launch-run"

#: Disk space that the run's result will need: a full disk must not take the word about a run's end.
RESERVE = ".reserve"

_RESERVED = 256 * 1024


def new_id(recipe: str) -> str:
    """A run's id: when, what, and six random hex digits, so that two launchers never share one.

    It is part of the container's name, for which the engine takes these characters only.
    """
    now = datetime.datetime.now(datetime.UTC)
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", recipe)
    return f"{now:%Y%m%d-%H%M%S}-{name}-{secrets.token_hex(3)}"


def now() -> str:
    """UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def moment(at: float | None = None) -> str:
    """The same, to the millisecond: what starts and ends of runs are noted with.

    Args:
        at: seconds since 1970; None: now.
    """
    seconds = time.time() if at is None else at
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="milliseconds")


def folders(run_id: str, plan: RunPlan, parent: Path | None = None) -> Folders:
    """The folders of a run; nothing is made."""
    run = (parent or paths.runs()) / run_id
    return Folders(run=run, output=plan.output or run / "output", home=paths.cache() / "home" / plan.target)


def prepare(plan: RunPlan, run_id: str, command: str, place: Folders) -> Lock:
    """Make the folders and write what is known before the start.

    Returns:
        The lock of the launcher that follows the run.

    Raises:
        OutputError: the output folder holds something already.
    """
    refuse_used_output(place.output)
    try:
        place.run.mkdir(parents=True)
    except OSError as error:
        raise _not_made(error) from None
    lock = Lock.take(place.run)
    try:
        make(place)
        paths.write_atomic(place.run / "command", command + "\n")
        own(place, plan.uid, plan.gid)
        _remember(place.run)
        paths.write_atomic(place.run / "plan.json", plans.to_json(plan))  # with it the record can be read
        _claim(place, run_id)  # now: what claims an output is found, and gives it free again
    except BaseException as error:
        _undo(place, lock)
        if isinstance(error, OSError):
            raise _not_made(error) from None
        raise
    return lock


def _claim(place: Folders, run_id: str) -> None:
    """Take the output folder, with one system call that only one launcher succeeds in."""
    with (place.output / CLAIM).open("x", encoding="utf-8") as claim:
        try:
            claim.write(run_id + "\n")
            claim.flush()
        except OSError:  # a full disk
            (place.output / CLAIM).unlink()
            raise


def _undo(place: Folders, lock: Lock) -> None:
    """A run that could not be prepared leaves nothing."""
    with suppress(OSError):
        (paths.known_runs() / place.run.name).unlink()
    shutil.rmtree(place.run, ignore_errors=True)
    lock.release()


def _not_made(error: OSError) -> OutputError:
    if isinstance(error, FileExistsError):
        return OutputError(
            f"{error.filename} exists", why="another launcher was faster", hint="give another --output"
        )
    return OutputError(
        f"{error.filename or 'the record'} cannot be made",
        why=error.strerror or "",
        hint="give --output, LAUNCH_RUNS_DIR or LAUNCH_CACHE_DIR a folder that you may write to, with room",
    )


def make(place: Folders) -> None:
    """Make what a start needs, below the run's folder, which is there."""
    for folder in (place.output, place.home, place.run / "scratch"):
        folder.mkdir(parents=True, exist_ok=True)
    (place.run / RESERVE).write_bytes(b"\0" * _RESERVED)


def _remember(run: Path) -> None:
    """Make the run known to commands in other folders; it runs as well without."""
    with suppress(OSError):
        known = paths.known_runs()
        known.mkdir(parents=True, exist_ok=True)
        (known / run.name).symlink_to(run)


def unclaim(place: Folders) -> None:
    """Give the output folder of a run that never started free again, unless another run has it."""
    claim = place.output / CLAIM
    with suppress(FileNotFoundError):
        # Empty: its launcher was killed before it had written.
        if claim.read_text(encoding="utf-8", errors="replace").strip() in ("", place.run.name):
            claim.unlink()


def refuse_used_output(output: Path) -> None:
    """Nothing is ever overwritten.

    Raises:
        OutputError: the folder holds something already, or is a file.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise OutputError(
            f"{output} is not empty",
            why="an earlier run, or other files, would mix with this one's",
            hint="give another --output, or leave it out: each run then gets a folder of its own",
        )


def own(place: Folders, uid: int, gid: int) -> None:
    """Give the run's folders to the user that the run has; only root can and needs to."""
    if os.getuid() == 0 and uid != 0:
        for folder in (place.run, place.output, place.home, place.run / "scratch"):
            os.chown(folder, uid, gid)
