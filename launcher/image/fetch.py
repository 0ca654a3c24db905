"""The wheel cache: every file of a lock, verified, content-addressed, and the view of one lock.

``<cache>/wheels/<sha256[:2]>/<sha256>/<filename>`` holds each file once. ``<cache>/views/<target>-<digest>/``
is made of hard links, one folder per layer (and ``build``): an image build's named context, and what uv
installs from. A file that lies in ``<cache>/wheels/`` itself was put there by hand and is taken when its
hash is right.
"""

import os
import shutil
import tempfile
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from launcher import paths, settings
from launcher.errors import FetchError, ProgramError
from launcher.image import download, uv, wheels
from launcher.lock import LockedPackage, TargetLock
from launcher.manifest import Target, UrlWheel
from launcher.progress import Progress

#: Downloads at once.
JOBS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """All files of one lock.

    Attributes:
        target: its name.
        folder: holds one folder per layer, and ``build`` where there are build requirements.
        files: how many.
        bytes: of all together.
    """

    target: str
    folder: Path
    files: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """A package's file and one place to get it from; size in bytes, None when unknown."""

    package: LockedPackage
    url: str
    size: int | None


def view(target_lock: TargetLock) -> View | None:
    """The view of a lock when it is complete. Its files were verified when they came."""
    folder = _view_folder(target_lock)
    total = 0
    count = 0
    try:
        for lock in target_lock.locks:
            for package in lock.packages:
                total += (folder / lock.layer / package.filename).stat().st_size
                count += 1
    except FileNotFoundError:
        return None
    return View(target=target_lock.target, folder=folder, files=count, bytes=total)


def fetch(target: Target, target_lock: TargetLock, *, progress: Progress, jobs: int = JOBS) -> View:
    """Bring all files of a lock here and make its view; nothing to do when that is there.

    Raises:
        FetchError: all files that cannot be had, each with what went wrong.
    """
    done = view(target_lock)
    if done is not None:
        return done
    packages = {package.sha256: package for lock in target_lock.locks for package in lock.packages}
    missing = [package for package in packages.values() if not cached(package).is_file()]
    if missing:
        _bring(missing, target, progress=progress, jobs=jobs)
    return _make_view(target_lock)


def cached(package: LockedPackage) -> Path:
    """Where a package's file is, once it is there."""
    return paths.cache() / "wheels" / package.sha256[:2] / package.sha256 / package.filename


def _bring(missing: Sequence[LockedPackage], target: Target, *, progress: Progress, jobs: int) -> None:
    """Local files first, then what the indexes offer, then the manifest's own addresses."""
    certificates = settings.indexes().cert.value
    with download.client(jobs=jobs, certificates=certificates, addresses=uv.places()) as http:
        local = list(_local(missing))
        refused = _download_all(local, http, f"verify {target.name}", progress, jobs) if local else {}
        for problem in refused.values():
            progress.say(f"not taken: {problem}")
        left = [package for package in missing if not cached(package).is_file()]
        if not left:
            return
        problems = _download_all(_remote(left, target), http, f"fetch {target.name}", progress, jobs)
    if problems:
        own = {wheel.filename: wheel.url for wheel in target.wheels}
        by_hand = [own[package.filename] for package in problems if package.filename in own]
        raise FetchError(
            f"{len(problems)} of {len(missing)} files of {target.name} cannot be had",
            list(problems.values()),
            hint=(
                f"download {' and '.join(by_hand)} by other means into {paths.cache() / 'wheels'}, and repeat"
                if by_hand
                else "repeat the command: what has come is kept"
            ),
        )


def _local(packages: Iterable[LockedPackage]) -> Iterable[_Source]:
    """Files of the right name in the cache's own folder and in the user's find-links folders."""
    places = [download.local_path(place) or Path(place).expanduser() for place in uv.places()]
    folders = [paths.cache() / "wheels", *(place for place in places if place.is_dir())]
    for package in packages:
        for folder in folders:
            path = folder / package.filename
            if path.is_file():
                yield _Source(package=package, url=path.absolute().as_uri(), size=path.stat().st_size)
                break


def _remote(packages: Sequence[LockedPackage], target: Target) -> list[_Source]:
    """Where each file lies, by its hash.

    Raises:
        FetchError: an index does not answer, or has other files.
    """
    own = {wheel.filename: wheel for wheel in target.wheels}
    try:
        listed = [package for package in packages if package.filename not in own]
        offered = wheels.offered([(p.name, p.version) for p in listed], target) if listed else []
    except ProgramError as error:
        raise FetchError(
            f"the package index cannot say where the files of {target.name} are",
            error.output.splitlines() or [error.message],
            hint="indexes, mirrors, proxies and certificates are uv's and pip's own settings",
        ) from None
    by_hash = {file.sha256: file for file in offered}
    sources, problems = [], []
    for package in packages:
        if package.filename in own:
            sources.append(_own_wheel(package, own[package.filename], target))
        elif package.sha256 in by_hash:
            file = by_hash[package.sha256]
            sources.append(_Source(package=package, url=file.url, size=file.size))
        else:
            problems.append(f"{_label(package)}: the index has no file of this hash")
    if problems:
        raise FetchError(
            f"the package index lacks files of {target.name}",
            problems,
            why="a mirror that is behind, or a release that was taken back",
        )
    return sources


def _own_wheel(package: LockedPackage, wheel: UrlWheel, target: Target) -> _Source:
    """A wheel that the manifest names: from the user's indexes when they have it, they may be a mirror."""
    try:
        for file in wheels.offered([(package.name, package.version)], target):
            if file.sha256 == package.sha256:
                return _Source(package=package, url=file.url, size=file.size)
    except ProgramError:
        pass  # not on an index, which is why the manifest names its address
    return _Source(package=package, url=wheel.url, size=None)


def _download_all(
    sources: Sequence[_Source], http: httpx.Client, task: str, progress: Progress, jobs: int
) -> dict[LockedPackage, str]:
    """Bring all of them, the largest first; what could not be had, and why."""
    stop = threading.Event()
    problems: dict[LockedPackage, str] = {}
    with ThreadPoolExecutor(max_workers=jobs, thread_name_prefix="fetch") as pool:
        sizes = pool.map(lambda source: source.size or download.size(http, source.url), sources)
        sized = [replace(source, size=size) for source, size in zip(sources, sizes, strict=True)]
        known = sum(source.size or 0 for source in sized)
        _check_space(known)
        complete = all(source.size is not None for source in sized)
        progress.start(task, total=known if complete else None, unit="bytes")
        waiting = {
            pool.submit(
                download.download,
                http,
                source.url,
                cached(source.package),
                source.package.sha256,
                advance=lambda amount: progress.advance(task, amount),
                stop=stop,
            ): source
            for source in sorted(sized, key=lambda source: -(source.size or 0))
        }
        try:
            for future in as_completed(waiting):
                problem = _problem(future.exception(), waiting[future])
                if problem:
                    problems[waiting[future].package] = problem
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if not problems:
        progress.finish(task)
    return problems


def _check_space(needed: int) -> None:
    folder = paths.cache()
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise FetchError(
            "the disk is too small",
            [f"{folder}: {free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB needed"],
            hint="make room, or move the cache with LAUNCH_CACHE_DIR",
        )


def _problem(error: BaseException | None, source: _Source) -> str:
    """What to tell about a file that did not come; empty when it came."""
    if error is None:
        return ""
    if isinstance(error, httpx.HTTPStatusError):
        what = f"HTTP {error.response.status_code}"
    elif isinstance(error, (httpx.HTTPError, OSError, download.WrongContentError)):
        what = uv.masked(str(error)) or type(error).__name__
    else:
        raise error
    return f"{_label(source.package)}: {what} ({uv.masked(source.url)})"


def _label(package: LockedPackage) -> str:
    return f"{package.name} {package.version}, {package.filename}"


def _view_folder(target_lock: TargetLock) -> Path:
    return paths.cache() / "views" / f"{target_lock.target}-{target_lock.digest[:12]}"


def _make_view(target_lock: TargetLock) -> View:
    """Link the files into a folder beside, then rename it: a view is complete or not there."""
    folder = _view_folder(target_lock)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-") as temporary:
        new = Path(temporary) / "view"
        for lock in target_lock.locks:
            (new / lock.layer).mkdir(parents=True)
            for package in lock.packages:
                _link(cached(package), new / lock.layer / package.filename)
        if folder.exists() and view(target_lock) is None:  # somebody has taken files out of it
            folder.rename(Path(temporary) / "old")
        try:
            new.rename(folder)
        except OSError:
            if view(target_lock) is None:
                raise
            # Another launcher was faster; theirs is the same.
    done = view(target_lock)
    assert done is not None  # noqa: S101 - it was linked file by file
    return done


def _link(source: Path, destination: Path) -> None:
    try:
        os.link(source, destination)
    except OSError:  # a file system without hard links
        shutil.copy2(source, destination)
