"""The connection to the container engine that the user's own ``docker`` command would use.

Order, first wins, as in the Docker CLI: DOCKER_HOST, DOCKER_CONTEXT, the current context, the default socket.
The SDK by itself knows only the first and the last.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from launcher.errors import EngineError

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

_START = "start it (systemctl start docker, or Docker Desktop), or run without a container: --engine venv"


def connect(*, timeout: float = 60) -> "DockerClient":
    """A client of an engine that has answered.

    Args:
        timeout: seconds that one request may take.

    Raises:
        EngineError: no engine answers, it may not be used, or the named context does not exist.
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
