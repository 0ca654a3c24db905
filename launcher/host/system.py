"""What a report says of the operating system and the processor; neither machine nor user are named."""

import platform
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """What runs here.

    Attributes:
        os: the distribution's name and version; empty: unknown.
        kernel: its release.
        architecture: of the machine, e.g. ``x86_64``.
        cpu: model name of the first processor; empty: unknown.
    """

    os: str
    kernel: str
    architecture: str
    cpu: str


def facts(root: Path = Path("/")) -> System:
    """Read them; ``root`` is another tree in tests."""
    return System(
        os=_found(root / "etc/os-release", r'^PRETTY_NAME="?(.*?)"?$'),
        kernel=platform.release(),
        architecture=platform.machine(),
        cpu=_found(root / "proc/cpuinfo", r"^model name\s*:\s*(.*)$"),
    )


def _found(path: Path, pattern: str) -> str:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    match = re.search(pattern, text, re.MULTILINE)
    return match[1].strip() if match else ""
