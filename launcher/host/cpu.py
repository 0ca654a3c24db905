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
