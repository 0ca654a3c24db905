"""What NVIDIA drivers and GPUs a target's CUDA wheels run on: NVIDIA's rules, as pure functions.

Which drivers a CUDA version needs is data, in images/compatibility.toml. The facts of a machine come from
:mod:`launcher.host.nvidia`; what to do about them is decided in :mod:`launcher.app.accelerators`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from launcher.compatibility import Drivers


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU, as NVML describes it.

    Attributes:
        index: NVML's and nvidia-smi's number, in the order of the PCI bus.
        uuid: ``GPU-…``; the same in every program and container.
        memory: in bytes; 0: it has none of its own.
        capability: compute capability, major and minor.
        instances: uuids (``MIG-…``) of the MIG instances that it is divided into.
    """

    index: int
    name: str
    uuid: str
    memory: int
    capability: tuple[int, int]
    instances: tuple[str, ...] = ()

    def __str__(self) -> str:
        """For people: number, name and what decides whether a wheel runs on it."""
        return f"GPU {self.index} ({self.name}, compute capability {'.'.join(map(str, self.capability))})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Nvidia:
    """NVIDIA's part of a machine.

    Attributes:
        driver: version of the driver; empty: unknown. In WSL it is that of the Windows driver.
        gpus: those that this process may use; None: unknown.
        windows: the driver is one for Windows, whose versions are counted differently.
        unknown: why something is unknown; empty when all is known.
    """

    driver: str = ""
    gpus: tuple[Gpu, ...] | None = None
    windows: bool = False
    unknown: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the rules say.

    Attributes:
        problems: why nothing would run, each with its fix.
        notes: what works, with a limit that one may want to know.
    """

    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def judge(cards: Nvidia, gpus: Sequence[Gpu], *, toolkit: str, architectures: Sequence[str]) -> Verdict:
    """Whether wheels run on these GPUs with this driver; what is unknown is never a problem.

    Args:
        cards: the machine's driver.
        gpus: those to be used.
        toolkit: CUDA version of the wheels, e.g. ``12.8``; empty: not recorded.
        architectures: what the wheels carry, e.g. ``sm_90`` and ``compute_120``; empty: not recorded.
    """
    driver, wheels = judge_driver(cards, toolkit), judge_gpus(cards, gpus, toolkit, architectures)
    return Verdict(problems=driver.problems + wheels.problems, notes=driver.notes + wheels.notes)


def judge_gpus(cards: Nvidia, gpus: Sequence[Gpu], toolkit: str, architectures: Sequence[str]) -> Verdict:
    """Whether the wheels have code for these GPUs; see :func:`judge` for the arguments."""
    problems, notes = list[str](), list[str]()
    limits = _drivers(cards, toolkit)
    for gpu in gpus if architectures else ():
        if any(runs(architecture, gpu.capability) for architecture in architectures):
            continue
        if not any(compiles(architecture, gpu.capability) for architecture in architectures):
            carried = " ".join(architectures)
            problems.append(f"{gpu} is not in the wheels, which are for {carried}: choose others with --gpus")
        elif limits and not compiles_ptx(cards, toolkit):
            problems.append(
                f"{gpu}: the wheels have only PTX for it, which driver {cards.driver} cannot compile; "
                f"update the driver to {limits.own} or newer"
            )
        else:
            notes.append(
                f"{gpu}: the wheels have only PTX for it, which the driver compiles at the first start"
            )
    return Verdict(problems=tuple(problems), notes=tuple(notes))


def without_kernels(gpus: Sequence[Gpu], minimum: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Notes on packages that have no kernels for some of the GPUs, one for each package and GPU.

    Nothing is refused for them: only what asks for such a package by name needs its kernels.

    Args:
        gpus: those to be used.
        minimum: packages, each with the least compute capability that it has kernels for, e.g. ``8.0``.
    """
    return tuple(
        f"{package} has no kernels for {gpu}, it needs {least}: "
        "attention falls to other kernels unless the recipe asks for it"
        for package, least in minimum
        for gpu in gpus
        if gpu.capability < tuple(map(int, least.split(".")))
    )


def judge_driver(cards: Nvidia, toolkit: str) -> Verdict:
    """The driver alone; see :func:`judge` for the arguments.

    Source: CUDA Compatibility guide, "Minor Version Compatibility": within a major version, a program runs on
    every driver from the major version's first one on; with a driver older than the toolkit's own, code that
    is compiled from PTX when it is loaded does not.
    """
    if not toolkit:
        return Verdict()
    limits = _drivers(cards, toolkit)
    if limits is None:
        unknown = f"which drivers CUDA {toolkit} needs is not recorded: the driver was not checked"
        return Verdict(notes=(unknown,))
    have = version(cards.driver)
    if have is None:
        needed = f"CUDA {toolkit} needs {limits.oldest} or newer"
        return Verdict(notes=(f"the NVIDIA driver's version is unknown; {needed}",))
    if _older(have, limits.oldest):
        return Verdict(
            problems=(
                f"driver {cards.driver} is too old for CUDA {toolkit}: update it to {limits.own} or newer "
                f"({limits.oldest} is the oldest that works)",
            )
        )
    if _older(have, limits.own):
        return Verdict(
            notes=(
                f"driver {cards.driver} is older than the one of CUDA {toolkit} ({limits.own}): it runs what "
                "is compiled, by minor-version compatibility, and compiles no PTX of this CUDA",
            )
        )
    return Verdict()


def _drivers(cards: Nvidia, toolkit: str) -> "Drivers | None":
    """What the toolkit needs on this system; None: that is not recorded."""
    from launcher import compatibility  # only here: most runs have no driver to judge

    found = compatibility.shipped().toolkit(toolkit)
    return (found.windows if cards.windows else found.linux) if found else None


def compiles_ptx(cards: Nvidia, toolkit: str) -> bool:
    """Whether the driver is as new as the toolkit, as its PTX demands; yes when that is unknown."""
    have, limits = version(cards.driver), _drivers(cards, toolkit)
    return have is None or limits is None or not _older(have, limits.own)


_VERSION = re.compile(r"[0-9]{1,4}(\.[0-9]{1,4}){1,2}")


def version(text: str) -> tuple[int, ...] | None:
    """A driver's version as numbers, e.g. of ``570.86.15`` or ``550.54``; None: it is no version."""
    return tuple(map(int, text.split("."))) if _VERSION.fullmatch(text) else None


def _older(have: tuple[int, ...], limit: str) -> bool:
    """``have`` is before ``limit``; what ``have`` leaves unsaid is not held against it."""
    return have < tuple(map(int, limit.split(".")))[: len(have)]


_ARCHITECTURE = re.compile(r"(sm|compute)_([0-9]+)([0-9])([af]?)")


def runs(architecture: str, capability: tuple[int, int]) -> bool:
    """Whether compiled code (a cubin, ``sm_…``) runs on GPUs of a compute capability.

    A cubin runs on its own major version, from its own minor version on. With ``a`` it runs on exactly its
    own capability, with ``f`` on its family: the same major version, from its own minor version on. Tegra
    chips are exceptions to this, and not of the platform linux/amd64.

    Source: CUDA C++ Programming Guide, "Binary Compatibility" and "Family-Specific Features".
    """
    kind, major, minor, suffix = _parsed(architecture)
    if kind != "sm":
        return False
    return (
        capability == (major, minor) if suffix == "a" else capability[0] == major and capability[1] >= minor
    )


def compiles(architecture: str, capability: tuple[int, int]) -> bool:
    """Whether a driver can compile PTX (``compute_…``) for GPUs of a compute capability.

    PTX is compiled for every capability from its own on; with ``a`` for exactly its own, with ``f`` for its
    family. The driver has to be as new as the toolkit that wrote it, see :func:`compiles_ptx`.

    Source: CUDA C++ Programming Guide, "PTX Compatibility" and "Family-Specific Features".
    """
    kind, major, minor, suffix = _parsed(architecture)
    if kind != "compute":
        return False
    if suffix:
        return runs(f"sm_{major}{minor}{suffix}", capability)
    return capability >= (major, minor)


def _parsed(architecture: str) -> tuple[str, int, int, str]:
    """Kind, major, minor and suffix; the last digit is the minor version."""
    found = _ARCHITECTURE.fullmatch(architecture)
    if found is None:  # the manifest's schema lets no such text through
        raise ValueError(f"{architecture!r} is no CUDA architecture")
    kind, major, minor, suffix = found.groups()
    return kind, int(major), int(minor), suffix


#: How a GPU or a MIG instance is named: nvidia-smi's number, or its uuid, of which a beginning is enough.
_NAME = re.compile(r"[0-9]{1,4}|GPU-[0-9a-fA-F-]+|MIG-[0-9a-zA-Z/-]+")


def names(text: str) -> tuple[str, ...]:
    """The GPUs of a list such as ``0,1`` or ``GPU-8932f937,GPU-04ab``.

    Raises:
        ValueError: what is wrong with it.
    """
    found = []
    for part in text.split(","):
        name = part.strip()
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is neither a number nor a uuid of nvidia-smi -L")
        found.append(str(int(name)) if name.isdecimal() else name)
    twice = sorted({name for name in found if found.count(name) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} is named twice")
    return tuple(found)


def find(name: str, gpus: Sequence[Gpu]) -> tuple[str, Gpu] | None:
    """The full name that a name of :func:`names` stands for, and its GPU; None: none, or more than one."""
    known: dict[str, Gpu] = {}
    for gpu in gpus:
        known |= dict.fromkeys((str(gpu.index), gpu.uuid, *gpu.instances), gpu)
    if name in known:
        return name, known[name]
    found = [full for full in known if not name.isdecimal() and full.startswith(name)]
    return (found[0], known[found[0]]) if len(found) == 1 else None
