"""What a container engine is and has, asked of itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher import dockerfile, process
from launcher.diagnosis.facts import Disk, EngineFacts, ImageFacts
from launcher.errors import BuildError, LaunchError, ProgramError
from launcher.host import memory
from launcher.image import buildah, inspect, refusals
from launcher.image.client import is_podman
from launcher.image.inputs import Inputs

if TYPE_CHECKING:
    from docker import DockerClient

#: Where containerd keeps images when it is the system's own; Docker's is below its own folder.
_CONTAINERD = Path("/var/lib/containerd")

#: Of a builder that may be there.
SILENT = "docker buildx did not answer in time"

#: How the SDK writes the address of a Unix socket, whichever it is; see docker/api/client.py.
_LOCAL = "http+docker://localhost"


def facts(client: "DockerClient", *, patience: float) -> EngineFacts:
    """The engine behind a client that has answered.

    Args:
        client: of it.
        patience: seconds that buildx has to say its version.
    """
    info = client.info()
    version = client.version()
    podman = is_podman(version)
    builder = missing = ""  # both: it did not answer in time
    try:
        builder = buildah.version(version) if podman else buildx(patience=patience)
    except LaunchError as error:
        missing = "" if SILENT in error.message else error.message
    local = client.api.base_url == _LOCAL
    return EngineFacts(
        version=str(info.get("ServerVersion", "")) or "unknown",
        podman=podman,
        driver=str(info.get("Driver", "")) or "unknown",
        containerd=keeps_in_containerd(info),
        rootless=runs_rootless(info),
        gives_gpus=refusals.gives_cdi(info) if podman else refusals.gives_gpus(info),
        disks=disks(info) if local else (),
        builder=builder,
        missing=missing,
    )


def runs_rootless(info: Mapping[str, Any]) -> bool:
    """Whether the engine runs without root; Podman 4 says so in a key of its own."""
    return bool(info.get("Rootless")) or any(
        "rootless" in str(each) for each in info.get("SecurityOptions") or ()
    )


def keeps_in_containerd(info: Mapping[str, Any]) -> bool:
    """Whether containerd keeps the images, by what ``docker info`` shows."""
    return any("io.containerd.snapshotter" in str(value) for _, value in info.get("DriverStatus") or [])


def disks(info: Mapping[str, Any]) -> tuple[Disk, ...]:
    """Where a local engine's images live, as far as this user sees it."""
    root = Path(str(info.get("DockerRootDir") or "/nonexistent"))
    folders = [root, _CONTAINERD] if keeps_in_containerd(info) else [root]
    found = []
    for folder in folders:
        try:
            if folder.is_dir():
                found.append(memory.disk(folder))
        except OSError:  # another user's, below a folder that is closed
            continue
    return tuple(found)


def buildx(*, patience: float) -> str:
    """What ``docker buildx version`` says, its address left out.

    Raises:
        BuildError: it is missing; says what to install.
    """
    try:
        said = process.run(["docker", "buildx", "version"], timeout=patience).stdout
    except ProgramError as error:
        if error.returncode == process.TIMED_OUT:
            raise BuildError(
                SILENT, why=error.message, hint="see what `docker buildx version` says"
            ) from None
        missing = "the docker command" if error.returncode == 127 else "docker buildx"
        raise BuildError(
            f"{missing} is missing",
            why=error.why,
            hint="install the packages docker-ce-cli and docker-buildx-plugin (Debian's own: docker-cli and "
            "docker-buildx), or run without a container: --engine venv",
        ) from None
    version = next((word for word in said.split() if word[:1] == "v" or word[:1].isdigit()), said.strip())
    return f"buildx {version}"


def image(client: "DockerClient", inside: Inputs) -> ImageFacts:
    """The target's image: from this lock, from another one, or none.

    Raises:
        EngineError: the engine refused.
    """
    found = inspect.find_for(client, inside)
    if found is None:
        last = inspect.find(client, dockerfile.alias(inside.target.name))
        return ImageFacts(reference=inside.reference, built=False, other=last is not None)
    return ImageFacts(reference=found.reference, built=True, size=found.size, left_out=found.left_out)
