"""Control groups, version 1 and 2: what limits this process, read from the kernel's trees."""

from collections.abc import Iterator
from pathlib import Path


def files(root: Path, controller: str, v1: str, v2: str) -> Iterator[tuple[Path, bool]]:
    """A file of the process's own group and of all above it, whose limits hold as well.

    Args:
        root: of the file system; another tree in tests.
        controller: of version 1, e.g. ``memory``; in version 2 there is one tree for all.
        v1, v2: the file's name in either version.

    Yields:
        the file, which is there, and whether it is of version 2.
    """
    for group, mount, second in _groups(root, controller):
        name = v2 if second else v1
        # In a container the path may be the host's, of which only the mount itself is to be seen.
        for folder in (group, *group.parents):
            if (mount / folder / name).is_file():
                yield mount / folder / name, second


def _groups(root: Path, controller: str) -> Iterator[tuple[Path, Path, bool]]:
    """The group's path below its mount, the mount, and whether it is of version 2."""
    base = root / "sys/fs/cgroup"
    for line in read(root / "proc/self/cgroup").splitlines():
        parts = line.split(":", 2)
        if len(parts) != 3:
            continue
        _, controllers, path = parts
        below = Path(path.strip("/") or ".")
        if not controllers:
            yield below, base / "unified" if (base / "unified").is_dir() else base, True
        elif controller in controllers.split(","):
            mounts = (base / controllers, base / controller)
            yield below, next((each for each in mounts if each.is_dir()), base / controller), False


def number(text: str) -> int | None:
    """A limit; None for ``max``, and for what is none."""
    return int(text) if text.strip().isdecimal() else None


def read(path: Path) -> str:
    """A file's text; empty: it cannot be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
