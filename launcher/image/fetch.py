"""The wheel cache: every file of a lock, verified, content-addressed, and the view of one lock.

``<cache>/wheels/<sha256[:2]>/<sha256>/<filename>`` holds each file once. ``<cache>/views/<target>-<digest>/``
is made of hard links, one folder per layer (and ``build``): an image build's named context, and what uv
installs from. A file that lies in ``<cache>/wheels/`` itself was put there by hand and is taken when its
hash is right.
"""

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from launcher import paths
from launcher.lock import LockedPackage, TargetLock
from launcher.manifest import Target
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
        from launcher.image import bring  # only here: an HTTP client takes longer to load than all the rest

        bring.bring({package: cached(package) for package in missing}, target, progress=progress, jobs=jobs)
    return _make_view(target_lock)


def cached(package: LockedPackage) -> Path:
    """Where a package's file is, once it is there."""
    return paths.cache() / "wheels" / package.sha256[:2] / package.sha256 / package.filename


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
                link(cached(package), new / lock.layer / package.filename)
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


def link(source: Path, destination: Path) -> None:
    """Make a file appear at a second place: a hard link, or a copy where file systems do not link."""
    try:
        os.link(source, destination)
    except OSError:
        shutil.copy2(source, destination)
