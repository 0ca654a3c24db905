"""What the rest of the launcher reads of a manifest: frozen targets, ``extends`` already resolved."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Literal
from urllib.parse import unquote

from launcher.errors import UsageError

#: The name that all drivers of a target go by: of their lock, and where they are left out.
DRIVERS = "drivers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """The base image: reference by digest, the human tag beside it, and who else uses it."""

    image: str
    tag: str
    digest: str

    @property
    def reference(self) -> str:
        """``image:tag@digest``: the digest decides, the tag tells people what it was."""
        return f"{self.image}:{self.tag}@{self.digest}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One image layer: the pins it is there for (their dependencies come from the lock)."""

    name: str
    pins: tuple[str, ...]
    owner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlWheel:
    """A wheel that is not on a registry: address, hash, and its metadata stated here.

    The metadata makes a resolve possible while the address is out of reach.
    """

    name: str
    version: str
    url: str
    sha256: str
    requires: tuple[str, ...]

    @property
    def filename(self) -> str:
        """The file's name with ``%2B`` undone."""
        return _filename(self.url)


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """A package of the system that the base's archive does not have, or too old: one .deb file, by its hash.

    Attributes:
        name: of the package.
        licence: that it states.
    """

    name: str
    version: str
    url: str
    sha256: str
    licence: str

    @property
    def filename(self) -> str:
        """The file's name with ``%2B`` undone."""
        return _filename(self.url)


def _filename(url: str) -> str:
    return unquote(url.rsplit("/", 1)[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """What a container of the target needs from the machine.

    Attributes:
        kind: the vendor whose GPUs are asked for, or ``none``.
        paths: device nodes or folders to pass, e.g. ``/dev/dri``.
        device_groups: nodes whose owning group id is added to the process.
        shm_size: size of /dev/shm (Docker's default of 64 MB is too small for data loaders).
        cuda: CUDA version that torch was built with, e.g. ``12.8``; empty: none, or not recorded.
        architectures: GPUs that torch has code for: ``sm_90`` compiled, ``compute_120`` as PTX.
        minimum: packages whose kernels need a newer GPU than torch's, as pairs of the canonical name and the
            least compute capability, e.g. ``("flash-attn", "8.0")``.
    """

    kind: Literal["none", "nvidia", "intel"]
    paths: tuple[str, ...]
    device_groups: tuple[str, ...]
    shm_size: str
    cuda: str = ""
    architectures: tuple[str, ...] = ()
    minimum: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One environment, everything that it extends included.

    Attributes:
        family: the targets that must share layers (what it extends, and what extends that);
            they are resolved together, so that a shared layer is the same file.
        glibc: the newest glibc that a wheel may ask for, i.e. the base image's own.
        overrides: requirements that replace what packages ask for.
        exclude: distributions that may never enter, e.g. generic triton beside Intel's.
        optional: distributions that an image may be built without, and :data:`DRIVERS`. Such an image is for
            what can be shown without them.
        drivers: user-mode drivers, installed with the system packages.
        drivers_owner: the target whose lock names them (it, or one that it extends); empty: none.
        build_requires: what source-only packages are built with.
        build_owner: the target whose build lock it uses (it, or one that it extends); empty when
            there are no build requirements.
        max_size: bytes of unpacked layers that the image may have; None: as large as it gets.
    """

    name: str
    extends: str | None
    summary_en: str
    summary_zh: str
    platform: str
    python: str
    glibc: str
    base: Base
    system_packages: tuple[str, ...]
    layers: tuple[Layer, ...]
    overrides: tuple[str, ...]
    exclude: tuple[str, ...]
    optional: tuple[str, ...]
    wheels: tuple[UrlWheel, ...]
    drivers: tuple[Driver, ...]
    drivers_owner: str
    build_requires: tuple[str, ...]
    build_owner: str
    env: tuple[tuple[str, str], ...]
    devices: Devices
    checks: tuple[str, ...]
    max_size: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """All targets, by name, in the order of the file."""

    targets: tuple[Target, ...] = field(default=())

    def names(self) -> tuple[str, ...]:
        """The targets' names."""
        return tuple(target.name for target in self.targets)

    def target(self, name: str) -> Target:
        """The target of that name.

        Raises:
            UsageError: there is none.
        """
        for target in self.targets:
            if target.name == name:
                return target
        raise UsageError(f"there is no target {name!r}", hint=f"the manifest has: {', '.join(self.names())}")

    def left_out(self, target: Target, names: Iterable[str]) -> tuple[str, ...]:
        """The packages of a target that these names leave out of it.

        A name that is optional in another target only is no mistake: this one goes without it anyway.

        Raises:
            UsageError: a package that no target can go without.
        """
        from packaging.utils import canonicalize_name

        wanted = {canonicalize_name(name) for name in names}
        optional = sorted({name for each in self.targets for name in each.optional})
        unknown = sorted(wanted - set(optional))
        if unknown:
            raise UsageError(
                f"{', '.join(unknown)} cannot be left out",
                hint=f"optional: {', '.join(optional) or 'nothing'}",
            )
        return tuple(sorted(wanted & set(target.optional)))

    def family(self, name: str) -> tuple[Target, ...]:
        """The targets that share layers with this one, the extended ones first."""
        root = self.target(name)
        while root.extends is not None:
            root = self.target(root.extends)

        def descends(target: Target) -> bool:
            while target.name != root.name and target.extends is not None:
                target = self.target(target.extends)
            return target.name == root.name

        members = [target for target in self.targets if descends(target)]
        return tuple(sorted(members, key=lambda member: len(member.layers)))


def lock_inputs_digest(family: tuple[Target, ...]) -> str:
    """sha256 over all that decides a lock of the family: recorded in locks, checked offline.

    Texts, environment, devices and checks do not change which packages resolve and are left out.
    """
    fields = ("name", "platform", "python", "glibc", "layers", "overrides", "exclude", "wheels",
              "build_requires")  # fmt: skip
    data = [{key: asdict(member)[key] for key in fields} for member in family]
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
