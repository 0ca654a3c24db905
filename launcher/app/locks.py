"""Use cases around the locks: make them, check them, bring their files here."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from launcher import lock, manifest, paths
from launcher.errors import LockError, UsageError
from launcher.image import fetch
from launcher.lock import Lock, TargetLock
from launcher.manifest import Manifest
from launcher.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A package that a new lock moves; None for a version that is not there."""

    file: str
    package: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LockReport:
    """What ``launch image lock`` did.

    Attributes:
        locks: the locks of each target, as they now are.
        changes: all packages that moved.
        sources: packages without a wheel; an image builds them once.
    """

    locks: tuple[TargetLock, ...]
    changes: tuple[Change, ...]
    sources: tuple[str, ...]


def _names(known: Manifest, names: Sequence[str]) -> tuple[str, ...]:
    """The targets that were asked for, all of them when none was named."""
    return tuple(known.target(name).name for name in names) or known.names()


def make(names: Sequence[str], *, upgrade: Sequence[str], progress: Progress) -> LockReport:
    """Resolve the targets (and those that share layers with them) and write their locks.

    Raises:
        LockError: one does not resolve, or an old lock is damaged.
        UsageError: this is not a checkout.
    """
    if not paths.is_checkout():
        raise UsageError(
            "locks are made in a checkout of the project",
            hint="clone the repository, and run `make setup` there",
        )
    from launcher.image import resolve  # `launch run` comes by here, and never resolves

    known = manifest.shipped()
    asked = _names(known, names)
    families = dict.fromkeys(known.family(name) for name in asked)
    changes: list[Change] = []
    for family in families:
        before = lock.owned(paths.images(), [target.name for target in family])
        after = resolve.resolve(family, before, upgrade=upgrade, progress=progress)
        changes += _changes(before, after)
        _write(before, after)
    loaded = tuple(lock.load(paths.images(), target) for family in families for target in family)
    sources = {package.name for each in loaded for package in each.packages if package.is_source}
    return LockReport(locks=loaded, changes=tuple(changes), sources=tuple(sorted(sources)))


def _write(before: Sequence[Lock], after: Sequence[Lock]) -> None:
    """Write what is new, leave what only another uv would say, remove layers that are gone."""
    folder = paths.images() / "locks"
    old = {each.file_name: each for each in before}
    for each in after:
        if not lock.same(old.pop(each.file_name, None), each):
            paths.write_atomic(folder / each.file_name, lock.render(each))
    for name in old:
        (folder / name).unlink()


def _changes(before: Sequence[Lock], after: Sequence[Lock]) -> list[Change]:
    def versions(locks: Sequence[Lock]) -> dict[tuple[str, str], str]:
        return {
            (each.file_name, package.name): package.version for each in locks for package in each.packages
        }

    old, new = versions(before), versions(after)
    return [
        Change(file=key[0], package=key[1], before=old.get(key), after=new.get(key))
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]


def check(names: Sequence[str]) -> tuple[str, ...]:
    """Whether the locks are what the manifest says, without network; returns the targets' names.

    Raises:
        LockError: all that is missing, damaged or stale.
    """
    known = manifest.shipped()
    asked = _names(known, names)
    problems = lock.stale(paths.images(), known, asked)
    if problems:
        raise LockError("the locks are not what the manifest says", problems, hint="run `launch image lock`")
    return asked


def bring(
    names: Sequence[str], *, without: Sequence[str], jobs: int, progress: Progress
) -> tuple[fetch.View, ...]:
    """Download all files of the targets into the cache, verified.

    Args:
        names: of the targets.
        without: optional packages whose files are not wanted.
        jobs: downloads at once.
        progress: told the bytes.

    Raises:
        FetchError: all files that cannot be had.
        LockError: a target's locks cannot be used.
    """
    known = manifest.shipped()
    targets = [known.target(name) for name in names]
    return tuple(
        fetch.fetch(
            target,
            lock.load(paths.images(), target).without(known.left_out(target, without)),
            progress=progress,
            jobs=jobs,
        )
        for target in targets
    )


def carry(
    names: Sequence[str],
    *,
    to: Path,
    base: str | None,
    without: Sequence[str],
    system: bool,
    secrets: Sequence[str],
    jobs: int,
    progress: Progress,
) -> tuple[fetch.View, ...]:
    """Make a wheelhouse of each target: all that a build without network needs, but the base image.

    Args:
        names: of the targets.
        to: the folder that gets one folder per target.
        base: reference of the base image instead of the manifest's.
        without: optional packages whose files are not wanted.
        system: the base's own packages too, which takes an engine.
        secrets: for these packages; see :func:`launcher.image.system.download`.
        jobs: downloads at once.
        progress: told the bytes.

    Raises:
        EngineError: no engine answers, or it cannot have the base.
        FetchError: all files that cannot be had.
        LockError: a target's locks cannot be used.
        UsageError: the folder holds something else, or the files of another lock or base.
    """
    from launcher.image import system as packages
    from launcher.image import wheelhouse
    from launcher.image.client import connect

    known = manifest.shipped()
    targets = [known.target(name) for name in dict.fromkeys(names)]
    goals = [  # before anything is downloaded
        wheelhouse.goal(
            to,
            target,
            lock.load(paths.images(), target),
            left_out=known.left_out(target, without),
            base=base or target.base.reference,
            system=system,
        )
        for target in targets
    ]
    client = connect(timeout=600) if system else None
    views = bring([target.name for target in targets], without=without, jobs=jobs, progress=progress)
    made = []
    for target, goal, view in zip(targets, goals, views, strict=True):
        debs = (
            partial(packages.download, client, target, goal.base, secrets=secrets, progress=progress)
            if client
            else None
        )
        made.append(wheelhouse.make(goal, view, download=debs, progress=progress))
    return tuple(made)
