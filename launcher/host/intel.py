"""Intel's discrete GPUs, read from the kernel's trees: nothing is started, opened or asked."""

import grp
import os
import re
import stat
from pathlib import Path

from launcher import intel
from launcher.intel import Gpu, Intel

#: Intel's PCI vendor id.
_INTEL = "0x8086"

_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")

#: Flags of a resource, see the kernel's include/linux/ioport.h.
_PREFETCHABLE_64_BIT = 0x00002000 | 0x00100000

#: A PCI device has six BARs. What follows them is its ROM, and the BARs of its virtual functions.
_BARS = 6


def facts(root: Path = Path("/")) -> Intel:
    """The cards. Nothing is raised: what cannot be read is unknown, or no card."""
    every = (root / "sys/class/drm").glob("renderD*")
    nodes = [node for node in every if _read(node / "device/vendor") == _INTEL]
    cards = [node for node in nodes if intel.family(_device(node))]
    # Level Zero counts in this order too: compute-runtime's comparePciIdBusNumber has domain, bus, device and
    # function; older versions of it only with ZE_ENABLE_PCI_ID_DEVICE_ORDER=1. Hex digits of one width.
    ordered = sorted(cards, key=lambda node: (_address(node) or "~", len(node.name), node.name))
    return Intel(
        gpus=tuple(_gpu(root, node, index) for index, node in enumerate(ordered)),
        others=len(nodes) - len(cards),
        by_path=(root / "dev/dri/by-path").exists(),
    )


def _gpu(root: Path, node: Path, index: int) -> Gpu:
    path = root / "dev/dri" / node.name
    try:
        found = path.stat()
        owner, mode = found.st_gid, f"{stat.S_IMODE(found.st_mode):04o}"
    except OSError:
        owner, mode = None, ""
    return Gpu(
        index=index,
        name=intel.name(_device(node)),
        device=_device(node),
        address=_address(node),
        driver=_driver(node),
        bar=_bar(_read(node / "device/resource")),
        node=f"/dev/dri/{node.name}",
        gid=owner,
        group=_group(owner),
        mode=mode,
        usable=os.access(path, os.R_OK | os.W_OK),
    )


def _device(node: Path) -> str:
    """The PCI device id, four hex digits; empty: unknown."""
    return _read(node / "device/device").removeprefix("0x")


def _address(node: Path) -> str:
    """The address on the PCI bus is the name of the folder that ``device`` leads to."""
    name = (node / "device").resolve().name
    return name if _ADDRESS.fullmatch(name) else ""


def _driver(node: Path) -> str:
    link = node / "device/driver"
    return link.resolve().name if link.is_symlink() else ""


def _bar(resource: str) -> int:
    """Bytes of the largest 64-bit prefetchable BAR of a sysfs ``resource`` file; 0: there is none."""
    largest = 0
    for line in resource.splitlines()[:_BARS]:
        try:
            first, last, flags = (int(word, 16) for word in line.split())
        except ValueError:
            continue
        if flags & _PREFETCHABLE_64_BIT == _PREFETCHABLE_64_BIT and last > first:
            largest = max(largest, last - first + 1)
    return largest


def _group(gid: int | None) -> str:
    try:
        return "" if gid is None else grp.getgrgid(gid).gr_name
    except KeyError:
        return ""


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
