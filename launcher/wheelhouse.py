"""wheelhouse.json: what a folder carries to machines without network, as pure data.

``<DIR>/<target>/`` has one folder of files per lock layer (and ``build``), as an image build mounts them;
``system/`` with the base's packages where those were asked for; and this description of both. The wheels are
compared with the locks of a checkout, wherever the folder comes from; nothing but this description vouches
for the system packages, which are not locked.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from launcher import debian
from launcher.errors import FetchError
from launcher.lock import TargetLock
from launcher.manifest import Target

#: The description's name in a target's folder.
FILE = "wheelhouse.json"

#: The folder of the system packages beside the layers'.
SYSTEM = "system"

#: Where the Dockerfile mounts that folder.
MOUNT = f"/mnt/{SYSTEM}"

#: apt's own index of the folder, and the sources.list that makes the folder its only source. ``trusted``:
#: the index is not signed; the base's own sources were, when the files came.
INDEX = "Packages"
SOURCES = "sources.list"
SOURCES_TEXT = f"deb [trusted=yes] file:{MOUNT} ./\n"

_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Size = Annotated[int, Field(ge=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True, populate_by_name=True)


class File(_Strict):
    """One file of a wheelhouse.

    Attributes:
        path: below the target's folder, e.g. ``torch/torch-2.8.0-….whl``.
        bytes: its size.
        sha256: of its content, in hex.
    """

    path: str = Field(pattern=r"^[a-z][a-z0-9-]*/[A-Za-z0-9][^/\x00-\x1f]*$")
    bytes: _Size
    sha256: _Sha256


class SystemPackage(File):
    """One package of the base's distribution."""

    name: str
    version: str
    architecture: str


class System(_Strict):
    """What the system packages' step of a build installs.

    Attributes:
        base: reference of the image that the packages were resolved against.
        chain_id: the OCI chain ID of that image's layers, ``sha256:…``: the same on every engine.
        requested: the target's system packages; ``packages`` is what these need on that base.
        packages: what the folder holds.
        lists: apt's index of them, and the sources.list that names the folder.
    """

    base: str
    chain_id: str
    requested: tuple[str, ...]
    packages: tuple[SystemPackage, ...]
    lists: tuple[File, ...]

    @property
    def files(self) -> tuple[File, ...]:
        """Everything in the folder."""
        return (*self.packages, *self.lists)


class Wheelhouse(_Strict):
    """One target's files.

    Attributes:
        schema_version: of this description.
        target: its name.
        lock_digest: of the lock that the files are of, without what was left out.
        left_out: optional packages that it lacks.
        base: reference of the image to build on, which has to be carried by other means.
        files: of the lock.
        system: of the base's distribution; None when they were not asked for.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    target: str
    lock_digest: _Sha256
    left_out: tuple[str, ...]
    base: str
    files: tuple[File, ...]
    system: System | None = None


def parse(text: str, *, source: str) -> Wheelhouse:
    """Read a description.

    Args:
        text: of the file.
        source: its path, for the error.

    Raises:
        FetchError: it is none, every problem with its key.
    """
    try:
        return Wheelhouse.model_validate_json(text)
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, item['loc'])) or 'the file'}: {item['msg']}" for item in error.errors()
        ]
        raise FetchError(f"{source} does not describe a wheelhouse", problems) from None


def render(wheelhouse: Wheelhouse) -> str:
    """A description's text; :func:`parse` is its inverse."""
    return wheelhouse.model_dump_json(by_alias=True, indent=2) + "\n"


def wanted(lock: TargetLock) -> dict[str, str]:
    """Path -> sha256 of all files that a lock names."""
    return {
        f"{part.layer}/{package.filename}": package.sha256 for part in lock.locks for package in part.packages
    }


def lacking(wheelhouse: Wheelhouse, target: Target) -> tuple[str, ...]:
    """The target's system packages that were not asked for when the others were fetched."""
    requested = wheelhouse.system.requested if wheelhouse.system else ()
    return tuple(name for name in target.system_packages if name not in requested)


def system_packages(index: str) -> tuple[SystemPackage, ...]:
    """The packages of an index of apt (blocks of ``Key: value`` lines).

    Raises:
        FetchError: all blocks that are not whole.
    """
    found: list[SystemPackage] = []
    problems: list[str] = []
    for number, block in enumerate(debian.stanzas(index), start=1):
        try:
            package = SystemPackage(
                path=f"{SYSTEM}/{block['Filename'].removeprefix('./')}",
                bytes=int(block["Size"]),
                sha256=block["SHA256"],
                name=block["Package"],
                version=block["Version"],
                architecture=block["Architecture"],
            )
        except (KeyError, ValueError) as error:
            name = block.get("Package", f"block {number}")
            problems.append(f"{name}: {str(error).splitlines()[0]}")
        else:
            found.append(package)
    if problems:
        raise FetchError("apt's index of the system packages cannot be read", problems)
    return tuple(sorted(found, key=lambda package: package.path))
