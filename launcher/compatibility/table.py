"""What the rest of the launcher reads of images/compatibility.toml: frozen rows, each with its source."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Drivers:
    """Driver versions that matter to one CUDA toolkit.

    Attributes:
        own: the one that the toolkit came with; it compiles the toolkit's PTX.
        oldest: the oldest that runs the toolkit's programs, by minor-version compatibility.
    """

    own: str
    oldest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolkit:
    """One CUDA version, e.g. ``12.8``, and its drivers; Windows, and so WSL, counts them differently."""

    version: str
    linux: Drivers
    windows: Drivers
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernels:
    """The lowest compute capability, e.g. ``8.0``, that a package of some versions has kernels for."""

    package: str
    versions: str
    least: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Intel's cards that one driver came with.

    Attributes:
        ids: beginnings of the PCI device ids.
        driver: the kernel's only driver for them; empty: there are several.
        since: the first kernel that has it switched on for them; None: not known.
        names: what people call single cards, by device id.
    """

    name: str
    ids: tuple[str, ...]
    driver: str = ""
    since: tuple[int, int] | None = None
    names: tuple[tuple[str, str], ...] = ()
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """What a package of some versions needs of another one, where both are installed.

    Attributes:
        versions: a specifier, e.g. ``>=0.19``.
        needs: a requirement, e.g. ``torchao>=0.16``.
    """

    package: str
    versions: str
    needs: str
    why: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Compatibility:
    """All rows, in the order of the file."""

    toolkits: tuple[Toolkit, ...] = field(default=())
    kernels: tuple[Kernels, ...] = field(default=())
    families: tuple[Family, ...] = field(default=())
    pairs: tuple[Pair, ...] = field(default=())

    def toolkit(self, version: str) -> Toolkit | None:
        """The row of a CUDA version; None: which drivers it needs is not recorded."""
        return next((each for each in self.toolkits if each.version == version), None)

    def family(self, device: str) -> Family | None:
        """The family of a PCI device id such as ``e211``; None: no discrete card that a target is for."""
        return next((each for each in self.families if device.startswith(each.ids)), None)

    def rows(self) -> list[tuple[str, str, str]]:
        """All of it for people: what, what it needs, and who says so."""
        return [
            *(
                (
                    f"CUDA {each.version}",
                    f"driver {each.linux.oldest}; its own: {each.linux.own}",
                    each.source,
                )
                for each in self.toolkits
            ),
            *(
                (f"{each.package} {each.versions}", f"compute capability {each.least}", each.source)
                for each in self.kernels
            ),
            *(
                (
                    each.name,
                    f"Linux {'.'.join(map(str, each.since))}, driver {each.driver or 'any'}",
                    each.source,
                )
                for each in self.families
                if each.since
            ),
            *(
                (f"{each.package} {each.versions}", f"{each.needs}: {each.why}", each.source)
                for each in self.pairs
            ),
        ]

    def least(self, versions: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        """Packages with the compute capability that each asks for, as pairs.

        Args:
            versions: what is installed, by canonical name.
        """
        return tuple(
            (each.package, each.least)
            for each in self.kernels
            if each.package in versions and _within(versions[each.package], each.versions)
        )

    def contradictions(self, versions: Mapping[str, str]) -> tuple[str, ...]:
        """What does not go together in an environment, one line each.

        Args:
            versions: what is installed, by canonical name.
        """
        from packaging.requirements import Requirement
        from packaging.utils import canonicalize_name

        found = []
        for pair in self.pairs:
            needed = Requirement(pair.needs)
            other = canonicalize_name(needed.name)
            if not {pair.package, other} <= versions.keys():
                continue
            if not _within(versions[pair.package], pair.versions):
                continue
            if not _within(versions[other], str(needed.specifier)):
                have = f"{pair.package} {versions[pair.package]}"
                found.append(f"{have} needs {pair.needs}, not {versions[other]}: {pair.why}")
        return tuple(found)


def _within(version: str, specifier: str) -> bool:
    # Imported here: `launch run` asks for drivers and cards, which need none of it.
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(specifier).contains(version, prereleases=True)
