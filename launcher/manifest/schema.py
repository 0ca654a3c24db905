"""What people may write in a manifest: validated as a whole, every problem with its key, then flattened."""

from typing import Annotated, Any, Literal, Self

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from launcher.errors import ManifestError
from launcher.manifest.target import DRIVERS, Base, Devices, Driver, Layer, Manifest, Target, UrlWheel
from launcher.validation import of_toml


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


class _Driver(_Strict):
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]+$")
    version: str
    url: str = Field(pattern=r"^https://.+\.deb$")
    sha256: Sha256
    licence: str = Field(min_length=1)
    evidence: str = Field(min_length=1)


Architecture = Annotated[str, Field(pattern=r"^(sm|compute)_[0-9]{2,3}[af]?$")]
Capability = Annotated[str, Field(pattern=r"^[1-9][0-9]?\.[0-9]$")]


class _Devices(_Strict):
    kind: Literal["none", "nvidia", "intel"] = "none"
    paths: list[str] = []
    device_groups: list[str] = []
    shm_size: str = Field(default="2g", pattern=r"^\d+[kmg]$")
    cuda: str = Field(default="", pattern=r"^([0-9]+\.[0-9]+)?$")
    architectures: list[Architecture] = []
    minimum: dict[Name, Capability] = {}

    @model_validator(mode="after")
    def _cuda_is_of_nvidia(self) -> Self:
        if (self.cuda or self.architectures or self.minimum) and self.kind != "nvidia":
            raise ValueError(
                f"cuda, architectures and minimum are of nvidia's devices, not of the kind {self.kind}"
            )
        return self


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
    optional: list[str] = []
    wheels: list[_Wheel] = []
    drivers: list[_Driver] = []
    build_requires: list[RequirementText] = []
    env: dict[str, str] = {}
    devices: _Devices | None = None
    checks: list[Name] = []
    max_size: str | None = Field(default=None, pattern=r"^\d+(\.\d+)?GB$")


class _Manifest(_Strict):
    schema_version: Literal[1] = Field(alias="schema")
    targets: dict[Name, _Target] = Field(min_length=1)


def parse(text: str, *, source: str = "images/manifest.toml") -> Manifest:
    """Parse the manifest's text; see :func:`load`."""
    model = of_toml(_Manifest, text, source=source)
    problems = _reference_problems(model) or _completeness_problems(model)
    if problems:
        raise ManifestError(f"{source} is not valid", problems)
    flat: dict[str, Target] = {}
    for name in model.targets:
        _flatten(name, model, flat)
    return Manifest(targets=tuple(flat[name] for name in model.targets))


def _bytes(size: str) -> int:
    return round(float(size.removesuffix("GB")) * 1e9)


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
        problems += [
            f"targets.{name}.layers: the name {taken!r} is taken by {what}"
            for taken, what in (("build", "the build requirements"), (DRIVERS, "the user-mode drivers"))
            if taken in layers
        ]
        roots = {
            canonicalize_name(Requirement(pin).name)
            for _, member in chain for layer in member.layers for pin in layer.pins
        }  # fmt: skip
        drivers = [driver for _, member in chain for driver in member.drivers]
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
            problems += [
                f"targets.{name}.optional: {optional} is optional, and no layer pins it"
                for optional in member.optional
                if canonicalize_name(optional) not in roots and not (optional == DRIVERS and drivers)
            ]
            problems += [
                f"targets.{name}.devices.minimum: {package} has a minimum, and no layer pins it"
                for package in (member.devices.minimum if member.devices else ())
                if package not in roots
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
        optional=tuple(canonicalize_name(name) for name in joined("optional")),
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
        drivers=tuple(
            Driver(**driver.model_dump(exclude={"evidence"}))
            for _, member in chain
            for driver in member.drivers
        ),
        drivers_owner=next((owner for owner, member in reversed(chain) if member.drivers), ""),
        build_requires=joined("build_requires"),
        build_owner=next((owner for owner, member in reversed(chain) if member.build_requires), ""),
        env=tuple(sorted(env.items())),
        devices=Devices(
            kind=devices.kind,
            paths=tuple(devices.paths),
            device_groups=tuple(devices.device_groups),
            shm_size=devices.shm_size,
            cuda=devices.cuda,
            architectures=tuple(devices.architectures),
            minimum=tuple(sorted(devices.minimum.items())),
        ),
        checks=joined("checks"),
        max_size=next((_bytes(m.max_size) for _, m in reversed(chain) if m.max_size is not None), None),
    )
