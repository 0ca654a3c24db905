"""A lock's files from where they can be had: this machine, the user's indexes, the manifest's addresses."""

import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from launcher import paths, settings
from launcher.errors import FetchError, ProgramError
from launcher.image import download, uv, wheels
from launcher.lock import LockedPackage
from launcher.manifest import DRIVERS, Driver, Target, UrlWheel
from launcher.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """A package's file and one place to get it from; size in bytes, None when unknown."""

    package: LockedPackage
    url: str
    size: int | None


def bring(missing: Mapping[LockedPackage, Path], target: Target, *, progress: Progress, jobs: int) -> None:
    """Bring files to their places: local ones first, then the indexes', then those of the manifest.

    Args:
        missing: the packages, and where the file of each belongs.
        target: whose they are.
        progress: told the bytes.
        jobs: downloads at once.

    Raises:
        FetchError: all files that cannot be had, each with what went wrong.
    """
    certificates = settings.indexes().cert.value
    try:
        client = download.client(jobs=jobs, certificates=certificates, addresses=uv.places())
    except ValueError as error:  # `socks://`, say, which desktops write and only few programs know
        raise FetchError(
            "a proxy variable cannot be used",
            [uv.masked(str(error))],
            hint="ALL_PROXY, HTTPS_PROXY and HTTP_PROXY take http://, https://, socks5:// or socks5h://",
        ) from None
    with client as http:
        local = list(_local(missing))
        if local:
            refused = _download_all(local, missing, http, f"verify {target.name}", progress, jobs)
            for problem in refused.values():
                progress.say(f"not taken: {problem}")
        left = [package for package, path in missing.items() if not path.is_file()]
        if not left:
            return
        sources, problems = _remote(left, target)
        problems |= _download_all(sources, missing, http, f"fetch {target.name}", progress, jobs)
    if problems:
        raise FetchError(
            f"{len(problems)} of {len(missing)} files of {target.name} cannot be had",
            list(problems.values()),
            hint=_advice(problems, target),
        )


def _advice(problems: Iterable[LockedPackage], target: Target) -> str:
    """What to do about files that did not come; one that is optional need not come."""
    own = _named(target)
    by_hand = [package for package in problems if package.filename in own]
    if not by_hand:
        return "repeat the command: what has come is kept"
    places = " and ".join(own[package.filename].url for package in by_hand)
    text = f"download {places} by other means into {paths.cache() / 'wheels'}, and repeat"
    drivers = {driver.filename for driver in target.drivers}
    names = [DRIVERS if package.filename in drivers else package.name for package in problems]
    if set(names) <= set(target.optional):
        text += f"; or go on without: {' '.join(f'--without {name}' for name in dict.fromkeys(names))}"
    return text


def _named(target: Target) -> dict[str, UrlWheel | Driver]:
    """File name -> what the manifest itself says of a file."""
    named: tuple[UrlWheel | Driver, ...] = (*target.wheels, *target.drivers)
    return {each.filename: each for each in named}


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


def _remote(
    packages: Sequence[LockedPackage], target: Target
) -> tuple[list[_Source], dict[LockedPackage, str]]:
    """Where each file lies, by its hash, and which ones lie nowhere.

    Raises:
        FetchError: an index does not answer, or knows a package not at all.
    """
    own = _named(target)
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
    sources: list[_Source] = []
    problems: dict[LockedPackage, str] = {}
    for package in packages:
        if package.filename in own:
            sources.append(_own_file(package, own[package.filename], target))
        elif package.sha256 in by_hash:
            file = by_hash[package.sha256]
            sources.append(_Source(package=package, url=file.url, size=file.size))
        else:
            problems[package] = f"{_label(package)}: the package index has no file of this hash"
    return sources, problems


def _own_file(package: LockedPackage, named: UrlWheel | Driver, target: Target) -> _Source:
    """A file that the manifest names. A wheel comes from the user's indexes if they have it: mirrors may."""
    if isinstance(named, UrlWheel):
        try:
            for file in wheels.offered([(package.name, package.version)], target):
                if file.sha256 == package.sha256:
                    return _Source(package=package, url=file.url, size=file.size)
        except ProgramError:
            pass  # not on an index, which is why the manifest names its address
    return _Source(package=package, url=named.url, size=None)


def _download_all(
    sources: Sequence[_Source],
    places: Mapping[LockedPackage, Path],
    http: httpx.Client,
    task: str,
    progress: Progress,
    jobs: int,
) -> dict[LockedPackage, str]:
    """Bring all of them, the largest first; what could not be had, and why."""
    stop = threading.Event()
    problems: dict[LockedPackage, str] = {}
    with ThreadPoolExecutor(max_workers=jobs, thread_name_prefix="fetch") as pool, _stopping(stop, pool):
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
                places[source.package],
                source.package.sha256,
                advance=lambda amount: progress.advance(task, amount),
                stop=stop,
            ): source
            for source in sorted(sized, key=lambda source: -(source.size or 0))
        }
        for future in as_completed(waiting):
            problem = _problem(future.exception(), waiting[future])
            if problem:
                problems[waiting[future].package] = problem
    if not problems:
        progress.finish(task)
    return problems


@contextmanager
def _stopping(stop: threading.Event, pool: ThreadPoolExecutor) -> Iterator[None]:
    """Whatever leaves the block early (Ctrl-C above all) ends the downloads; their parts stay."""
    try:
        yield
    except BaseException:
        stop.set()
        pool.shutdown(wait=False, cancel_futures=True)
        raise


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
