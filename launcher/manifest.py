"""images/manifest.toml: the targets as data. Parse, validate (all problems at once), flatten.

What people write is a pydantic model that reports every problem with its key; what the rest of the
launcher reads is a frozen :class:`Target` in which ``extends`` is already resolved.
"""

import hashlib
import json
import tomllib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from launcher.errors import ManifestError, UsageError

SCHEMA = 1


def _requirement(text: str) -> str:
    try:
        Requirement(text)
    except InvalidRequirement as error:
        raise ValueError(f"{text!r} is not a requirement: {error}") from None
    return text


RequirementText = Annotated[str, AfterValidator(_requirement)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class _Text(_Strict):
    """A text in both languages of the documentation."""

    en: str = Field(min_length=1)
    zh: str = Field(min_length=1)


class _Base(_Strict):
    image: str = Field(pattern=r"^[a-z0-9./-]+$")
    tag: str
    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    evidence: str = Field(min_length=1)


class _Layer(_Strict):
    name: Name
    pins: list[RequirementText] = Field(min_length=1)


class _Wheel(_Strict):
    name: str
    version: str
    url: str = Field(pattern=r"^https://.+\.whl$")
    sha256: Sha256
    requires: list[RequirementText] = []
    evidence: str = Field(min_length=1)


class _Devices(_Strict):
    kind: Literal["none", "nvidia", "intel"] = "none"
    paths: list[str] = []
    device_groups: list[str] = []
    shm_size: str = Field(default="2g", pattern=r"^\d+[kmg]$")


class _Target(_Strict):
    extends: Name | None = None
    summary: _Text
    platform: Literal["linux/amd64"] | None = None
    python: str | None = Field(default=None, pattern=r"^3\.\d+$")
    base: _Base | None = None
    glibc: str | None = Field(default=None, pattern=r"^2\.\d+$")
    system_packages: list[str] = []
    layers: list[_Layer] = []
    overrides: list[RequirementText] = []
    exclude: list[str] = []
    wheels: list[_Wheel] = []
    build_requires: list[RequirementText] = []
    env: dict[str, str] = {}
    devices: _Devices | None = None
    checks: list[Name] = []


class _Manifest(_Strict):
    schema_version: Literal[1] = Field(alias="schema")
    targets: dict[Name, _Target] = Field(min_length=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """The base image: reference by digest, the human tag beside it, and who else uses it."""

    image: str
    tag: str
    digest: str

    @property
    def reference(self) -> str:
        """``image:tag@digest``: the digest decides, the tag tells people what it was."""
        return f"{self.image}:{self.tag}@{self.digest}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One image layer: the pins it is there for (their dependencies come from the lock)."""

    name: str
    pins: tuple[str, ...]
    owner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlWheel:
    """A wheel that is not on a registry: address, hash, and its metadata stated here.

    The metadata makes a resolve possible while the address is out of reach.
    """

    name: str
    version: str
    url: str
    sha256: str
    requires: tuple[str, ...]

    @property
    def filename(self) -> str:
        """The file's name with ``%2B`` undone."""
        return self.url.rsplit("/", 1)[1].replace("%2B", "+").replace("%2b", "+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """What a container of the target needs from the machine.

    Attributes:
        kind: the vendor whose GPUs are asked for, or ``none``.
        paths: device nodes or folders to pass, e.g. ``/dev/dri``.
        device_groups: nodes whose owning group id is added to the process.
        shm_size: size of /dev/shm (Docker's default of 64 MB is too small for data loaders).
    """

    kind: Literal["none", "nvidia", "intel"]
    paths: tuple[str, ...]
    device_groups: tuple[str, ...]
    shm_size: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One environment, everything that it extends included.

    Attributes:
        family: the targets that must share layers (what it extends, and what extends that);
            they are resolved together, so that a shared layer is the same file.
        glibc: the newest glibc that a wheel may ask for, i.e. the base image's own.
        overrides: requirements that replace what packages ask for.
        exclude: distributions that may never enter, e.g. generic triton beside Intel's.
        build_requires: what source-only packages are built with.
        build_owner: the target whose build lock it uses (it, or one that it extends); empty when
            there are no build requirements.
    """

    name: str
    extends: str | None
    summary_en: str
    summary_zh: str
    platform: str
    python: str
    glibc: str
    base: Base
    system_packages: tuple[str, ...]
    layers: tuple[Layer, ...]
    overrides: tuple[str, ...]
    exclude: tuple[str, ...]
    wheels: tuple[UrlWheel, ...]
    build_requires: tuple[str, ...]
    build_owner: str
    env: tuple[tuple[str, str], ...]
    devices: Devices
    checks: tuple[str, ...]

    def own_layers(self) -> tuple[Layer, ...]:
        """The layers that this target adds to what it extends."""
        return tuple(layer for layer in self.layers if layer.owner == self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """All targets, by name, in the order of the file."""

    targets: tuple[Target, ...] = field(default=())

    def names(self) -> tuple[str, ...]:
        """The targets' names."""
        return tuple(target.name for target in self.targets)

    def target(self, name: str) -> Target:
        """The target of that name.

        Raises:
            UsageError: there is none.
        """
        for target in self.targets:
            if target.name == name:
                return target
        raise UsageError(f"there is no target {name!r}", hint=f"the manifest has: {', '.join(self.names())}")

    def family(self, name: str) -> tuple[Target, ...]:
        """The targets that share layers with this one, the extended ones first."""
        root = self.target(name)
        while root.extends is not None:
            root = self.target(root.extends)

        def descends(target: Target) -> bool:
            while target.name != root.name and target.extends is not None:
                target = self.target(target.extends)
            return target.name == root.name

        members = [target for target in self.targets if descends(target)]
        return tuple(sorted(members, key=lambda member: len(member.layers)))


def lock_inputs_digest(family: tuple[Target, ...]) -> str:
    """sha256 over all that decides a lock of the family: recorded in locks, checked offline.

    Texts, environment, devices and checks do not change which packages resolve and are left out.
    """
    fields = ("name", "platform", "python", "glibc", "layers", "overrides", "exclude", "wheels",
              "build_requires")  # fmt: skip
    data = [{key: asdict(member)[key] for key in fields} for member in family]
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def load(path: Path) -> Manifest:
    """Read the manifest.

    Raises:
        ManifestError: all problems of the file at once, each with its key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ManifestError("there is no manifest", [f"{path} does not exist"]) from None
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path} is not UTF-8", [str(error)]) from None
    return parse(text, source=str(path))


def parse(text: str, *, source: str = "images/manifest.toml") -> Manifest:
    """Parse the manifest's text; see :func:`load`."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ManifestError(f"{source} is not valid TOML", [str(error)]) from None
    try:
        model = _Manifest.model_validate(raw)
    except ValidationError as error:
        raise ManifestError(f"{source} is not valid", _problems(error)) from None
    problems = _reference_problems(model) or _completeness_problems(model)
    if problems:
        raise ManifestError(f"{source} is not valid", problems)
    flat: dict[str, Target] = {}
    for name in model.targets:
        _flatten(name, model, flat)
    return Manifest(targets=tuple(flat[name] for name in model.targets))


def _problems(error: ValidationError) -> list[str]:
    return [f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()]


def _reference_problems(model: _Manifest) -> list[str]:
    """``extends`` must name a target and never come back to itself."""
    problems = []
    for name, target in model.targets.items():
        seen = [name]
        parent = target.extends
        while parent is not None:
            if parent not in model.targets:
                problems.append(f"targets.{seen[-1]}.extends: there is no target {parent!r}")
                break
            if parent in seen:
                problems.append(f"targets.{name}.extends: a circle: {' > '.join([*seen, parent])}")
                break
            seen.append(parent)
            parent = model.targets[parent].extends
    return problems


def _completeness_problems(model: _Manifest) -> list[str]:
    """What only the whole can tell: missing keys after extension, names that appear twice."""
    problems = []
    for name in model.targets:
        chain = _chain(name, model)
        for key in ("platform", "python", "base", "glibc"):
            if all(getattr(member, key) is None for _, member in chain):
                problems.append(f"targets.{name}.{key}: missing, and not inherited")
        problems += [
            f"targets.{name}.{key}: cannot differ from what it extends, which shares its layers"
            for key in ("platform", "python", "glibc")
            if len({value for _, member in chain if (value := getattr(member, key)) is not None}) > 1
        ]
        layers = [layer.name for _, member in chain for layer in member.layers]
        if not layers:
            problems.append(f"targets.{name}.layers: at least one layer is needed")
        problems += [
            f"targets.{name}.layers: the name {layer!r} appears twice"
            for layer in sorted({layer for layer in layers if layers.count(layer) > 1})
        ]
        if "build" in layers:
            problems.append(f"targets.{name}.layers: the name 'build' is taken by the build requirements")
        roots = {
            canonicalize_name(Requirement(pin).name)
            for _, member in chain for layer in member.layers for pin in layer.pins
        }  # fmt: skip
        for _, member in chain:
            problems += [
                f"targets.{name}.wheels: {wheel.name} is a URL wheel that no layer pins"
                for wheel in member.wheels
                if canonicalize_name(wheel.name) not in roots
            ]
            problems += [
                f"targets.{name}.exclude: {excluded} is excluded and pinned"
                for excluded in member.exclude
                if canonicalize_name(excluded) in roots
            ]
    return list(dict.fromkeys(problems))


def _chain(name: str, model: _Manifest) -> list[tuple[str, _Target]]:
    """The target and what it extends, the extended ones first."""
    chain: list[tuple[str, _Target]] = []
    current: str | None = name
    while current is not None:
        chain.insert(0, (current, model.targets[current]))
        current = model.targets[current].extends
    return chain


def _flatten(name: str, model: _Manifest, done: dict[str, Target]) -> None:
    """Scalars: the nearest that says something. Lists: the extended target's first. env: merged."""
    chain = _chain(name, model)

    def last(key: str) -> Any:
        return next(value for _, member in reversed(chain) if (value := getattr(member, key)) is not None)

    def joined(key: str) -> tuple[Any, ...]:
        return tuple(dict.fromkeys(item for _, member in chain for item in getattr(member, key)))

    own = model.targets[name]
    base: _Base = last("base")
    devices = next((m.devices for _, m in reversed(chain) if m.devices is not None), _Devices())
    env: dict[str, str] = {}
    for _, member in chain:
        env |= member.env
    done[name] = Target(
        name=name,
        extends=own.extends,
        summary_en=own.summary.en,
        summary_zh=own.summary.zh,
        platform=last("platform"),
        python=last("python"),
        glibc=last("glibc"),
        base=Base(image=base.image, tag=base.tag, digest=base.digest),
        system_packages=joined("system_packages"),
        layers=tuple(
            Layer(name=layer.name, pins=tuple(layer.pins), owner=member_name)
            for member_name, member in chain
            for layer in member.layers
        ),
        overrides=joined("overrides"),
        exclude=joined("exclude"),
        wheels=tuple(
            UrlWheel(
                name=wheel.name,
                version=wheel.version,
                url=wheel.url,
                sha256=wheel.sha256,
                requires=tuple(wheel.requires),
            )
            for _, member in chain
            for wheel in member.wheels
        ),
        build_requires=joined("build_requires"),
        build_owner=next((owner for owner, member in reversed(chain) if member.build_requires), ""),
        env=tuple(sorted(env.items())),
        devices=Devices(
            kind=devices.kind,
            paths=tuple(devices.paths),
            device_groups=tuple(devices.device_groups),
            shm_size=devices.shm_size,
        ),
        checks=joined("checks"),
    )
