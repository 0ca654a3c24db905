"""What a report says of the operating system and the processor; neither machine nor user are named."""

import platform
import re
from dataclasses import dataclass
from pathlib import Path

from launcher.host import cgroup, cpu


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
        os=_distribution(root / "etc/os-release"),
        kernel=platform.release(),
        architecture=platform.machine(),
        cpu=cpu.facts(root).name,
    )


def _distribution(release: Path) -> str:
    match = re.search(r'^PRETTY_NAME="?(.*?)"?$', cgroup.read(release), re.MULTILINE)
    return match[1].strip() if match else ""
