"""OCI image archives: the digest that one holds, and the first file in which two differ."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import IO, Any, cast

from launcher.errors import BuildError


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    name: str
    facts: tuple[tuple[str, object], ...]


def digest(archive: Path) -> str:
    """The manifest digest of the one image in an archive, ``sha256:…``."""
    with tarfile.open(archive) as tar:
        return str(_manifest_descriptor(tar)["digest"])


def first_difference(one: Path, other: Path) -> str:
    """Where two images first differ, for people: a setting of the configuration, or a file of a layer.

    "" when they differ in nothing (their packing aside).
    """
    with tarfile.open(one) as a, tarfile.open(other) as b:
        manifests = _json(a, _manifest_descriptor(a)["digest"]), _json(b, _manifest_descriptor(b)["digest"])
        layers = [manifest["layers"] for manifest in manifests]
        for number, (left, right) in enumerate(zip_longest(*layers), start=1):
            if left is None or right is None:
                return f"one image has {len(layers[0])} layers, the other {len(layers[1])}"
            if left["digest"] == right["digest"]:
                continue
            found = _layer_difference(_members(a, left["digest"]), _members(b, right["digest"]))
            if found:
                return f"layer {number}: {found}"
        configs = [_json(tar, m["config"]["digest"]) for tar, m in zip((a, b), manifests, strict=True)]
        return _config_difference(*configs)


def _layer_difference(one: Iterator[_Member], other: Iterator[_Member]) -> str:
    for left, right in zip_longest(one, other):
        if left is None or right is None:
            present = left or right
            return f"{present.name}: only in one of them"
        if left.name != right.name:
            return f"{min(left.name, right.name)}: only in one of them, or in another order"
        for (key, a), (_, b) in zip(left.facts, right.facts, strict=True):
            if a != b:
                return f"{left.name}: {key} {a} and {b}"
    return ""


def _config_difference(one: dict[str, Any], other: dict[str, Any]) -> str:
    def flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
        if isinstance(value, dict):
            for key in sorted(value):
                yield from flat(value[key], f"{path}.{key}" if path else key)
        else:
            yield path, json.dumps(value)

    a, b = dict(flat(one)), dict(flat(other))
    for key in sorted(a.keys() | b.keys()):
        if a.get(key) != b.get(key):
            return f"configuration, {key}: {a.get(key, 'missing')} and {b.get(key, 'missing')}"
    return ""


def _members(archive: tarfile.TarFile, blob: str) -> Iterator[_Member]:
    with _open(archive, blob) as stream:
        head = stream.read(4)
        stream.seek(0)
        if head == b"\x28\xb5\x2f\xfd":
            raise BuildError("the layers are packed with zstd", why="they cannot be compared file by file")
        plain: IO[bytes] = (
            cast(IO[bytes], gzip.GzipFile(fileobj=stream)) if head[:2] == b"\x1f\x8b" else stream
        )
        with tarfile.open(fileobj=plain, mode="r|") as layer:
            for member in layer:
                content = layer.extractfile(member) if member.isreg() else None
                sha256 = hashlib.file_digest(cast(io.BytesIO, content), "sha256") if content else None
                yield _Member(
                    name=member.name,
                    facts=(
                        ("type", member.type.decode()),
                        ("mode", oct(member.mode)),
                        ("owner", f"{member.uid}:{member.gid}"),
                        ("link", member.linkname),
                        ("size", member.size),
                        ("time", member.mtime),
                        ("sha256", sha256.hexdigest() if sha256 else ""),
                        ("attributes", json.dumps(dict(sorted(member.pax_headers.items())))),
                    ),
                )


def _manifest_descriptor(archive: tarfile.TarFile) -> dict[str, Any]:
    stream = archive.extractfile("index.json")
    assert stream is not None  # noqa: S101 - a regular file of every OCI archive
    index = json.load(stream)
    return cast(dict[str, Any], index["manifests"][0])


def _json(archive: tarfile.TarFile, blob: str) -> dict[str, Any]:
    with _open(archive, blob) as stream:
        return cast(dict[str, Any], json.load(stream))


def _open(archive: tarfile.TarFile, blob: str) -> IO[bytes]:
    algorithm, _, value = blob.partition(":")
    stream = archive.extractfile(f"blobs/{algorithm}/{value}")
    if stream is None:
        raise BuildError(f"the image archive lacks {blob}")
    return stream
