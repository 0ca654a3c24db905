"""What Intel's discrete GPUs need of a machine, and how they are chosen: rules as pure functions.

Cards and kernels are data, in images/compatibility.toml. The facts of a machine come from
:mod:`launcher.host.intel`; what to do about them is decided in :mod:`launcher.app.accelerators`. None of it
was run on a machine with an Intel GPU: what has no source is marked as a guess.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from launcher.compatibility import Family

#: The largest BAR, in bytes, of a card whose machine has Resizable BAR switched off.
SMALL_BAR = 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One discrete GPU, as the kernel shows it.

    Attributes:
        index: its number among them, in the order of the PCI bus.
        name: of the card, or of its family.
        device: PCI device id, four hex digits; the vendor's is 8086.
        address: on the PCI bus, e.g. ``0000:03:00.0``; empty: unknown.
        driver: the kernel's, ``xe`` or ``i915``; empty: unknown.
        bar: size of its largest prefetchable 64-bit BAR in bytes; 0: unknown.
        node: the render node, e.g. ``/dev/dri/renderD128``.
        gid: the group that owns the node; None: there is no node.
        group: that group's name; empty: it has none.
        mode: the node's permissions, e.g. ``0660``; empty: there is no node.
        usable: this process may read and write the node.
    """

    index: int
    name: str
    device: str
    address: str
    driver: str
    bar: int
    node: str
    gid: int | None
    group: str
    mode: str
    usable: bool

    def __str__(self) -> str:
        """For people: number, name and place."""
        return f"GPU {self.index} ({self.name}, {self.address or self.node})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Intel:
    """Intel's part of a machine.

    Attributes:
        gpus: the discrete ones.
        others: number of further GPUs of Intel, such as the processor's own.
        by_path: /dev/dri/by-path is there, by which oneAPI tells cards apart.
    """

    gpus: tuple[Gpu, ...] = ()
    others: int = 0
    by_path: bool = False


def family(device: str) -> "Family | None":
    """The family of a PCI device id such as ``e211``; None: no discrete card that a target is for."""
    from launcher import compatibility  # only here: most machines have no card to name

    return compatibility.shipped().family(device)


def name(device: str) -> str:
    """What to call a card with this PCI device id."""
    found = family(device)
    return dict(found.names).get(device, found.name) if found else device


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the rules say.

    Attributes:
        problems: why nothing would run, each with its fix.
        notes: what may not work, or not as well.
    """

    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def judge(gpus: Sequence[Gpu], *, kernel: str) -> Verdict:
    """Whether these GPUs can be expected to work with this kernel; what is unknown is never a problem.

    Args:
        gpus: those to be used.
        kernel: its release, e.g. ``6.8.0-45-generic``.
    """
    notes = [*judge_kernel(gpus, kernel=kernel), *judge_bars(gpus)]
    if len(gpus) > 1:
        notes.append(
            "several Intel GPUs, and xccl between them, were not tested here: oneCCL 2022 hangs at the first "
            "allreduce of several Arc Pro B60; if this run does, --env CCL_ALLREDUCE=ring"
        )
    return Verdict(problems=judge_drivers(gpus), notes=tuple(notes))


def judge_drivers(gpus: Sequence[Gpu]) -> tuple[str, ...]:
    """Cards that have another kernel driver than their only one, each with its fix."""
    return tuple(
        f"{gpu} has the kernel driver {gpu.driver}, and {kind.name} needs {kind.driver}: take away "
        f"what binds it (i915.force_probe, an added module), on Linux {_dotted(kind.since)} or newer"
        for gpu in gpus
        if (kind := family(gpu.device)) and kind.driver and gpu.driver not in ("", kind.driver)
    )


def judge_kernel(gpus: Sequence[Gpu], *, kernel: str) -> tuple[str, ...]:
    """Cards that are newer than the kernel; one whose driver is wrong is no matter of the kernel's age."""
    have = release(kernel)
    return tuple(
        f"{gpu}: Linux {kernel} is older than {_dotted(kind.since)}, the first with {kind.name} "
        "switched on, unless the distribution added it: update it if the card does not work"
        for gpu in gpus
        if (kind := family(gpu.device)) and kind.since and have and have < kind.since
        if not judge_drivers([gpu])
    )


def judge_bars(gpus: Sequence[Gpu]) -> tuple[str, ...]:
    """Cards that the machine shows through a small window only."""
    return tuple(
        f"{gpu}: Resizable BAR is off (its largest BAR has {gpu.bar >> 20} MiB): switch it on in the "
        "firmware, together with Above 4G Decoding; without it the card is slow, or not seen at all"
        for gpu in gpus
        if 0 < gpu.bar <= SMALL_BAR
    )


def reach(cards: Intel, gpus: Sequence[Gpu], *, container: bool) -> tuple[str, ...]:
    """Why a run would not reach its GPUs, each with its fix.

    A container gets the groups of the nodes from the launcher; a process has those of its user.

    Args:
        cards: the machine's.
        gpus: those to be used.
        container: the run takes place in one.
    """
    if container:
        return () if cards.by_path else ("/dev/dri/by-path is not on this machine: start udev",)
    return tuple(f"{gpu}: {_fix(gpu)}" for gpu in gpus if not gpu.usable)


def _fix(gpu: Gpu) -> str:
    """What is wrong with a node that cannot be used, and what to do."""
    if gpu.gid is None:
        return f"{gpu.node} is not there: start udev, or give this container /dev/dri"
    for_group = int(gpu.mode, 8) & 0o060 == 0o060
    if gpu.gid == 0 or not for_group:
        # Nobody should join root's group for it, and joining another one would not help.
        owner = f"group {gpu.group or gpu.gid}, mode {gpu.mode}"
        return f"no permission on {gpu.node} ({owner}): udev's rules give it to the group render, mode 0660"
    if not gpu.group:
        return f"no permission on {gpu.node}: it belongs to the group id {gpu.gid}, which has no name here"
    return f"no permission on {gpu.node}: sudo usermod -aG {gpu.group} $USER, then log in again"


_RELEASE = re.compile(r"([0-9]{1,4})\.([0-9]{1,4})")


def release(kernel: str) -> tuple[int, int] | None:
    """Major and minor version of a kernel's release; None: it says none."""
    found = _RELEASE.match(kernel)
    return (int(found.group(1)), int(found.group(2))) if found else None


def _dotted(version: tuple[int, int] | None) -> str:
    return ".".join(map(str, version or ()))


#: A device of Level Zero, or one of its sub-devices (tiles), as ZE_AFFINITY_MASK has them.
_NAME = re.compile(r"([0-9]{1,4})(?:\.([0-9]{1,2}))?")


def names(text: str) -> tuple[str, ...]:
    """The GPUs of a list such as ``0,1``, or ``0.0`` for a part of one.

    Several parts of one card are refused: whether they are one device then or several depends on the device
    hierarchy of Level Zero, so the number of processes would be a guess.

    Raises:
        ValueError: what is wrong with it.
    """
    found: dict[int, str] = {}
    for part in text.split(","):
        parsed = _NAME.fullmatch(part.strip())
        if parsed is None:
            raise ValueError(f"{part.strip()!r} is neither a number nor one with a sub-device, such as 0.0")
        card, tile = int(parsed.group(1)), parsed.group(2)
        if card in found:
            raise ValueError(f"GPU {card} is named twice")
        found[card] = str(card) if tile is None else f"{card}.{int(tile)}"
    return tuple(found.values())


def number(each: str) -> int:
    """The card of one of :func:`names`."""
    return int(each.split(".")[0])
