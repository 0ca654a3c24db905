"""The processor: its instruction sets, and how much of it the process may use."""

import os
from pathlib import Path

from launcher.diagnosis.facts import Cpu
from launcher.host import cgroup


def facts(root: Path = Path("/")) -> Cpu:
    """The processor; ``root`` is another tree in tests. Nothing is raised: what cannot be read is unknown."""
    first: dict[str, str] = {}
    for line in cgroup.read(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        first.setdefault(key.strip(), value.strip())
    return Cpu(
        name=first.get("model name", ""),
        flags=frozenset(first.get("flags", "").split()),
        cores=len(os.sched_getaffinity(0)),
        quota=_quota(root),
    )


#: What oneDNN, MKL and torch choose their programs by on x86; each may add in another order than the next.
#: Source: oneDNN, "CPU Dispatcher Control"; torch, aten/src/ATen/native/DispatchStub.cpp.
_DECISIVE = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile")

#: Bytes of /proc/cpuinfo in which its first processor is.
_FIRST = 16 * 1024


def processor(root: Path = Path("/")) -> str:
    """Name and decisive instruction sets of the first processor, one line; empty when it cannot be read."""
    try:
        with (root / "proc/cpuinfo").open("rb") as stream:
            text = stream.read(_FIRST).decode(errors="replace")
    except OSError:
        return ""
    lines = text.partition("\n\n")[0].splitlines()
    said = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = set(said.get("flags", "").split())
    return " ".join((said.get("model name", ""), *(name for name in _DECISIVE if name in flags))).strip()


def _quota(root: Path) -> float | None:
    """The cores' worth of time of the narrowest group.

    Source: the kernel's Documentation/admin-guide/cgroup-v2.rst, cpu.max; scheduler/sched-bwc.rst.
    """
    found = []
    for file, second in cgroup.files(root, "cpu", "cpu.cfs_quota_us", "cpu.max"):
        words = cgroup.read(file).split()
        if not second:
            words += cgroup.read(file.with_name("cpu.cfs_period_us")).split()
        numbers = [cgroup.number(word) for word in words]
        if len(numbers) == 2 and numbers[0] and numbers[1]:
            found.append(numbers[0] / numbers[1])
    return min(found, default=None)
