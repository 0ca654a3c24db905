"""What people may write in a compatibility table: validated as a whole, every problem with its key."""

from typing import Annotated, Literal

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from launcher.compatibility.table import Compatibility, Drivers, Family, Kernels, Pair, Toolkit
from launcher.validation import of_toml


def _specifier(text: str) -> str:
    try:
        SpecifierSet(text)
    except InvalidSpecifier as error:
        raise ValueError(str(error)) from None
    return text


def _requirement(text: str) -> str:
    try:
        parsed = Requirement(text)
    except InvalidRequirement as error:
        raise ValueError(f"{text!r} is not a requirement: {error}") from None
    if not parsed.specifier:
        raise ValueError(f"{text!r} says nothing about versions")
    return text


def _canonical(text: str) -> str:
    if text != canonicalize_name(text):
        raise ValueError(f"the canonical name is {canonicalize_name(text)}")
    return text


Text = Annotated[str, Field(min_length=1)]
Package = Annotated[str, Field(min_length=1), AfterValidator(_canonical)]
Specifier = Annotated[str, Field(min_length=1), AfterValidator(_specifier)]
Driver = Annotated[str, Field(pattern=r"^[0-9]{3}(\.[0-9]{1,3}){1,2}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class _Drivers(_Strict):
    own: Driver
    oldest: Driver


class _Toolkit(_Strict):
    version: str = Field(pattern=r"^[0-9]+\.[0-9]+$")
    linux: _Drivers
    windows: _Drivers
    source: Text


class _Kernels(_Strict):
    package: Package
    versions: Specifier
    least: str = Field(pattern=r"^[1-9][0-9]?\.[0-9]$")
    source: Text


class _Family(_Strict):
    name: Text
    ids: list[Annotated[str, Field(pattern=r"^[0-9a-f]{2,4}$")]] = Field(min_length=1)
    driver: Literal["", "xe", "i915"] = ""
    since: str | None = Field(default=None, pattern=r"^[0-9]+\.[0-9]+$")
    names: dict[Annotated[str, Field(pattern=r"^[0-9a-f]{4}$")], Text] = {}
    source: Text


class _Pair(_Strict):
    package: Package
    versions: Specifier
    needs: Annotated[str, AfterValidator(_requirement)]
    why: Text
    source: Text


class _Compatibility(_Strict):
    schema_version: Literal[1] = Field(alias="schema")
    cuda: list[_Toolkit] = []
    kernels: list[_Kernels] = []
    intel: list[_Family] = []
    packages: list[_Pair] = []


def parse(text: str, *, source: str) -> Compatibility:
    """Parse the table's text; see :func:`launcher.compatibility.load`."""
    model = of_toml(_Compatibility, text, source=source)
    return Compatibility(
        toolkits=tuple(
            Toolkit(
                version=each.version,
                linux=Drivers(own=each.linux.own, oldest=each.linux.oldest),
                windows=Drivers(own=each.windows.own, oldest=each.windows.oldest),
                source=each.source,
            )
            for each in model.cuda
        ),
        kernels=tuple(Kernels(**each.model_dump()) for each in model.kernels),
        families=tuple(_family(each) for each in model.intel),
        pairs=tuple(Pair(**each.model_dump()) for each in model.packages),
    )


def _family(each: _Family) -> Family:
    since = None
    if each.since is not None:
        major, minor = each.since.split(".")
        since = (int(major), int(minor))
    return Family(
        name=each.name,
        ids=tuple(each.ids),
        driver=each.driver,
        since=since,
        names=tuple(sorted(each.names.items())),
        source=each.source,
    )
