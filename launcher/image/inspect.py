"""What images the engine has: found by name or by what they were built from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from launcher import dockerfile
from launcher.errors import EngineError
from launcher.image.inputs import Inputs

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.images import Image


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInfo:
    """An image on the engine.

    Attributes:
        reference: a name of it.
        id: its digest, ``sha256:…``; with the containerd image store that is the manifest's.
        size: bytes of its unpacked layers.
        labels: as built.
    """

    reference: str
    id: str
    size: int
    labels: Mapping[str, str]

    @property
    def lock_digest(self) -> str:
        """sha256 (hex) of the locks it was built from, "" if it does not say."""
        return self.labels.get("launch.lock-digest", "").removeprefix("sha256:")

    @property
    def build_digest(self) -> str:
        """sha256 (hex) of all that it was built from, "" if it does not say."""
        return self.labels.get("launch.build-digest", "").removeprefix("sha256:")

    @property
    def left_out(self) -> tuple[str, ...]:
        """The optional packages that it was built without."""
        return tuple(self.labels.get("launch.without", "").split())

    @property
    def reproducible(self) -> bool:
        """True when the engine that built it gives the same digest every time."""
        return self.labels.get("launch.reproducible") == "true"


def find(client: "DockerClient", reference: str) -> ImageInfo | None:
    """The image of that name, None when the engine has none.

    Raises:
        EngineError: the engine refused.
    """
    from docker.errors import APIError, ImageNotFound

    try:
        return _info(reference, client.images.get(reference))
    except ImageNotFound:
        return None
    except APIError as error:
        raise EngineError(f"the engine cannot say whether it has {reference}", why=str(error)) from None


def find_for(client: "DockerClient", inputs: Inputs) -> ImageInfo | None:
    """The image that a run of the target shall use.

    That is the one built from exactly these inputs; otherwise the target's last built one if it was made from
    the same locks (on another base, say): the packages decide what a recipe computes. That one may be
    partial, which its ``left_out`` tells. It comes under its own name, because the alias moves.
    """
    exact = find(client, inputs.reference)
    if exact is not None:
        return exact
    last = find(client, dockerfile.alias(inputs.target.name))
    if last is None or last.lock_digest != inputs.lock.without(last.left_out).digest:
        return None
    named = find(client, dockerfile.reference(inputs.target.name, last.build_digest))
    return named if named is not None and named.id == last.id else last


def _info(reference: str, image: "Image") -> ImageInfo:
    return ImageInfo(
        reference=reference,
        id=str(image.id),
        size=_size(image),
        labels=dict(image.labels),
    )


def _size(image: "Image") -> int:
    """Bytes of the unpacked layers, from the history: the engine's own "Size" may be that of the packed ones.

    Engine 26 with the containerd image store forgets to hold on to the unpacked layers of an image whose
    twin (the same layers, other labels) is removed. Until a container unpacks them anew there is no history,
    and the engine's own figure is what there is.
    """
    from docker.errors import NotFound

    try:
        return sum(int(step.get("Size", 0)) for step in image.history())
    except NotFound:
        return int(image.attrs.get("Size", 0))
