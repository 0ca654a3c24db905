"""One finding of ``launch doctor``: its status, what was found, what that means, what fixes it."""

import re
from dataclasses import dataclass
from typing import Literal

from launcher.diagnosis.catalogue import CHECKS

#: failed: a run would be refused or break. warning: it works, with a limit. skipped: nothing to look at.
Status = Literal["ok", "warning", "failed", "skipped"]

_AGAIN = "launch --verbose doctor, once more when the machine has less to do"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One finding.

    Attributes:
        name: of the check, see :data:`launcher.diagnosis.catalogue.CHECKS`.
        found: what is there.
        means: what follows from it; empty when all is well.
        fix: the command or the setting that changes it; empty when there is nothing to do.
    """

    name: str
    status: Status
    found: str
    means: str = ""
    fix: str = ""


def ok(name: str, found: str) -> Line:
    """All is well."""
    return Line(name=name, status="ok", found=found)


def skipped(name: str, why: str) -> Line:
    """There is nothing to look at."""
    return Line(name=name, status="skipped", found=why)


def warning(name: str, found: str, *, means: str = "", fix: str = "", **values: object) -> Line:
    """It works, with a limit; meaning and fix are the catalogue's unless they are given.

    Args:
        values: what stands in the braces of the catalogue's fix.
    """
    return _judged(name, "warning", found, means or CHECKS[name].warning, fix, values)


def failed(name: str, found: str, *, means: str = "", fix: str = "", **values: object) -> Line:
    """A run would be refused or break; see :func:`warning`."""
    return _judged(name, "failed", found, means or CHECKS[name].failed, fix, values)


def unknown(name: str, why: str) -> Line:
    """What could not be found out, by a probe that broke or took too long."""
    return Line(name=name, status="warning", found=why, means="this was not checked", fix=_AGAIN)


def _judged(name: str, status: Status, found: str, means: str, fix: str, values: dict[str, object]) -> Line:
    return Line(
        name=name, status=status, found=found, means=means, fix=fix or CHECKS[name].fix.format(**values)
    )


def size(count: float) -> str:
    """Bytes for people, in the units that disks and images are sold in: 1.6 GB."""
    for unit, digits in (("TB", 12), ("GB", 9), ("MB", 6), ("kB", 3)):
        if count >= 10**digits:
            return f"{count / 10**digits:.1f} {unit}".replace(".0 ", " ")
    return f"{count:.0f} B"


_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def bytes_of(text: str) -> int:
    """Bytes of a size as the manifest and Docker write it, e.g. ``16g``; 0: it is none."""
    found = re.fullmatch(r"([0-9]+)([kmg]?)", text.lower())
    return int(found.group(1)) * _UNITS[found.group(2)] if found else 0
