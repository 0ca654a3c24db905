"""The memory that this process, and what it starts, may use: the machine's, or a control group's limit."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

#: Where a limit is written: cgroup v2, then v1. Inside a container its own group is the root.
_LIMITS = ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes")


def limit(root: Path = Path("/")) -> int:
    """Bytes; ``root`` is another tree in tests."""
    return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *_limits(root)])


def _limits(root: Path) -> Iterator[int]:
    for name in _LIMITS:
        with suppress(OSError, ValueError):  # "max", or no such group
            yield int((root / name).read_text(encoding="ascii"))
