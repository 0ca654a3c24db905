"""The first file in which two images on the engine differ, whatever their layers are packed with."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, cast

from launcher.image.client import unstarted

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.images import Image

# Files and folders that the engine itself makes or touches when it creates a container.
_ENGINES_OWN = frozenset({".dockerenv", "etc/hostname", "etc/hosts", "etc/mtab", "etc/resolv.conf"})
_ENGINES_FOLDERS = frozenset({"dev", "proc", "sys"})
_TOUCHED = frozenset({"", "etc"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One entry of a file system: its name and all that an image's digest depends on."""

    name: str
    facts: tuple[tuple[str, object], ...]


def first_difference(client: "DockerClient", one: str, other: str) -> str:
    """Where two images differ, for people: a file, else a setting; "" when only their packing does."""
    found = difference(_files(client, one), _files(client, other))
    if found:
        return found
    return settings_difference(_settings(client.images.get(one)), _settings(client.images.get(other)))


def difference(one: Iterable[Member], other: Iterable[Member]) -> str:
    """The first entry that two file systems, both in the same order, do not share, and in what it differs."""
    for left, right in zip_longest(one, other):
        if left is None or right is None:
            present = cast(Member, left or right)
            return f"{present.name}: only in one of them"
        if left.name != right.name:
            return f"{min(left.name, right.name)}: only in one of them"
        for (key, a), (_, b) in zip(left.facts, right.facts, strict=True):
            if a != b:
                return f"{left.name}: {key} {a} and {b}"
    return ""


def settings_difference(one: dict[str, Any], other: dict[str, Any]) -> str:
    """The first setting of two image configurations that is not the same."""
    a, b = dict(_flat(one)), dict(_flat(other))
    for key in sorted(a.keys() | b.keys()):
        if a.get(key) != b.get(key):
            return f"configuration, {key}: {a.get(key, 'missing')} and {b.get(key, 'missing')}"
    return ""


def members(stream: io.RawIOBase | io.BufferedIOBase) -> Iterator[Member]:
    """The entries of a file system's tar stream, without those that the engine makes itself."""
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        for entry in tar:
            name = entry.name.strip("/").removeprefix("./")
            if name in _ENGINES_OWN or name.split("/")[0] in _ENGINES_FOLDERS:
                continue
            content = tar.extractfile(entry) if entry.isreg() else None
            sha256 = hashlib.file_digest(cast(io.BytesIO, content), "sha256").hexdigest() if content else ""
            yield Member(
                name=name,
                facts=(
                    ("type", entry.type.decode()),
                    ("mode", oct(entry.mode)),
                    ("owner", f"{entry.uid}:{entry.gid}"),
                    ("link", entry.linkname),
                    ("size", entry.size),
                    ("sha256", sha256),
                    ("time", 0 if name in _TOUCHED else int(entry.mtime)),
                ),
            )


def _files(client: "DockerClient", reference: str) -> Iterator[Member]:
    with unstarted(client, reference) as container:
        yield from members(io.BufferedReader(_Chunks(cast(Iterable[bytes], container.export()))))


def _settings(image: "Image") -> dict[str, Any]:
    return {key: image.attrs.get(key) for key in ("Created", "Architecture", "Os", "Config")}


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key in sorted(value):
            yield from _flat(value[key], f"{path}.{key}" if path else key)
    else:
        yield path, json.dumps(value)


class _Chunks(io.RawIOBase):
    """A readable stream over the pieces that the SDK hands out."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = piece
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
