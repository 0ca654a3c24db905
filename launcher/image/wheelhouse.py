"""Wheelhouses on disk: filled from the cache, completed, and verified before a build uses one."""

import tempfile
from collections.abc import Callable, Collection, Mapping
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
        notes: what the reader of a build should know about them, one line each.
    """

    wheels: Path
    system: Path | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What one target's wheelhouse shall become.

    Attributes:
        folder: its own, below the place.
        have: the description of what is there; None for a new one.
        lock: whose files it shall hold: those that were asked for, and those that it holds already.
        base: reference of the base image.
    """

    folder: Path
    have: Wheelhouse | None
    lock: TargetLock
    base: str


def goal(
    place: Path,
    target: Target,
    target_lock: TargetLock,
    *,
    left_out: Collection[str] = (),
    base: str,
    system: bool,
) -> Goal:
    """What ``<place>/<target>`` shall become; refuses what would not fit, before anything is downloaded.

    Args:
        place: a folder of wheelhouses; may be missing.
        target: whose.
        target_lock: its whole lock.
        left_out: optional packages whose files are not asked for.
        base: reference of the base image.
        system: whether system packages are asked for.

    Raises:
        FetchError: the description of what is there cannot be read.
        UsageError: the place holds something else, or the files of another lock or base.
    """
    require_usable(place)
    folder = place / target.name
    have = read(folder) if folder.exists() else None
    if have is not None:
        _require_same_lock(folder, have, target_lock)
        _require_same_system(folder, have, target, base, asked=system)
        left_out = set(left_out) & set(have.left_out)
    return Goal(folder=folder, have=have, lock=target_lock.without(left_out), base=base)


def make(goal: Goal, view: View, *, download: Download | None = None, progress: Progress) -> View:
    """Make or complete a wheelhouse; what is there is never overwritten.

    Args:
        goal: what it shall become; its place is made when missing.
        view: the cache's files that were asked for.
        download: brings the system packages; None leaves them as they are.
        progress: told the bytes.

    Returns:
        The folder, and all that is in it, the system packages included.

    Raises:
        FetchError: the disk is full or not writable, or files cannot be had.
    """
    place, folder = goal.folder.parent, goal.folder
    made = _description(goal, view)
    try:
        place.mkdir(parents=True, exist_ok=True)
        missing = _missing(made, folder, view, _others(place))
        with tempfile.TemporaryDirectory(dir=place, prefix=".new-") as temporary:
            new = Path(temporary) / folder.name
            for part in goal.lock.locks:  # also those whose only packages were left out
                (new / part.layer).mkdir(parents=True)
            _link(missing, new, progress)
            if download is not None and made.system is None:
                (new / wheelhouse.SYSTEM).mkdir()
                made = made.model_copy(update={"system": download(new / wheelhouse.SYSTEM)})
            _move_in(made, folder, new, complete=goal.have is not None)
    except OSError as error:
        raise FetchError(
            f"{folder} cannot be made",
            [f"{error.filename or place}: {error.strerror or error}"],
            hint="the wheelhouse needs as much space as its files, where it cannot be made of hard links",
        ) from None
    files = (*made.files, *(made.system.files if made.system else ()))
    return View(target=made.target, folder=folder, files=len(files), bytes=sum(file.bytes for file in files))


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


def verified(
    place: Path, target: Target, target_lock: TargetLock, *, base: str, chain_id: str, progress: Progress
) -> Files:
    """Compare a wheelhouse with the checkout's lock, file by file; nothing but the folder is read.

    Args:
        place: a folder of wheelhouses.
        target: whose.
        target_lock: what shall be installed.
        base: reference of the image to build on.
        chain_id: of that image, see :func:`launcher.image.system.chain_id`; "" when it is not known yet.
        progress: told the bytes.

    Raises:
        FetchError: all files that are missing or wrong, system packages of another base included; or it is no
            wheelhouse of the target.
    """
    folder = place / target.name
    described = read(folder)
    expected = wheelhouse.wanted(target_lock)
    if described.system is not None:
        expected |= {file.path: file.sha256 for file in described.system.files}
    problems = _wrong(folder, expected, progress)
    again, notes = f"launch image fetch {target.name} --to DIR", []
    if described.system is None:
        notes.append(f"{folder} has no system packages: apt fetches them from the network")
    else:
        problems += [f"{wheelhouse.SYSTEM}/: no {name}" for name in wheelhouse.lacking(described, target)]
        again += " --system"
        if not chain_id:
            notes.append(
                f"the engine does not have {base} yet: that the system packages are for it is not verified"
            )
        elif chain_id != described.system.chain_id:
            problems.append(f"{wheelhouse.SYSTEM}/: for {described.system.base}; {base} is another image")
            again += f" --base {base}"
    if problems:
        raise FetchError(
            f"{folder} does not have what the image of {target.name} is made of",
            problems,
            hint=f"where there is a network: {again}, and carry DIR here",
        )
    return Files(
        wheels=folder,
        system=folder / wheelhouse.SYSTEM if described.system else None,
        notes=tuple(notes),
    )


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


def _require_same_lock(folder: Path, have: Wheelhouse, target_lock: TargetLock) -> None:
    """Refuse to add to the files of another lock."""
    wanted = target_lock.without(have.left_out).digest
    if have.lock_digest != wanted:
        without = f" without {', '.join(have.left_out)}" if have.left_out else ""
        raise UsageError(
            f"{folder} holds the files of another lock",
            why=f"of {have.lock_digest[:12]}; the lock of {folder.name}{without} is {wanted[:12]}",
            hint="name another folder, or remove that one",
        )


def _require_same_system(folder: Path, have: Wheelhouse, target: Target, base: str, *, asked: bool) -> None:
    """Refuse to take system packages that are there for those of another base, or some for all."""
    if have.system is None:
        return
    if have.system.base != base:
        raise UsageError(
            f"{folder} holds other system packages",
            why=f"those of {have.system.base}; the base is {base}",
            hint=f"--base {have.system.base}, or name another folder, or remove that one",
        )
    lost = [file.path for file in have.system.files if not (folder / file.path).is_file()]
    lacking = [*wheelhouse.lacking(have, target), *lost]
    if asked and lacking:
        raise UsageError(
            f"{folder} holds other system packages",
            why=f"without {', '.join(lacking)}",
            hint="name another folder, or remove that one",
        )


def _description(goal: Goal, view: View) -> Wheelhouse:
    """What the wheelhouse will hold, but for system packages that are still to come."""
    known = {file.path: file.bytes for file in goal.have.files} if goal.have else {}
    return Wheelhouse(
        target=goal.lock.target,
        lock_digest=goal.lock.digest,
        left_out=goal.lock.left_out,
        base=goal.base,
        files=tuple(
            File(
                path=path,
                bytes=known[path] if path in known else (view.folder / path).stat().st_size,
                sha256=sha256,
            )
            for path, sha256 in wheelhouse.wanted(goal.lock).items()
        ),
        system=goal.have.system if goal.have else None,
    )


def _missing(made: Wheelhouse, folder: Path, view: View, others: Mapping[str, Path]) -> dict[File, Path]:
    """The files that the folder lacks, and where each is: in another target's wheelhouse, or in the cache.

    Raises:
        FetchError: all that are nowhere; the folder has lost them, and this time they were not asked for.
    """
    missing = {
        file: others.get(file.sha256, view.folder / file.path)
        for file in made.files
        if not (folder / file.path).is_file()
    }
    lost = [f"{file.path}: missing" for file, source in missing.items() if not source.is_file()]
    if lost:
        raise FetchError(
            f"{folder} has lost files that are left out now",
            lost,
            hint="repeat the command without --without, or remove the folder",
        )
    return missing


def _link(missing: Mapping[File, Path], new: Path, progress: Progress) -> None:
    """Put the files into a new folder, as links where the file system has them."""
    task = f"wheelhouse {new.name}"
    progress.start(task, total=sum(file.bytes for file in missing), unit="bytes")
    for file, source in missing.items():
        fetch.link(source, new / file.path)
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


def _move_in(made: Wheelhouse, folder: Path, new: Path, *, complete: bool) -> None:
    """Rename the new folder, or its files; the description comes last and names only what is there."""
    if not complete:
        paths.write_atomic(new / wheelhouse.FILE, wheelhouse.render(made))
        new.rename(folder)
        return
    for path in sorted(new.glob("*/*")):
        (folder / path.relative_to(new)).parent.mkdir(exist_ok=True)
        path.rename(folder / path.relative_to(new))
    paths.write_atomic(folder / wheelhouse.FILE, wheelhouse.render(made))
