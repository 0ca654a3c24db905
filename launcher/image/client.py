"""The connection to the container engine that the user's own ``docker`` command would use, or to Podman.

Docker's order, first wins, as in the Docker CLI: DOCKER_HOST, DOCKER_CONTEXT, the current context, the
default socket. The SDK by itself knows only the first and the last. Podman's order: CONTAINER_HOST, as for
its own remote client, the user's socket, the system's. It speaks Docker's protocol: all may be its.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher import settings
from launcher.errors import EngineError

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

_START = "start it (systemctl start docker, or Docker Desktop), or run without a container: --engine venv"

_START_PODMAN = (
    "systemctl --user start podman.socket (for root's: sudo systemctl start podman.socket; without systemd: "
    "podman system service --time 0), or run without a container: --engine venv"
)


def connect(engine: str | None = None, *, timeout: float = 60) -> "DockerClient":
    """A client of an engine that has answered.

    Args:
        engine: ``docker``, ``podman``, or None: by the user's settings; where those leave it open, Docker,
            or else Podman.
        timeout: seconds that one request may take.

    Raises:
        EngineError: no engine answers, it may not be used, or the named context does not exist.
    """
    wanted = engine or settings.load().engine.value
    if wanted == "podman":
        return _podman(timeout)
    try:
        return _docker(timeout)
    except EngineError:
        if wanted == "docker" or not podman_address(os.environ):
            raise
        return _podman(timeout)


def is_podman(version: Mapping[str, Any]) -> bool:
    """Whether an engine is Podman, by what it says of its version; Docker's has a component called Engine."""
    return any(part.get("Name") == "Podman Engine" for part in version.get("Components") or ())


def podman_address(environment: Mapping[str, str]) -> str:
    """Where Podman would listen: the first of its sockets that is there; empty: none is."""
    if environment.get("CONTAINER_HOST"):
        return environment["CONTAINER_HOST"]
    runtime = environment.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    for folder in (runtime, "/run"):
        socket = Path(folder) / "podman" / "podman.sock"
        try:
            if socket.is_socket():
                return f"unix://{socket}"
        except PermissionError:  # the system's, whose folder is root's alone
            continue
    return ""


def _podman(timeout: float) -> "DockerClient":
    """A client of Podman.

    Raises:
        EngineError: it does not answer.
    """
    import docker
    from docker.errors import DockerException

    address = podman_address(os.environ)
    if not address:
        raise EngineError(
            "Podman does not answer", why="there is no podman.sock of this user's", hint=_START_PODMAN
        )
    try:
        return docker.DockerClient(
            base_url=address, version="auto", timeout=int(timeout), use_ssh_client=True
        )
    except DockerException as error:
        raise EngineError(f"Podman does not answer ({address})", why=str(error), hint=_START_PODMAN) from None


def _docker(timeout: float) -> "DockerClient":
    """A client of what the docker command would use.

    Raises:
        EngineError: it does not answer, or may not be used.
    """
    import docker
    from docker.errors import DockerException

    try:
        if os.environ.get("DOCKER_HOST"):
            return docker.from_env(version="auto", timeout=int(timeout), use_ssh_client=True)
        return docker.DockerClient(
            version="auto", timeout=int(timeout), use_ssh_client=True, **_context_arguments()
        )
    except DockerException as error:
        raise unreachable(str(error)) from None


@contextmanager
def unstarted(client: "DockerClient", reference: str) -> Iterator["Container"]:
    """A container of an image that is never started: its files can be read. It is removed afterwards."""
    container = client.containers.create(reference, command=["true"], network_mode="none")
    try:
        yield container
    finally:
        container.remove(force=True)


def context_name() -> str:
    """The Docker context in use; it is also the name of its buildx builder.

    With DOCKER_HOST set that is ``default``, whatever the configuration says.
    """
    if os.environ.get("DOCKER_HOST"):
        return "default"
    if os.environ.get("DOCKER_CONTEXT"):
        return os.environ["DOCKER_CONTEXT"]
    from docker.context.config import get_current_context_name

    return str(get_current_context_name())


def unreachable(reason: str) -> EngineError:
    """The error for an engine that does not answer, by what the attempt said."""
    where = os.environ.get("DOCKER_HOST") or f"context {context_name()}"
    message = f"no container engine answers ({where})"
    if "Permission denied" in reason or "PermissionError" in reason:
        return EngineError(
            f"the container engine may not be used by this user ({where})",
            why="the socket belongs to another group",
            hint="join it (sudo usermod -aG docker $USER, then log in again), or use --engine venv",
        )
    if "No such file" in reason or "FileNotFoundError" in reason:
        return EngineError(
            message, why="its socket does not exist: not installed, or not running", hint=_START
        )
    if "refused" in reason:
        return EngineError(message, why="the connection was refused: it is not running", hint=_START)
    return EngineError(message, why=reason, hint="see what `docker version` says")


def _context_arguments() -> dict[str, Any]:
    """Where the current context points to; nothing for the default one."""
    name = context_name()
    if name == "default":
        return {}
    from docker.context import ContextAPI

    context = ContextAPI.get_context(name)
    if context is None:
        raise EngineError(
            f"there is no Docker context {name!r}",
            why="DOCKER_CONTEXT or the Docker configuration names it",
            hint="docker context ls, then docker context use NAME",
        )
    arguments: dict[str, Any] = {"base_url": context.Host}
    if context.TLSConfig is not None:
        arguments["tls"] = context.TLSConfig
    return arguments
