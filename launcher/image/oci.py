"""The JSON of images, as far as it is read: indexes, manifests, configurations, of OCI and of Docker. Pure.

Field names are those of the OCI image specification and of ``docker save``.
"""

from collections.abc import Sequence
from typing import TypeVar

import msgspec

Described = TypeVar("Described")


class Platform(msgspec.Struct, frozen=True):
    """For which machine an image is."""

    os: str = ""
    architecture: str = ""


class Descriptor(msgspec.Struct, frozen=True):
    """Something by its digest; ``size`` in bytes."""

    digest: str
    media_type: str = msgspec.field(name="mediaType", default="")
    size: int = 0
    platform: Platform | None = None


class Manifest(msgspec.Struct, frozen=True):
    """An image (``config`` and ``layers``), or an index of several (``manifests``)."""

    config: Descriptor | None = None
    layers: list[Descriptor] = []
    manifests: list[Descriptor] | None = None


class _Run(msgspec.Struct, frozen=True):
    labels: dict[str, str] | None = msgspec.field(name="Labels", default=None)


class _Files(msgspec.Struct, frozen=True):
    diff_ids: list[str] | None = None


class Config(msgspec.Struct, frozen=True):
    """An image's configuration."""

    config: _Run | None = None
    rootfs: _Files | None = None

    @property
    def labels(self) -> dict[str, str]:
        """As built."""
        return (self.config and self.config.labels) or {}

    @property
    def diff_ids(self) -> tuple[str, ...]:
        """``sha256:…`` of the unpacked layers, the lowest first."""
        return tuple((self.rootfs and self.rootfs.diff_ids) or ())


class Saved(msgspec.Struct, frozen=True):
    """One image of manifest.json in what ``docker save`` writes: names of the archive's members."""

    config: str = msgspec.field(name="Config")
    layers: list[str] = msgspec.field(name="Layers")
    tags: list[str] | None = msgspec.field(name="RepoTags", default=None)


def read(content: bytes, kind: type[Described]) -> Described:
    """A document from its bytes.

    Raises:
        ValueError: it is none; says what is wrong with it.
    """
    try:
        return msgspec.json.decode(content, type=kind)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def chosen(entries: Sequence[Descriptor], platform: str) -> Descriptor | None:
    """The platform's image in an index; what builders attest there is for none. A single one is for all."""
    system, _, machine = platform.partition("/")
    wanted = (system, machine.partition("/")[0])
    fitting = [
        each for each in entries if each.platform and (each.platform.os, each.platform.architecture) == wanted
    ]
    unnamed = [each for each in entries if each.platform is None]
    return next(iter(fitting or unnamed), None)
