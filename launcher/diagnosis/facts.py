"""Facts of a machine that :mod:`launcher.host` and :mod:`launcher.image` find, for judges to read."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """The processor.

    Attributes:
        name: as it calls itself; empty: it does not.
        flags: its instruction sets, as /proc/cpuinfo names them; empty: unknown.
        cores: that this process may use.
        quota: cores' worth of time that the cgroup allows; None: all.
    """

    name: str
    flags: frozenset[str]
    cores: int
    quota: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """RAM in bytes.

    Attributes:
        total: of the machine.
        available: without swapping, within the limit too.
        limit: of the cgroup; None: there is none below the total.
    """

    total: int
    available: int
    limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """The file system of a folder that need not exist yet; sizes in bytes.

    Attributes:
        free: what this user may still write.
        writable: this user may write there, or make it.
    """

    path: Path
    free: int
    total: int
    writable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Soft limits of this process, in files and bytes; None: unlimited."""

    nofile: int | None
    memlock: int | None
    stack: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """A container engine that has answered.

    Attributes:
        version: e.g. ``28.2.2``.
        podman: it is Podman, which speaks Docker's protocol.
        driver: of the storage.
        containerd: containerd keeps the images.
        rootless: it runs without root.
        gives_gpus: something says that it can give NVIDIA GPUs.
        disks: where its images live, as far as this machine sees it; empty: elsewhere.
        builder: version of buildx, or of Podman's own builder; empty: ``missing`` says why.
    """

    version: str
    driver: str
    containerd: bool
    rootless: bool
    gives_gpus: bool
    disks: tuple[Disk, ...] = ()
    builder: str = ""
    missing: str = ""
    podman: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """The target's image on the engine.

    Attributes:
        reference: the name that it has, or would have.
        built: it is there, from this lock.
        other: an image of the target is there, from another lock.
        size: bytes of it; 0: it is not there.
        left_out: optional packages that it lacks.
    """

    reference: str
    built: bool
    other: bool = False
    size: int = 0
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuHealth:
    """One NVIDIA GPU now.

    Attributes:
        gpu: number and name, for people.
        used: bytes in use by anybody; 0: unknown.
        total: bytes; 0: it has no memory of its own.
        ecc: whether ECC is on; None: it has none.
        uncorrected: errors since the driver was loaded; None: unknown.
        programs: how many have memory on it.
    """

    gpu: str
    used: int
    total: int
    ecc: bool | None
    uncorrected: int | None
    programs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of asking a server.

    Attributes:
        host: its name, without credentials.
        reached: it said anything at all.
        why: what went wrong, without credentials; empty: nothing.
        seconds: that it took.
        ahead: seconds that this machine's clock is ahead of the server's; None: it did not say.
    """

    host: str
    reached: bool
    why: str = ""
    seconds: float = 0.0
    ahead: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """The model to start from.

    Attributes:
        name: as it was given.
        present: it is on this machine.
        complete: all of it is known to be there.
        size: bytes of its weights; 0: unknown.
        problem, hint: why it cannot be had; empty: it may be.
    """

    name: str
    present: bool
    complete: bool = False
    size: int = 0
    problem: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSettings:
    """What the user has set, credentials left out.

    Attributes:
        shown: settings in effect, e.g. ``HTTPS_PROXY=http://proxy:3128``.
        broken: variables, each with what is wrong with it.
        hub_offline: the variable that keeps the hub from being asked; empty: none.
        packages_offline: the variable that keeps indexes from being asked; empty: none.
    """

    shown: tuple[str, ...] = ()
    broken: tuple[tuple[str, str], ...] = ()
    hub_offline: str = ""
    packages_offline: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """The hub's token: where it comes from, and whether it has the form of one."""

    origin: str
    well_formed: bool
