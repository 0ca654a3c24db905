"""Wheelhouses on disk: filled from the cache, completed, and verified before a build uses one."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from launcher import paths, wheelhouse
from launcher.errors import FetchError, UsageError
from launcher.image import fetch, system
from launcher.image.fetch import View
from launcher.lock import TargetLock
from launcher.manifest import Target
from launcher.progress import Progress
from launcher.wheelhouse import File, System, Wheelhouse

#: Fetches the system packages into a folder; see :func:`launcher.image.system.download`.
Download = Callable[[Path], System]

# Files hashed at once.
_JOBS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """A wheelhouse that was verified, as an image build takes it.

    Attributes:
        wheels: holds one folder per layer.
        system: the system packages' folder; None when they come from the network.
    """

    wheels: Path
    system: Path | None


def make(
    place: Path,
    view: View,
    target: Target,
    target_lock: TargetLock,
    *,
    base: str,
    download: Download | None = None,
    progress: Progress,
) -> View:
    """Make or complete ``<place>/<target>``; what is there is never overwritten.

    Args:
        place: a folder of wheelhouses; made when missing.
        view: the lock's files in the cache.
        target: whose.
        target_lock: its lock.
        base: reference of the base image, for the description.
        download: brings the system packages; None leaves them as they are.
        progress: told the bytes.

    Returns:
        The folder, and all that is in it, the system packages included.

    Raises:
        FetchError: the disk is full or not writable, or the system packages cannot be had.
        UsageError: the place holds something else, or the files of another lock or base.
    """
    folder = place / target.name
    try:
        require_usable(place)
        have = read(folder) if folder.exists() else None
        goal = _goal(folder, have, view, target_lock, base)
        if download is not None and goal.system is not None:
            _require_same_system(folder, goal.system, wheelhouse.lacking(goal, target), base)
        with tempfile.TemporaryDirectory(dir=_made(place), prefix=".new-") as temporary:
            new = Path(temporary) / target.name
            for part in target_lock.locks:  # also those whose only packages were left out
                (new / part.layer).mkdir(parents=True)
            _link_missing(goal, folder, new, view, others=_others(place), progress=progress)
            if download is not None and goal.system is None:
                (new / wheelhouse.SYSTEM).mkdir()
                goal = goal.model_copy(update={"system": download(new / wheelhouse.SYSTEM)})
            _move_in(goal, folder, new, complete=have is not None)
    except OSError as error:
        raise FetchError(
            f"{folder} cannot be made",
            [f"{error.filename or place}: {error.strerror or error}"],
            hint="the wheelhouse needs as much space as its files, where it cannot be made of hard links",
        ) from None
    files = (*goal.files, *(goal.system.files if goal.system else ()))
    return View(target=target.name, folder=folder, files=len(files), bytes=sum(file.bytes for file in files))


def require_usable(place: Path) -> None:
    """Refuse a folder that holds anything but wheelhouses.

    Raises:
        UsageError: it does, or it is no folder.
    """
    if not place.exists():
        return
    if not place.is_dir():
        raise UsageError(f"{place} is not a folder", hint="name a folder for the wheelhouse")
    foreign = [
        path.name
        for path in sorted(place.iterdir())
        if not path.name.startswith(".") and not (path / wheelhouse.FILE).is_file()
    ]
    if foreign:
        raise UsageError(
            f"{place} is neither empty nor a folder of wheelhouses",
            why=f"it holds {', '.join(foreign[:5])}{' …' if len(foreign) > 5 else ''}",
            hint="name another folder: nothing is overwritten",
        )


def read(folder: Path) -> Wheelhouse:
    """The description of one target's wheelhouse.

    Raises:
        FetchError: there is none, or it cannot be read.
    """
    path = folder / wheelhouse.FILE
    try:
        return wheelhouse.parse(path.read_text(encoding="utf-8"), source=str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise FetchError(
            f"{folder} is not a wheelhouse",
            [f"{path}: {error.strerror if isinstance(error, OSError) else error}"],
            hint=f"launch image fetch {folder.name} --to {folder.parent}",
        ) from None


def verified(place: Path, target: Target, target_lock: TargetLock, *, progress: Progress) -> Files:
    """Compare a wheelhouse with the checkout's lock, file by file; nothing but the folder is read.

    Raises:
        FetchError: all files that are missing or wrong, or it is no wheelhouse of the target.
    """
    folder = place / target.name
    described = read(folder)
    expected = wheelhouse.wanted(target_lock)
    if described.system is not None:
        expected |= {file.path: file.sha256 for file in described.system.files}
    problems = _wrong(folder, expected, progress)
    if described.system is not None:
        problems += [f"{wheelhouse.SYSTEM}/: no {name}" for name in wheelhouse.lacking(described, target)]
    if problems:
        raise FetchError(
            f"{folder} is not what the lock of {target.name} names",
            problems,
            hint=f"where there is a network: launch image fetch {target.name} --to DIR, and carry DIR here",
        )
    return Files(wheels=folder, system=folder / wheelhouse.SYSTEM if described.system else None)


def _wrong(folder: Path, expected: Mapping[str, str], progress: Progress) -> list[str]:
    """What is wrong with each file that is not as expected, in order."""
    task = f"verify {folder.name}"
    sizes = {path: (folder / path).stat().st_size for path in expected if (folder / path).is_file()}
    progress.start(task, total=sum(sizes.values()), unit="bytes")

    def one(path: str) -> str:
        if path not in sizes:
            return f"{path}: missing"
        try:
            found = system.file(folder, path)
        except OSError as error:
            return f"{path}: {error.strerror}"
        progress.advance(task, sizes[path])
        return "" if found.sha256 == expected[path] else f"{path}: another file, its sha256 is {found.sha256}"

    with ThreadPoolExecutor(max_workers=_JOBS, thread_name_prefix="verify") as pool:
        problems = [problem for problem in pool.map(one, expected) if problem]
    progress.finish(task)
    return problems


def _goal(
    folder: Path, have: Wheelhouse | None, view: View, target_lock: TargetLock, base: str
) -> Wheelhouse:
    """What the wheelhouse shall be: the lock's files, or what is there already when that is more."""
    wanted = wheelhouse.wanted(target_lock)
    if have is not None and wanted.items() <= have.hashes.items():
        return have
    if have is not None and not have.hashes.items() <= wanted.items():
        raise UsageError(
            f"{folder} holds the files of another lock",
            why=f"of {have.lock_digest[:12]}; the lock of {target_lock.target} is {target_lock.digest[:12]}",
            hint="name another folder, or remove that one",
        )
    return Wheelhouse(
        target=target_lock.target,
        lock_digest=target_lock.digest,
        left_out=target_lock.left_out,
        base=base,
        files=tuple(
            File(path=path, bytes=(view.folder / path).stat().st_size, sha256=sha256)
            for path, sha256 in wanted.items()
        ),
        system=have.system if have else None,
    )


def _require_same_system(folder: Path, have: System, lacking: Sequence[str], base: str) -> None:
    """Refuse to take system packages that are there for those of another base or list, or for all of them."""
    lost = [file.path for file in have.files if not (folder / file.path).is_file()]
    if lacking or lost or have.base != base:
        raise UsageError(
            f"{folder} holds other system packages",
            why=f"those of {have.base}" if have.base != base else f"without {', '.join([*lacking, *lost])}",
            hint="name another folder, or remove that one",
        )


def _link_missing(
    goal: Wheelhouse,
    folder: Path,
    new: Path,
    view: View,
    *,
    others: Mapping[str, Path],
    progress: Progress,
) -> None:
    """Put what the folder lacks into a new one: links to another target's files, or to the cache's."""
    missing = [
        file
        for file in goal.files
        if not (folder / file.path).exists() and (view.folder / file.path).exists()
    ]
    task = f"wheelhouse {goal.target}"
    progress.start(task, total=sum(file.bytes for file in missing), unit="bytes")
    for file in missing:
        fetch.link(others.get(file.sha256, view.folder / file.path), new / file.path)
        progress.advance(task, file.bytes)
    progress.finish(task)


def _others(place: Path) -> dict[str, Path]:
    """sha256 -> file of the wheelhouses that are there: targets of one family share most of theirs."""
    folders = [path.parent for path in sorted(place.glob(f"*/{wheelhouse.FILE}"))]
    return {
        file.sha256: folder / file.path
        for folder in folders
        for file in read(folder).files
        if (folder / file.path).is_file()
    }


def _move_in(goal: Wheelhouse, folder: Path, new: Path, *, complete: bool) -> None:
    """Rename the new folder, or its files; the description comes last and names only what is there."""
    if not complete:
        paths.write_atomic(new / wheelhouse.FILE, wheelhouse.render(goal))
        new.rename(folder)
        return
    for path in sorted(new.glob("*/*")):
        (folder / path.relative_to(new)).parent.mkdir(exist_ok=True)
        path.rename(folder / path.relative_to(new))
    paths.write_atomic(folder / wheelhouse.FILE, wheelhouse.render(goal))


def _made(place: Path) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    return place
