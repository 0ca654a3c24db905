"""What the images ship, under which licences: per target and package, and what deserves a look first."""

from collections.abc import Sequence
from dataclasses import dataclass

from launcher import licences, manifest
from launcher.app import images
from launcher.errors import ManifestError
from launcher.licences import Look, Stated


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipped:
    """A package of one target; ``look`` is None where its licence needs none."""

    target: str
    stated: Stated
    look: Look | None


def shipped(*, base: str | None, without: Sequence[str]) -> tuple[Shipped, ...]:
    """The packages of all targets, those that deserve a look first in each.

    Raises:
        ManifestError: a table does not know a package of a lock.
    """
    known, looks = licences.shipped(), licences.looks()
    found = []
    for target in manifest.shipped().targets:
        rows = []
        for package in images.sources(target.name, base, without).lock.packages:
            row = known.get((package.name, package.version))
            if row is None:
                raise ManifestError(
                    "images/licences.json is not about these locks",
                    [f"{target.name}: it says nothing of {package.name} {package.version}"],
                    hint="make docs",
                )
            rows.append(Shipped(target=target.name, stated=row, look=licences.look(row, looks)))
        for driver in target.drivers:
            row = Stated(
                package=driver.name, version=driver.version, licence=driver.licence, stated="manifest.toml"
            )
            rows.append(Shipped(target=target.name, stated=row, look=None))
        order = {look: position for position, look in enumerate(looks)}
        found += sorted(rows, key=lambda each: len(order) if each.look is None else order[each.look])
    return tuple(found)
