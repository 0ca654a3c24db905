"""The files of distributions: which ones the user's indexes offer, and which one a target takes."""

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from launcher.image import uv
from launcher.lock import LockedPackage
from launcher.manifest import Target

# The old names of some manylinux platforms, by their glibc's minor version (PEP 600).
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A wheel or source archive and where it lies.

    Attributes:
        name: the distribution's canonical name.
        version: its version, as the index states it.
        filename: of the file.
        url: ``https:``, ``http:`` or ``file:``.
        sha256: of the file, by the index.
        size: in bytes; None where the index does not say.
    """

    name: str
    version: str
    filename: str
    url: str
    sha256: str
    size: int | None

    @property
    def is_wheel(self) -> bool:
        """False for a source archive."""
        return self.filename.endswith(".whl")


def offered(packages: Sequence[tuple[str, str]], target: Target) -> list[RemoteFile]:
    """The files of these packages at all places that the user's own settings name.

    Args:
        packages: pairs of name and exact version. A name may have several versions: sources are built with
            other versions than those that are installed.
        target: whose platform and Python count.

    Raises:
        ProgramError: an index does not answer, or a package is not there.
    """
    return [file for one in _one_version_each(packages) for file in _offered(one, target)]


def _one_version_each(packages: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """The packages as few sets in which each name has one version: what a resolver can be asked for."""
    sets: list[dict[str, str]] = []
    for name, version in dict.fromkeys(packages):
        free = next((one for one in sets if name not in one), None)
        if free is None:
            free = {}
            sets.append(free)
        free[name] = version
    return sets


def _offered(versions: dict[str, str], target: Target) -> list[RemoteFile]:
    text = uv.compile_requirements(
        [f"{name}=={version}" for name, version in versions.items()],
        target,
        arguments=["--no-deps", "--format", "pylock.toml"],
    )
    return [file for package in tomllib.loads(text).get("packages", []) for file in _files(package)]


def _files(package: dict[str, Any]) -> Iterable[RemoteFile]:
    entries = [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
    for entry in entries:
        sha256 = entry.get("hashes", {}).get("sha256")
        if sha256 is None or "url" not in entry:
            continue  # an index without sha256 cannot be used for a lock
        yield RemoteFile(
            name=canonicalize_name(package["name"]),
            version=package["version"],
            filename=entry.get("name") or unquote(urlsplit(entry["url"]).path.rsplit("/", 1)[1]),
            url=entry["url"],
            sha256=sha256,
            size=entry.get("size"),
        )


def choose(
    files: Sequence[RemoteFile], target: Target, *, kept: LockedPackage | None = None
) -> RemoteFile | None:
    """The file that a target installs: its most specific wheel, a source archive where there is none.

    Args:
        files: of one package at one version.
        target: whose platform, glibc and Python decide.
        kept: what the lock already has; kept while it is still offered, so that a wheel that an index
            adds later moves nothing.
    """
    if kept is not None:
        for file in files:
            if (file.version, file.sha256) == (kept.version, kept.sha256):
                return file
    ranked = [(rank, file) for file in files if (rank := _rank(file, target)) is not None]
    best = min((rank for rank, _ in ranked), default=None)
    equals = [file for rank, file in ranked if rank == best]
    return max(equals, key=lambda file: (_build(file), file.filename), default=None)


def _build(file: RemoteFile) -> tuple[int, str] | tuple[()]:
    """A wheel's build tag: among equals the higher one is meant (PEP 427)."""
    return parse_wheel_filename(file.filename)[2] if file.is_wheel else ()


def _rank(file: RemoteFile, target: Target) -> int | None:
    """0 is best; sources come last; None when the target cannot use it."""
    tags = _tags(target.python, target.glibc, uv.architecture(target))
    if not file.is_wheel:
        return len(tags)
    try:
        own = parse_wheel_filename(file.filename)[3]
    except InvalidWheelFilename:
        return None
    return min((tags[tag] for tag in own if tag in tags), default=None)


@cache
def _tags(python: str, glibc: str, architecture: str) -> dict[Tag, int]:
    """All tags that a platform takes, with their rank (PEP 425, PEP 600)."""
    major, minor = (int(part) for part in python.split("."))
    platforms = []
    for level in range(int(glibc.split(".")[1]), 4, -1):
        platforms.append(f"manylinux_2_{level}_{architecture}")
        if level in _LEGACY:
            platforms.append(f"{_LEGACY[level]}_{architecture}")
    platforms.append(f"linux_{architecture}")
    interpreter = f"cp{major}{minor}"
    ordered = [
        *cpython_tags((major, minor), abis=[interpreter], platforms=platforms),
        *compatible_tags((major, minor), interpreter=interpreter, platforms=platforms),
    ]
    return {tag: rank for rank, tag in reversed(list(enumerate(ordered)))}
