"""What an image holds, read from its files; nothing in it is started."""

import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from launcher import debian
from launcher.difference import SYSTEM, Item, Side
from launcher.errors import EngineError, ImageMissingError
from launcher.image.client import unstarted
from launcher.image.inspect import ImageInfo

if TYPE_CHECKING:
    from docker import DockerClient

# One file per layer, written by images/seal.py.
_BILLS = "/opt/venv/share/launch"

_STATUS = "/var/lib/dpkg/status"


def read(client: "DockerClient", image: ImageInfo) -> Side:
    """All that an image holds: packages of its layers and of its system, with installed bytes.

    Raises:
        EngineError: the engine refused.
        ImageMissingError: the image has no bills of materials, or unreadable ones.
    """
    from docker.errors import APIError, NotFound

    try:
        with unstarted(client, image.reference) as container:
            layers, items = bills(_files(container, _BILLS))
            status = _files(container, _STATUS).get("status", b"")
    except NotFound:
        raise _unsaid(image, "it was built before images carried a bill of materials, or otherwise") from None
    except ValueError as error:
        raise _unsaid(image, f"its bill of materials is unreadable: {error}") from None
    except APIError as error:
        raise EngineError(f"the engine cannot read {image.reference}", why=str(error)) from None
    labels = image.labels
    return Side(
        name=image.reference,
        kind="image",
        digest=image.id,
        base=labels.get("launch.base") or labels.get("org.opencontainers.image.base.name", ""),
        without=image.left_out,
        layers=(SYSTEM, *layers),
        items=(*system_packages(status.decode(errors="replace")), *items),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Distribution:
    name: str
    version: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bill:
    """A layer's file; ``position`` is the number of layers below it."""

    schema: Literal[1]
    layer: str
    position: int
    distributions: tuple[_Distribution, ...]


def bills(files: Mapping[str, bytes]) -> tuple[tuple[str, ...], tuple[Item, ...]]:
    """The layers from the lowest up, and their packages.

    Args:
        files: file name -> content.

    Raises:
        ValueError: a file is not what images/seal.py of this version writes.
    """
    from pydantic import TypeAdapter

    adapter = TypeAdapter(_Bill)
    found = [adapter.validate_json(content, strict=True) for content in files.values()]
    found.sort(key=lambda bill: bill.position)
    items = (
        Item(name=each.name, version=each.version, layer=bill.layer, sha256=each.sha256, bytes=each.bytes)
        for bill in found
        for each in bill.distributions
    )
    return tuple(bill.layer for bill in found), tuple(items)


def system_packages(status: str) -> tuple[Item, ...]:
    """The installed packages of dpkg's status file, by name; it states sizes in KiB."""
    found = []
    for fields in debian.stanzas(status):
        if fields.get("Status", "").endswith(" installed") and {"Package", "Version"} <= fields.keys():
            size = fields.get("Installed-Size", "")
            found.append(
                Item(
                    name=fields["Package"],
                    version=fields["Version"],
                    layer=SYSTEM,
                    sha256="",
                    bytes=int(size) * 1024 if size.isdecimal() else None,
                )
            )
    return tuple(sorted(found, key=lambda item: item.name))


def _files(container: Any, path: str) -> dict[str, bytes]:
    """File name -> content of the files of a container's folder, or of the one file."""
    stream, _ = container.get_archive(path)
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
        return {
            entry.name.rsplit("/", 1)[-1]: content.read()
            for entry in tar
            if entry.isreg() and (content := tar.extractfile(entry)) is not None
        }


def _unsaid(image: ImageInfo, why: str) -> ImageMissingError:
    return ImageMissingError(
        f"{image.reference} does not say what is in it",
        why=why,
        hint=f"build it anew: launch image build {image.labels.get('launch.target', 'TARGET')}",
    )
