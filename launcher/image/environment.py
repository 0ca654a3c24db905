"""The same lock as a plain virtual environment, made by uv from the view, shared by all runs.

It is built at its final place (an environment cannot be moved) under a file lock, and a marker is written
last: without the marker it is not there, and is made anew.
"""

import fcntl
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from launcher import lock, paths
from launcher.errors import CheckError, EngineError, ProgramError
from launcher.image import fetch, uv
from launcher.lock import TargetLock
from launcher.manifest import Target
from launcher.progress import Progress

_MARKER = ".complete"
_INSTALL = (
    "--quiet", "--no-config", "--offline", "--no-index", "--no-deps", "--require-hashes",
    "--link-mode", "hardlink",
)  # fmt: skip

# A line of `uv pip check`.
_UNMET = re.compile(r"The package `(?P<package>[^`]+)` requires `(?P<needs>[^`]+)`")

# A line below uv's `error:`, in its present and its former words.
_CAUSE = re.compile(r"^\s*(?:cause|Caused by): (?P<cause>.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """A complete environment: its folder, and the Python in it."""

    folder: Path
    python: Path


def folder(target_lock: TargetLock) -> Path:
    """Where the environment of a lock is, or would be."""
    digest = target_lock.for_environment().digest
    return paths.cache() / "envs" / f"{target_lock.target}-{digest[:12]}"


def existing(target_lock: TargetLock) -> Environment | None:
    """The environment of a lock when it is complete; a matter of microseconds."""
    place = folder(target_lock)
    done = (place / _MARKER).is_file()
    return Environment(folder=place, python=place / "bin" / "python") if done else None


def ensure(target: Target, target_lock: TargetLock, *, progress: Progress) -> Environment:
    """The environment of a lock, made when it is not there; two launchers make it once.

    Raises:
        FetchError: files of the lock cannot be had.
        EngineError: there is no Python of the target's version (found out before anything is fetched), or uv
            cannot install.
        CheckError: what is installed is not what the lock says.
    """
    done = existing(target_lock)
    if done is not None:
        return done
    with _alone(folder(target_lock), progress):
        done = existing(target_lock)
        if done is not None:
            return done
        _create(target, folder(target_lock))
        view = fetch.fetch(target, target_lock.for_environment(), progress=progress)
        _fill(target, target_lock, view.folder, progress)
        (folder(target_lock) / _MARKER).write_text(f"lock {target_lock.digest}\n", encoding="utf-8")
    return Environment(folder=folder(target_lock), python=folder(target_lock) / "bin" / "python")


@contextmanager
def _alone(place: Path, progress: Progress) -> Iterator[None]:
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_name(f".{place.name}.lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.say("another launch makes the environment; waiting for it")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _fill(target: Target, target_lock: TargetLock, view: Path, progress: Progress) -> None:
    place = folder(target_lock)
    task = f"environment {target.name}"
    progress.start(task, total=len(target_lock.layers) + 1)
    for part in target_lock.layers:
        _install(target_lock, part, view, place)
        progress.advance(task, 1)
    _verify(target, target_lock, place)
    progress.finish(task)


def _create(target: Target, place: Path) -> None:
    """An empty environment with the target's Python: the launcher's own, one that uv finds, or brings."""
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    python = sys.executable if own == target.python else target.python
    try:
        uv.run(["venv", "--quiet", "--clear", "--no-project", "--python", python, str(place)])
    except ProgramError as error:
        raise EngineError(
            f"there is no Python {target.python} for the environment of {target.name}",
            why=_last_cause(error.output),
            hint=f"install python{target.python} (apt, pyenv, or `uv python install {target.python}`), or "
            "name a mirror for uv to bring it from (UV_PYTHON_INSTALL_MIRROR), or run with --engine docker",
        ) from None


def _last_cause(said: str) -> str:
    """The innermost cause of uv's last error, one line; without its warnings and what other programs said."""
    error = re.split(r"^error: ", said, flags=re.MULTILINE)[-1]
    causes = [found["cause"] for found in _CAUSE.finditer(error)]
    return causes[-1] if causes else error.partition("\n")[0]


def _install(target_lock: TargetLock, part: lock.Lock, view: Path, place: Path) -> None:
    """One layer, without network; a package without a wheel is built from the locked build requirements."""
    files = {"lock.txt": lock.render(part)}
    arguments = ["--find-links", str(view / part.layer), "--requirements", "lock.txt"]
    if target_lock.build is not None and any(package.is_source for package in part.packages):
        files["build.txt"] = lock.render(target_lock.build)
        arguments += ["--find-links", str(view / lock.BUILD), "--build-constraints", "build.txt"]
    else:
        arguments += ["--no-build"]
    try:
        uv.run(
            ["pip", "install", *_INSTALL, "--python", str(place / "bin" / "python"), *arguments],
            files=files,
            # On the same disk as the environments, so that hard links are possible.
            env={"UV_CACHE_DIR": str(paths.cache() / "uv")},
        )
    except ProgramError as error:
        raise EngineError(
            f"layer {part.layer} of {target_lock.target} cannot be installed",
            why=error.output,
            hint="the locks are for x86-64 Linux with the target's glibc; elsewhere run with --engine docker",
        ) from None


def _verify(target: Target, target_lock: TargetLock, place: Path) -> None:
    """What is installed is the lock, no more and no less, and every package has what it needs.

    Raises:
        CheckError: it is not.
    """
    site = place / "lib" / f"python{target.python}" / "site-packages"
    installed: dict[str, str] = {
        canonicalize_name(found.metadata["Name"]): found.version for found in distributions(path=[str(site)])
    }
    problems = [
        f"{package.name}: {installed.get(package.name, 'nothing')} instead of {package.version}"
        for package in target_lock.packages
        if not package.is_installed_as(installed.get(package.name, ""))
    ]
    locked = {package.name for package in target_lock.packages}
    problems += [f"{name}: not in the lock" for name in sorted(installed.keys() - locked)]
    try:
        uv.run(["pip", "check", "--no-config", "--python", str(place / "bin" / "python")])
    except ProgramError as error:
        # What the manifest keeps out or overrides is missed by those who ask for it: that is meant.
        meant = {canonicalize_name(Requirement(text).name) for text in (*target.exclude, *target.overrides)}
        problems += [
            f"{found['package']} needs {found['needs']}"
            for found in _UNMET.finditer(error.output)
            if canonicalize_name(Requirement(found["needs"]).name) not in meant
        ]
    if problems:
        raise CheckError(f"the environment of {target.name} is not what its lock says", problems)
