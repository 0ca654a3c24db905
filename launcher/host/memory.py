"""RAM, shared memory and disks: how large, and how much of it the process may have."""

import os
import shutil
from pathlib import Path

from launcher.diagnosis.facts import Disk, Memory
from launcher.host import cgroup


def facts(root: Path = Path("/")) -> Memory:
    """RAM within the limits of cgroups; ``root`` is another tree in tests.

    Raises:
        OSError: /proc/meminfo does not say.
    """
    sizes = _table(root / "proc/meminfo")
    if "MemTotal" not in sizes:
        raise OSError("/proc/meminfo does not say how much memory there is")
    total = sizes["MemTotal"] << 10
    available = sizes.get("MemAvailable", sizes.get("MemFree", 0)) << 10
    limit = None
    for file, second in cgroup.files(root, "memory", "memory.limit_in_bytes", "memory.max"):
        allowed = cgroup.number(cgroup.read(file))
        # Version 1 has no word for "none": a number beyond all memory stands for it.
        if allowed is None or allowed >= total:
            continue
        limit = allowed if limit is None else min(limit, allowed)
        available = min(available, max(0, allowed - _held(file, second)))
    return Memory(total=total, available=available, limit=limit)


def _held(file: Path, second: bool) -> int:
    """What a group uses and cannot give back: files that are only cached are given back at once."""
    used = cgroup.number(cgroup.read(file.with_name("memory.current" if second else "memory.usage_in_bytes")))
    cached = _table(file.with_name("memory.stat")).get(
        "inactive_file" if second else "total_inactive_file", 0
    )
    return max(0, (used or 0) - cached)


def _table(path: Path) -> dict[str, int]:
    """The numbers of lines such as ``MemTotal:  16 kB`` and ``inactive_file 4096``."""
    found = {}
    for line in cgroup.read(path).splitlines():
        words = line.replace(":", " ").split()
        if len(words) > 1 and words[1].isdecimal():
            found[words[0]] = int(words[1])
    return found


def shared(root: Path = Path("/")) -> Disk | None:
    """Shared memory, in /dev/shm; None: there is none."""
    return disk(root / "dev/shm") if (root / "dev/shm").is_dir() else None


def disk(path: Path) -> Disk:
    """The file system that a folder is on, or would be made on.

    Raises:
        OSError: it cannot be asked.
    """
    there = next(each for each in (path, *path.parents) if each.exists())
    usage = shutil.disk_usage(there)
    return Disk(path=path, free=usage.free, total=usage.total, writable=os.access(there, os.W_OK | os.X_OK))
