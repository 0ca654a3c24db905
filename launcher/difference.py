"""What changed between two locks or images: packages added, removed or moved, and what that weighs. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from launcher import debian
from launcher.lock import BUILD, LockedPackage, TargetLock
from launcher.manifest import DRIVERS

#: The name under which an image's system packages are compared; no lock knows them.
SYSTEM = "system"

#: How a package changed. ``moved`` is the same version in another layer, ``replaced`` the same version from
#: another file, ``resized`` the same file of which an image keeps more or less.
How = Literal["added", "removed", "newer", "older", "moved", "replaced", "resized"]

# What stands beside the environment, so that a name may occur there and in the environment, too.
_BESIDE = (SYSTEM, DRIVERS, BUILD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One package of one side.

    Attributes:
        name: the canonical name.
        version: the lock's, or dpkg's.
        layer: where it is installed.
        sha256: of the file that it came from; "" for a system package.
        bytes: of that file in a lock, of what is installed in an image; None where nobody knows.
    """

    name: str
    version: str
    layer: str
    sha256: str
    bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two that are compared.

    Attributes:
        name: as it was asked for.
        kind: decides what sizes mean, and which layers there can be.
        digest: of the locks (sha256, hex), or the image's id.
        base: reference of the base image.
        without: optional packages that were left out.
        layers: from the lowest up.
        items: all packages.
    """

    name: str
    kind: Literal["lock", "image"]
    digest: str
    base: str
    without: tuple[str, ...]
    layers: tuple[str, ...]
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A package that is not the same on both sides.

    Attributes:
        name: the package's.
        how: the most telling difference: a version before a layer, a layer before a file.
        before: None when it was added.
        after: None when it was removed.
        bytes: that it adds, negative for what it frees; None where a size is unknown or of another kind.
    """

    name: str
    how: How
    before: Item | None
    after: Item | None
    bytes: int | None

    @property
    def layers(self) -> tuple[str, ...]:
        """The layer that it is in, or the two between which it moved."""
        return tuple(dict.fromkeys(item.layer for item in (self.before, self.after) if item))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """Packages together; ``bytes`` is None when one of the sizes is unknown."""

    packages: int
    bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """A layer, or all of them (``layer`` is then ""), on both sides; ``bytes`` as of :class:`Change`."""

    layer: str
    before: Sum
    after: Sum
    bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """All that changed.

    Attributes:
        before: the first side, as it is.
        after: the second one.
        changes: by layer, then name.
        layers: the totals of each layer that was compared.
        total: of them all.
        beside: layers that were not compared, because only locks or only images have them.
    """

    before: Side
    after: Side
    changes: tuple[Change, ...]
    layers: tuple[Total, ...]
    total: Total
    beside: tuple[str, ...]

    @property
    def empty(self) -> bool:
        """True when packages, base and what was left out are the same."""
        one, other = self.before, self.after
        return not self.changes and (one.base, one.without) == (other.base, other.without)


def of_lock(name: str, locked: TargetLock, *, base: str, size: Callable[[LockedPackage], int | None]) -> Side:
    """A target's locks as a side.

    Args:
        name: as it was asked for.
        locked: the locks.
        base: reference of the target's base image.
        size: bytes of a package's file, None where nobody knows.
    """
    return Side(
        name=name,
        kind="lock",
        digest=locked.digest,
        base=base,
        without=locked.left_out,
        layers=tuple(part.layer for part in locked.locks),
        items=tuple(
            Item(
                name=package.name,
                version=package.version,
                layer=part.layer,
                sha256=package.sha256,
                bytes=size(package),
            )
            for part in locked.locks
            for package in part.packages
        ),
    )


def compare(before: Side, after: Side) -> Difference:
    """What has to change in one side to get the other."""
    alike = before.kind == after.kind
    present = dict.fromkeys((*after.layers, *before.layers))
    beside = () if alike else tuple(name for name in _BESIDE if name in present)
    layers = sorted((name for name in present if name not in beside), key=_place)
    changes = _changes(before, after, layers, alike=alike)
    totals = [_total(name, [name], before, after, alike=alike) for name in layers]
    return Difference(
        before=before,
        after=after,
        changes=tuple(sorted(changes, key=lambda each: (layers.index(each.layers[-1]), each.name))),
        layers=tuple(totals),
        total=_total("", layers, before, after, alike=alike),
        beside=beside,
    )


def _place(layer: str) -> int:
    """The system is below the environment, what builds it is not a part of it; the rest keeps its order."""
    return {SYSTEM: -2, DRIVERS: -1, BUILD: 1}.get(layer, 0)


def _changes(before: Side, after: Side, layers: Sequence[str], *, alike: bool) -> list[Change]:
    def keyed(side: Side) -> dict[tuple[str, str], Item]:
        return {
            (item.layer if item.layer in _BESIDE else "", item.name): item
            for item in side.items
            if item.layer in layers
        }

    old, new = keyed(before), keyed(after)
    found = []
    for key in old.keys() | new.keys():
        one, other = old.get(key), new.get(key)
        how = _how(one, other, alike=alike)
        if how is not None:
            sizes = (one.bytes if one else 0, other.bytes if other else 0)
            found.append(
                Change(name=key[1], how=how, before=one, after=other, bytes=_growth(*sizes, alike=alike))
            )
    return found


def _how(before: Item | None, after: Item | None, *, alike: bool) -> How | None:
    if before is None or after is None:
        return "added" if before is None else "removed"
    if before.version != after.version:
        return _by_version(before, after)
    if before.layer != after.layer:
        return "moved"
    if before.sha256 != after.sha256:
        return "replaced"
    grown = _growth(before.bytes, after.bytes, alike=alike)
    return "resized" if grown else None


def _by_version(before: Item, after: Item) -> How:
    from packaging.version import InvalidVersion, Version  # here, because a run compares no versions

    try:
        if after.layer in (SYSTEM, DRIVERS):
            order = debian.order(before.version, after.version)
        else:
            old, new = Version(before.version), Version(after.version)
            order = (old > new) - (old < new)
    except InvalidVersion:
        order = 0
    # Neither is newer when the same version is written in two ways, e.g. 1.0 and 1.0.0.
    return "newer" if order < 0 else "older" if order > 0 else "replaced"


def _total(name: str, layers: Sequence[str], before: Side, after: Side, *, alike: bool) -> Total:
    one, other = ([item for item in side.items if item.layer in layers] for side in (before, after))
    known = [sum(item.bytes or 0 for item in items) for items in (one, other)]
    # A file whose size nobody knows weighs the same on both sides.
    same = _unknown(one) == _unknown(other)
    growth = known[1] - known[0] if alike and same else None
    return Total(layer=name, before=_sum(one), after=_sum(other), bytes=growth)


def _sum(items: Sequence[Item]) -> Sum:
    total = None if _unknown(items) else sum(item.bytes or 0 for item in items)
    return Sum(packages=len(items), bytes=total)


def _unknown(items: Sequence[Item]) -> list[tuple[str, str, str]]:
    """The packages without a size, in an order."""
    return sorted((item.name, item.version, item.sha256) for item in items if item.bytes is None)


def _growth(before: int | None, after: int | None, *, alike: bool) -> int | None:
    """Bytes; None when one is unknown, or one is of a file and the other of what was installed from it."""
    return after - before if alike and before is not None and after is not None else None
