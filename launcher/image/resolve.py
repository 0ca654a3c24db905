"""From the manifest's pins to locks: uv resolves a family of targets once, the result is divided.

Targets that share layers are resolved together, as one set; that set is then divided over the layers by
asking uv, with every version fixed, what the pins up to each layer need. uv knows extras and markers, so
a layer holds exactly what its pins need, minus the layers below.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import tomli_w
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from launcher.errors import LockError, ProgramError
from launcher.image import uv, wheels
from launcher.lock import BUILD, Lock, LockedPackage, of_drivers, partition
from launcher.manifest import DRIVERS, Target, UrlWheel, lock_inputs_digest
from launcher.progress import Progress

#: ``--upgrade`` with this instead of a name moves everything.
EVERYTHING = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rules:
    """What applies to every resolve of one family."""

    target: Target
    overrides: tuple[str, ...]
    wheels: tuple[UrlWheel, ...]
    builds: bool

    def files(self) -> dict[str, str]:
        """uv's project configuration, and the overrides."""
        metadata: list[dict[str, Any]] = [
            # Without a version: some files carry more in their name than in their metadata (flash-attn).
            {"name": wheel.name, "requires-dist": list(wheel.requires)}
            for wheel in self.wheels
        ]
        return {
            "uv.toml": tomli_w.dumps({"dependency-metadata": metadata}),
            "overrides.txt": "".join(f"{line}\n" for line in self.overrides),
        }

    def arguments(self) -> list[str]:
        """Source-only packages are refused where the target has nothing to build them with."""
        return ["--override", "overrides.txt", *([] if self.builds else ["--no-build"])]


def resolve(
    family: Sequence[Target],
    previous: Sequence[Lock],
    *,
    upgrade: Iterable[str] = (),
    progress: Progress,
) -> tuple[Lock, ...]:
    """All locks of a family of targets, as files are written: each layer once, build requirements last.

    Args:
        family: targets that share layers, the extended ones first.
        previous: the family's locks so far; what they hold stays unless something forces it to move.
        upgrade: names of packages that may move, or :data:`EVERYTHING`.
        progress: told what is going on.

    Raises:
        LockError: it does not resolve; carries what uv said.
    """
    upgrade = tuple(upgrade)
    layered = [lock for lock in previous if lock.layer not in (BUILD, DRIVERS)]
    kept = {package.name: package for lock in layered for package in lock.packages}
    rules = _rules(family)
    task = f"lock {', '.join(target.name for target in family)}"
    layers = {(layer.owner, layer.name): layer for target in family for layer in target.layers}
    builders = [target for target in family if target.build_owner == target.name]
    progress.start(task, total=len(layers) + len(builders) + 2)
    try:
        pins = [pin for layer in layers.values() for pin in layer.pins]
        versions = _versions(pins, kept, rules, upgrade)
        progress.advance(task, 1)
        packages = _packages(versions, kept, rules)
        progress.advance(task, 1)
        locks = _divide(family, packages, rules, progress, task)
        for target in builders:
            locks.append(_build_lock(target, previous, upgrade))
            progress.advance(task, 1)
    except ProgramError as error:
        raise LockError(
            f"{family[0].name} does not resolve",
            error.output.splitlines() or [error.message],
            hint="the pins are in images/manifest.toml; indexes and mirrors are uv's and pip's own settings",
        ) from None
    progress.finish(task)
    digest = lock_inputs_digest(tuple(family))
    tool = f"uv {uv.version()}, Python {family[0].python}, {uv.platform(family[0])}"
    resolved = [replace(lock, manifest_digest=digest, tool=tool) for lock in locks]
    named = [
        of_drivers(target, manifest_digest=digest, tool=tool)
        for target in family
        if target.drivers_owner == target.name
    ]
    return (*resolved, *named)


def _rules(family: Sequence[Target]) -> _Rules:
    """The union of what the members say: they are one set."""
    found = {canonicalize_name(wheel.name): wheel for target in family for wheel in target.wheels}
    excluded = dict.fromkeys(name for target in family for name in target.exclude)
    overrides = [
        *dict.fromkeys(line for target in family for line in target.overrides),
        *(f"{name} ; sys_platform == 'never'" for name in excluded),
        # With the hash, uv need not download the file to compute it.
        *(f"{wheel.name} @ {wheel.url}#sha256={wheel.sha256}" for wheel in found.values()),
    ]
    return _Rules(
        target=family[0],
        overrides=tuple(overrides),
        wheels=tuple(found.values()),
        builds=any(target.build_requires for target in family),
    )


def _versions(
    pins: Sequence[str], kept: dict[str, LockedPackage], rules: _Rules, upgrade: Sequence[str]
) -> dict[str, str]:
    """Name -> version of all that these pins need; what the old lock has is preferred."""
    preferred = "".join(f"{package.name}=={package.version}\n" for package in kept.values())
    moving = list(chain.from_iterable(("--upgrade-package", name) for name in upgrade))
    text = uv.compile_requirements(
        pins,
        rules.target,
        arguments=[
            *rules.arguments(), "-o", "resolved.txt", *(["--upgrade"] if EVERYTHING in upgrade else moving)
        ],
        files={**rules.files(), "resolved.txt": preferred},
        result="resolved.txt",
    )  # fmt: skip
    return _parse(text, rules)


def _parse(text: str, rules: _Rules) -> dict[str, str]:
    """uv's output lines: ``name==version``, or ``name @ url`` for the manifest's own wheels."""
    urls: dict[str, str] = {canonicalize_name(wheel.name): wheel.version for wheel in rules.wheels}
    versions: dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        if requirement.url is not None:
            versions[name] = urls[name]
        else:
            (specifier,) = requirement.specifier
            versions[name] = specifier.version
    return versions


def _packages(
    versions: dict[str, str], kept: dict[str, LockedPackage], rules: _Rules
) -> tuple[LockedPackage, ...]:
    """The file of each package: the manifest's wheel, or the best that the indexes offer."""
    urls: dict[str, UrlWheel] = {canonicalize_name(wheel.name): wheel for wheel in rules.wheels}
    files = wheels.offered([item for item in versions.items() if item[0] not in urls], rules.target)
    packages, problems = [], []
    for name, version in sorted(versions.items()):
        if name in urls:
            wheel = urls[name]
            # An installer looks for the file name's version: flash-attn's says more than its metadata.
            version = str(parse_wheel_filename(wheel.filename)[1])
            packages.append(_locked(name, version, wheel.filename, wheel.sha256))
            continue
        own = [file for file in files if file.name == name]
        chosen = wheels.choose(own, rules.target, kept=kept.get(name))
        if chosen is None or (not chosen.is_wheel and not rules.builds):
            problems.append(f"{name} {version}: no wheel for {uv.platform(rules.target)}")
        else:
            packages.append(_locked(name, chosen.version, chosen.filename, chosen.sha256))
    if problems:
        raise LockError(
            "packages without a usable wheel",
            problems,
            why="source-only packages need build_requires in images/manifest.toml",
        )
    return tuple(packages)


def _locked(name: str, version: str, filename: str, sha256: str) -> LockedPackage:
    return LockedPackage(name=name, version=version, filename=filename, sha256=sha256)


def _divide(
    family: Sequence[Target],
    packages: tuple[LockedPackage, ...],
    rules: _Rules,
    progress: Progress,
    task: str,
) -> list[Lock]:
    """One lock per layer of the family; shared layers come out once."""
    needed: dict[tuple[str, ...], frozenset[str]] = {}
    constraints = _constraints(packages, rules)
    locks: dict[str, Lock] = {}
    for target in family:
        steps = []
        for count in range(1, len(target.layers) + 1):
            pins = tuple(pin for layer in target.layers[:count] for pin in layer.pins)
            if pins not in needed:
                needed[pins] = _needs(pins, constraints, rules)
                progress.advance(task, 1)
            steps.append(needed[pins])
        own = [package for package in packages if package.name in frozenset().union(*steps)]
        for layer, part in zip(target.layers, partition(own, steps), strict=True):
            lock = _lock(layer.owner, layer.name, part)
            locks.setdefault(lock.file_name, lock)
    lost = {package.name for package in packages} - frozenset().union(*needed.values())
    if lost:
        raise LockError(
            "the resolve does not divide", [f"{name}: no layer needs it" for name in sorted(lost)]
        )
    return list(locks.values())


def _constraints(packages: Iterable[LockedPackage], rules: _Rules) -> str:
    urls = {canonicalize_name(wheel.name) for wheel in rules.wheels}
    return "".join(f"{each.name}=={each.version}\n" for each in packages if each.name not in urls)


def _needs(pins: Sequence[str], constraints: str, rules: _Rules) -> frozenset[str]:
    """All that these pins need, with every version fixed."""
    text = uv.compile_requirements(
        pins,
        rules.target,
        arguments=[*rules.arguments(), "--constraint", "constraints.txt"],
        files={**rules.files(), "constraints.txt": constraints},
    )
    return frozenset(_parse(text, rules))


def _build_lock(target: Target, previous: Sequence[Lock], upgrade: Sequence[str]) -> Lock:
    """What source-only packages are built with: an environment of its own, wheels alone."""
    kept = {
        package.name: package
        for lock in previous
        if (lock.owner, lock.layer) == (target.name, BUILD)
        for package in lock.packages
    }
    rules = _Rules(target=target, overrides=(), wheels=(), builds=False)
    versions = _versions(target.build_requires, kept, rules, upgrade)
    return _lock(target.name, BUILD, _packages(versions, kept, rules))


def _lock(owner: str, layer: str, packages: tuple[LockedPackage, ...]) -> Lock:
    return Lock(owner=owner, layer=layer, packages=packages, manifest_digest="", tool="")
