"""The commands that make an image into what a site's runtime starts: Apptainer's SIF, enroot's squashfs.

Read in Apptainer's user guide and sources (1.1 to 1.5) and in enroot's (3.5 to 4.1); run with Apptainer 1.4.5
and with enroot 3.5.0 and 4.1.2:

* Apptainer before 1.4 unpacks layers by umoci 0.4, which knows no zstd; those of a ``docker-archive:`` it
  packs anew before, so a file works with all versions.
* enroot before 4.0 knows no ``@sha256:…``; all versions take a digest as a tag, whose pattern has a colon.
  Those before 4.0 unpack every layer by ENROOT_GZIP_PROGRAM; zstd leaves alone what is not packed.
* enroot reads no archive: a file goes through Podman's storage, which needs no daemon and no root.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import UsageError
from launcher.image import saved
from launcher.image.registry import RemoteImage
from launcher.image.saved import FileImage

#: Runtime -> how the names of its files end.
RUNTIMES = {"apptainer": ".sif", "singularity": ".sif", "enroot": ".sqsh"}

_ZSTD = "+zstd"

#: enroot first asks without saying what it takes, and a registry of the distribution project hides OCI's
#: manifests from who does not. One with token logins asks for the token before it looks.
_HIDDEN = (
    "if enroot is answered 404 by a registry without token logins, let curl say what is taken: add the line  "
    'header = "Accept: application/vnd.oci.image.manifest.v1+json"  to ~/.curlrc'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One program and its arguments; ``env`` is added to the caller's."""

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()

    @property
    def printed(self) -> str:
        """As a line for a shell."""
        settings = ["env", *(f"{name}={value}" for name, value in self.env)] if self.env else []
        return shlex.join([*settings, *self.argv])


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """What makes one file of an image.

    Attributes:
        before: what has to be run first.
        command: what writes the file.
        notes: what a reader should know, one line each.
    """

    command: Command
    before: tuple[Command, ...] = ()
    notes: tuple[str, ...] = ()


def name(runtime: str, labels: Mapping[str, str]) -> str:
    """The file's name where none was given, e.g. ``finetune-cpu-0123456789ab.sif``."""
    build = labels.get("launch.build-digest", "").removeprefix("sha256:")[:12]
    return (
        "-".join(part for part in ("finetune", labels.get("launch.target", ""), build) if part)
        + RUNTIMES[runtime]
    )


def from_file(runtime: str, image: FileImage, output: Path) -> Conversion:
    """From what ``launch image save`` wrote.

    Raises:
        UsageError: the runtime cannot take it.
    """
    if runtime == "enroot":
        if not image.tags:
            raise UsageError(
                f"{image.path} has no name that enroot could ask Podman for",
                hint="push the image, and convert the reference; or save it under a name",
            )
        return Conversion(
            before=(Command(argv=("podman", "load", "--input", str(image.path))),),
            command=_enroot(f"podman://{image.tags[0]}", output),
            notes=("enroot reads no archive: Podman loads it first, and keeps it until `podman rmi`",),
        )
    if ":" in str(image.path):
        raise UsageError(
            f"{image.path} cannot be named to {runtime}",
            why="a colon ends a path there",
            hint="give the file, or its folder, another name",
        )
    layout = saved.DOCKER if saved.DOCKER in image.layouts else saved.OCI
    return Conversion(command=Command(argv=(runtime, "build", str(output), f"{layout}:{image.path}")))


def from_registry(runtime: str, image: RemoteImage, output: Path, *, user: str = "") -> Conversion:
    """From a registry, always by digest.

    Args:
        runtime: of :data:`RUNTIMES`.
        image: as the registry has it.
        output: the file to write.
        user: whom enroot looks up in its file of credentials; Apptainer reads Docker's.
    """
    packed = any(_ZSTD in each for each in image.media_types)
    reference = image.reference
    if runtime == "enroot":
        settings = {"ENROOT_GZIP_PROGRAM": "zstd"} if packed else {}
        settings |= {"ENROOT_ALLOW_HTTP": "yes"} if image.plain_http else {}
        place = f"{user}@{reference.address}" if user else reference.address
        uri = f"docker://{place}#{reference.repository}:{reference.digest}"
        hidden = any("vnd.oci." in each for each in image.media_types)
        return Conversion(command=_enroot(uri, output, settings), notes=(_HIDDEN,) if hidden else ())
    plain = ("--no-https",) if image.plain_http else ()
    return Conversion(
        command=Command(argv=(runtime, "build", *plain, str(output), f"docker://{reference}")),
        notes=(
            ("Apptainer before 1.4 cannot unpack layers of zstd from a registry: convert a file instead",)
            if packed
            else ()
        ),
    )


def from_engine(runtime: str, reference: str, output: Path, *, podman: bool) -> Conversion:
    """From the engine of this machine.

    Raises:
        UsageError: the runtime does not read Podman's storage.
    """
    if runtime == "enroot":
        return Conversion(command=_enroot(f"{'podman' if podman else 'dockerd'}://{reference}", output))
    if podman:
        raise UsageError(
            f"{runtime} does not read what Podman has",
            hint=f"launch image save TARGET FILE, then: launch image convert FILE --to {runtime}",
        )
    return Conversion(command=Command(argv=(runtime, "build", str(output), f"docker-daemon:{reference}")))


def _enroot(uri: str, output: Path, settings: Mapping[str, str] | None = None) -> Command:
    return Command(
        argv=("enroot", "import", "--output", str(output), uri), env=tuple(sorted((settings or {}).items()))
    )
