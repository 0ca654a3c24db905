"""An image as a file: what it holds, found by reading it once, without an engine and without trusting it.

Two layouts may lie in one file, and do in what Docker since version 25 writes: Docker's own (manifest.json)
and OCI's (index.json). Nothing is unpacked; every layer is hashed as it passes.
"""

import hashlib
import posixpath
import re
import tarfile
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TypeVar

from launcher.errors import CheckError
from launcher.image import oci
from launcher.progress import Progress

DOCKER, OCI = "docker-archive", "oci-archive"

_BLOCK = 1 << 20  # bytes
_MOST_DOCUMENT = 4 << 20  # bytes of an index, a manifest or a configuration
_MOST_DOCUMENTS = 64 << 20  # bytes of all of them: they are kept in memory
_MOST_MEMBERS = 10_000
_HEX = re.compile(r"(?:^|/)([0-9a-f]{64})(?:\.json|\.tar)?$")

_Document = TypeVar("_Document")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileImage:
    """An image in a file.

    Attributes:
        path: the file.
        sha256: of the whole file, in hex.
        size: bytes of the whole file.
        layouts: of :data:`DOCKER` and :data:`OCI`, those that are in it.
        manifest: ``sha256:…`` as a registry would have it; "" where only Docker's layout is there.
        config: ``sha256:…`` of the configuration, which engines without containerd call the image's id.
        digests: all that the image may be called by: index, manifest, configuration.
        labels: as built.
        tags: names that it was saved under.
    """

    path: Path
    sha256: str
    size: int
    layouts: tuple[str, ...]
    manifest: str
    config: str
    digests: frozenset[str]
    labels: Mapping[str, str]
    tags: tuple[str, ...]


@dataclass(slots=True)
class _Members:
    """What passed by: hashes in hex and sizes of all members, what documents say, where links lead.

    ``folders`` has all names, and whether each is a folder.
    """

    folders: dict[str, bool] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    small: dict[str, bytes] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    def real(self, name: str) -> str:
        """A member's name behind at most one link, as old engines write equal layers."""
        return self.links.get(name, name)


class _Passing:
    """A file that is read from its beginning to its end, hashed and told as progress."""

    def __init__(self, stream: IO[bytes], progress: Progress, task: str) -> None:
        self._stream, self._progress, self._task = stream, progress, task
        self.digest, self.size = hashlib.sha256(), 0

    def read(self, size: int = _BLOCK) -> bytes:
        piece = self._stream.read(size)
        self.digest.update(piece)
        self.size += len(piece)
        self._progress.advance(self._task, len(piece))
        return piece


def examine(path: Path, *, platform: str = "linux/amd64", progress: Progress) -> FileImage:
    """Read an image's file: everything in it must be what it is called by.

    Args:
        path: what ``launch image save``, ``docker save`` or ``podman save`` wrote.
        platform: which image of an index.
        progress: told the bytes.

    Raises:
        CheckError: it is no image, is cut short, or something in it is not what its digest says.
        OSError: it cannot be read.
    """
    task = f"reading {path.name}"
    progress.start(task, total=path.stat().st_size, unit="bytes")
    with path.open("rb") as stream:
        passing = _Passing(stream, progress, task)
        try:
            members = _members(passing)
        except (tarfile.TarError, ValueError, RecursionError) as error:  # headers hold numbers, and headers
            raise _damaged(path, [f"it is no archive of an image, or cut short: {error}"]) from None
        while passing.read():
            pass
    progress.finish(task)
    problems = [
        f"{name}: its content is sha256:{have}"
        for name, have in members.hashes.items()
        if name.startswith("blobs/") and name != f"blobs/sha256/{have}"
    ]
    try:
        found = _described(path, passing, members, platform)
    except ValueError as error:
        raise _damaged(path, [*problems, str(error)]) from None
    if problems:
        raise _damaged(path, problems)
    return found


def _members(passing: _Passing) -> _Members:
    """All members of a tar as it passes by.

    Raises:
        tarfile.TarError, ValueError, RecursionError: it is none, or holds what no image has.
    """
    found, documents = _Members(), 0
    with tarfile.open(fileobj=passing, mode="r|", bufsize=_BLOCK) as archive:  # type: ignore[call-overload]
        for count, member in enumerate(archive):
            if count >= _MOST_MEMBERS:
                raise tarfile.ReadError(f"it holds more than {_MOST_MEMBERS} files")
            name = _name(member, found)
            if member.issym() or member.islnk():
                base = posixpath.dirname(name) if member.issym() else ""
                found.links[name] = posixpath.normpath(posixpath.join(base, member.linkname))
            stream = archive.extractfile(member) if member.isreg() else None
            if stream is None:
                continue
            digest, kept = hashlib.sha256(), b""
            while piece := stream.read(_BLOCK):
                digest.update(piece)
                if member.size <= _MOST_DOCUMENT:
                    kept += piece
            found.hashes[name], found.sizes[name] = digest.hexdigest(), member.size
            if member.size <= _MOST_DOCUMENT and _may_be_json(name, kept):
                documents += len(kept)
                if documents > _MOST_DOCUMENTS:
                    raise tarfile.ReadError(f"it holds more than {_MOST_DOCUMENTS >> 20} MiB of documents")
                found.small[name] = kept
    _require_one_reading(found.folders)
    return found


def _name(member: tarfile.TarInfo, found: _Members) -> str:
    """A member's name, noted; what programs read in different ways is refused, and what is no end to read.

    Of two members of a name programs take the first, others the last; what is verified must be what runs.
    """
    if member.issparse():  # a few bytes there can stand for terabytes
        raise tarfile.ReadError("it holds a sparse file, which no image has")
    if member.name.startswith("/") or ".." in member.name.split("/"):
        raise tarfile.ReadError(f"{member.name} leads out of the archive")
    name = posixpath.normpath(member.name)
    if name in found.folders and not (found.folders[name] and member.isdir()):
        raise tarfile.ReadError(f"it holds {name} twice")
    found.folders[name] = member.isdir()
    return name


def _require_one_reading(folders: Mapping[str, bool]) -> None:
    """Nothing lies below a link or a file: whoever unpacks it would write elsewhere.

    Raises:
        tarfile.ReadError: something does.
    """
    names = sorted(folders)
    for name in (each for each, folder in folders.items() if not folder):
        after = bisect_left(names, f"{name}/")
        if after < len(names) and names[after].startswith(f"{name}/"):
            raise tarfile.ReadError(f"it holds {names[after]}, and {name} is no folder")


def _may_be_json(name: str, content: bytes) -> bool:
    """Whether it may be an index, a manifest or a configuration: small layers need not be kept."""
    return name in ("manifest.json", "index.json") or content.lstrip()[:1] in (b"{", b"[")


def _described(path: Path, passing: _Passing, members: _Members, platform: str) -> FileImage:
    """The one image of a file, by whichever layouts are there.

    Raises:
        ValueError: they say nothing, contradict each other, or name what is missing; says which.
    """
    docker = "manifest.json" in members.small
    index = "index.json" in members.small
    if not docker and not index:
        raise ValueError("it holds neither manifest.json nor index.json, so it is no image")
    chain, config, layers = _by_index(members, platform) if index else ([], "", None)
    tags: tuple[str, ...] = ()
    if docker:
        saved = _saved(members)
        tags, named = tuple(saved.tags or ()), _config_name(members, saved.config)
        if config and config != named:
            raise ValueError("manifest.json and index.json describe different images")
        config = named
    described = _read(members, _config_member(members, config, docker), oci.Config)
    _require_layers(members, layers, saved.layers if docker else None, described.diff_ids)
    return FileImage(
        path=path,
        sha256=passing.digest.hexdigest(),
        size=passing.size,
        layouts=(*((DOCKER,) if docker else ()), *((OCI,) if index else ())),
        manifest=chain[-1] if chain else "",
        config=config,
        digests=frozenset((*chain, config)),
        labels=described.labels,
        tags=tags,
    )


def _by_index(members: _Members, platform: str) -> tuple[list[str], str, list[oci.Descriptor]]:
    """OCI's layout: the digests on the way to the image's manifest, its configuration's, its layers."""
    said, chain = _read(members, "index.json", oci.Manifest), list[str]()
    while said.manifests is not None:
        entry = oci.chosen(said.manifests, platform)
        if entry is None or len(chain) > 2:  # an index of an index is all that engines write
            raise ValueError(f"index.json leads to no image for {platform}")
        chain.append(entry.digest)
        said = _read(members, _blob(entry.digest), oci.Manifest)
    if said.config is None:
        raise ValueError(f"{chain[-1] if chain else 'index.json'} describes no image")
    return chain, said.config.digest, said.layers


def _saved(members: _Members) -> oci.Saved:
    """Docker's layout."""
    images = _read(members, "manifest.json", list[oci.Saved])
    if len(images) != 1:
        raise ValueError(f"manifest.json describes {len(images)} images; one was expected")
    return images[0]


def _config_name(members: _Members, name: str) -> str:
    """The digest of a configuration that Docker's layout names by its member, which is called by it."""
    member = members.real(posixpath.normpath(name))
    if member not in members.hashes:
        raise ValueError(f"{name} is missing")
    called = _HEX.search(member)
    if called and called[1] != members.hashes[member]:
        raise ValueError(f"{name}: its content is sha256:{members.hashes[member]}")
    return f"sha256:{members.hashes[member]}"


def _config_member(members: _Members, config: str, docker: bool) -> str:
    """Where a configuration of this digest lies."""
    names = [name for name in members.small if f"sha256:{members.hashes[name]}" == config]
    return names[0] if docker and names else _blob(config)


def _require_layers(
    members: _Members,
    layers: Sequence[oci.Descriptor] | None,
    saved: Sequence[str] | None,
    diff_ids: Sequence[str],
) -> None:
    """All layers are there, and are those of the configuration; None: of a layout that is not there.

    A blob may be packed: then it is the index's layer at this place. What only Docker's layout names is
    not packed, and has the digest of the configuration.
    """
    for name, listed in (("index.json", layers), ("manifest.json", saved)):
        if listed is not None and len(listed) != len(diff_ids):
            raise ValueError(f"{name} has {len(listed)} layers, the configuration {len(diff_ids)}")
    for layer in layers or ():
        if members.sizes.get(_blob(layer.digest)) != layer.size:
            raise ValueError(f"the layer {layer.digest} is missing, or has another size")
    packed = [_blob(layer.digest) for layer in layers or ()] or [""] * len(diff_ids)
    for name, diff_id, blob in zip(saved or (), diff_ids, packed, strict=False):
        member = members.real(posixpath.normpath(name))
        if member not in members.hashes:
            raise ValueError(f"the layer {name} is missing")
        if member != blob and f"sha256:{members.hashes[member]}" != diff_id:
            raise ValueError(f"the layer {name} is not the configuration's {diff_id}")


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/', 1)}"


def _read(members: _Members, name: str, kind: type[_Document]) -> _Document:
    if name not in members.small:
        raise ValueError(f"{name} is missing, or too large")
    try:
        return oci.read(members.small[name], kind)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _damaged(path: Path, problems: Sequence[str]) -> CheckError:
    return CheckError(
        f"{path} is not the image that it should be",
        problems,
        why="it was cut short or changed on its way, or it is another kind of file",
        hint="copy it again, together with its .sha256; launch image save TARGET FILE makes another one",
    )


def checksum_file(path: Path) -> Path:
    """Where the sha256 of a file is kept, in sha256sum's format."""
    return path.with_name(f"{path.name}.sha256")


def checksum_line(path: Path, sha256: str) -> str:
    """As ``sha256sum`` writes it for a name without backslashes and line breaks."""
    return f"{sha256}  {path.name}\n"


def compare_checksum(image: FileImage) -> None:
    """Compare a file with what was written beside it when it was saved.

    Raises:
        CheckError: there is nothing beside it, or it says something else.
    """
    beside = checksum_file(image.path)
    try:
        words = beside.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError):
        words = []
    if not words or not re.fullmatch(r"[0-9a-f]{64}", words[0]):
        raise _damaged(image.path, [f"{beside.name} is missing, or holds no sha256: nothing to compare with"])
    if words[0] != image.sha256:
        raise _damaged(image.path, [f"its sha256 is {image.sha256}, {beside.name} says {words[0]}"])
