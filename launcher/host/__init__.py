"""Facts of this machine, read and never assumed: cores, memory, accelerators, the nodes they sit on."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from launcher.cuda import Nvidia
from launcher.host import cpu, intel, nvidia
from launcher.intel import Intel


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What the launcher knows of the machine.

    Attributes:
        cpus: cores that this process may use.
        memory: RAM in bytes.
        nvidia: number of NVIDIA GPUs that the kernel driver shows.
        intel: number of discrete Intel GPUs.
        render_groups: group ids that own the render nodes of /dev/dri.
        kernel: release of the running kernel.
        processor: its name, and those of its instruction sets that matrix libraries choose their programs by.
        cards: the GPUs of one vendor, see :mod:`launcher.host.nvidia` and :mod:`launcher.host.intel`; Intel's
            cost nothing and are there when there are some, NVIDIA's when they are needed.
    """

    cpus: int
    memory: int
    nvidia: int
    intel: int
    render_groups: tuple[int, ...]
    kernel: str
    cards: Nvidia | Intel | None = None
    processor: str = ""

    def accelerators(self, kind: str) -> int:
        """How many devices of a kind (``nvidia``, ``intel``; ``none`` counts as one CPU) there are."""
        return {"nvidia": self.nvidia, "intel": self.intel}.get(kind, 1)

    def best_target(self, *, hidden: str = "") -> tuple[str, str]:
        """The target for ``--target auto``, and why.

        Args:
            hidden: what hides every NVIDIA GPU, e.g. a variable's name; empty: nothing does.
        """
        if self.nvidia and not hidden:
            return "cuda", f"{self.nvidia} NVIDIA GPU(s) shown by the driver"
        without = f"{hidden} hides every NVIDIA GPU" if self.nvidia else ""
        if self.intel:
            found = f"{self.intel} Intel GPU(s) in /sys/class/drm"
            return "xpu", f"{without}; {found}" if without else found
        return "cpu", without or "no NVIDIA or discrete Intel GPU was found"


def facts(root: Path = Path("/")) -> Host:
    """Look at the machine; ``root`` is another tree in tests."""
    nodes = sorted((root / "dev/dri").glob("renderD*"))
    cards = intel.facts(root)
    return Host(
        cpus=len(os.sched_getaffinity(0)),
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        nvidia=nvidia.count(root),
        intel=len(cards.gpus),
        render_groups=tuple(sorted({node.stat().st_gid for node in nodes})),
        kernel=platform.release(),
        cards=cards if cards.gpus else None,
        processor=cpu.processor(root),
    )
