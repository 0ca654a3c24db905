"""What Podman wants said otherwise than Docker, through the same protocol and for the same container.

Without root, Podman's containers live in a user namespace: ``keep-id`` lets the caller be himself in it, so
that the results are his; ``keep-groups`` keeps the groups that open render nodes; no number names them there.
Sources: podman-run(1), and pkg/api/handlers/compat/containers_create.go of Podman 4.3 to 5.8.
"""

import queue
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from launcher.errors import DeviceRuntimeError, EngineError
from launcher.image.client import is_podman
from launcher.image.engine import runs_rootless

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

    from launcher.engines.container import ContainerRequest

#: The first Podman that hears of CDI devices over Docker's protocol (its release notes, 5.4.0).
_CDI = (5, 4)

#: Podman's own default, 2048 (containers.conf), is too little for many ranks and loaders; Docker has none.
_NO_LIMIT = -1

#: What a container ends with whose process was killed: 128 and SIGKILL.
_KILLED = 137

#: Seconds after a container's end in which its output ends, too.
_PATIENCE = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Podman:
    """A Podman that has answered.

    Attributes:
        version: e.g. ``4.3.1``; empty: it has not answered, and this is what would be asked of it.
        rootless: it runs without root.
        selinux: containers are confined by SELinux.
        limits: it can limit a container's memory.
    """

    version: str = ""
    rootless: bool
    selinux: bool = False
    limits: bool = True


def found(connection: "DockerClient") -> Podman | None:
    """Which Podman is behind a client that has answered; None: it is Docker."""
    version = connection.version()
    if not is_podman(version):
        return None
    info = connection.info()
    options = [str(each) for each in info.get("SecurityOptions") or ()]
    rootless = runs_rootless(info)
    # Without root and with cgroups v1 it leaves out limits, and tells only its own log.
    blind = rootless and str(info.get("CgroupVersion", "2")) == "1"
    return Podman(
        version=str(version.get("Version", "")),
        rootless=rootless,
        selinux=any("selinux" in each for each in options),
        limits=bool(info.get("MemoryLimit", True)) and not blind,
    )


def adapted(request: "ContainerRequest", podman: Podman) -> "ContainerRequest":
    """The request in Podman's words; one that is in them already stays as it is."""
    # SELinux would deny the caller's own files; relabelling them, the other way out, would change them.
    security = ("no-new-privileges", *(("label=disable",) if podman.selinux else ()))
    changed = replace(
        request,
        program="podman",
        log_driver="",  # its own keeps everything, unless somebody has told it otherwise
        pids=_NO_LIMIT,
        security=security,
        gpus="",
        devices=(*request.devices, *_cdi(request.gpus)),
    )
    if not podman.rootless:
        return changed
    return replace(
        changed,
        userns="keep-id",
        groups=("keep-groups",) if request.groups else (),
        # Of a user's own: slirp4netns or pasta, whichever this Podman has. A bridge needs more than that.
        network="private" if request.network == "bridge" else request.network,
    )


def _cdi(gpus: str) -> tuple[str, ...]:
    """The names that nvidia-ctk's specification gives the GPUs."""
    return tuple(f"nvidia.com/gpu={gpu}" for gpu in gpus.split(",") if gpu)


def refuse(podman: Podman, *, memory: str, nvidia: str, given: bool) -> None:
    """Raise what this Podman would do only in part, or not at all.

    Args:
        podman: that has answered.
        memory: the limit that is wanted; empty: none.
        nvidia: the GPUs that are wanted; empty: none.
        given: a CDI specification of NVIDIA's is on this machine.

    Raises:
        EngineError: it cannot limit memory.
        DeviceRuntimeError: it cannot give NVIDIA's GPUs.
    """
    if memory and not podman.limits:
        raise EngineError(
            "this Podman cannot limit a container's memory",
            why="without root that takes cgroups v2 with the memory controller delegated to the user",
            hint="leave out --memory, use root's Podman, or start the machine with cgroups v2",
        )
    if not nvidia:
        return
    numbers = tuple(int(part) if part.isdigit() else 0 for part in podman.version.split(".")[:2])
    if numbers < _CDI:
        raise DeviceRuntimeError(
            f"Podman {podman.version} gives no NVIDIA GPUs over its socket",
            why="CDI devices are heard of there from 5.4 on",
            hint="install Podman 5.4 or newer; or start the line that --dry-run prints; or use --engine venv",
        )
    if not given:
        raise DeviceRuntimeError(
            "Podman has nothing to give NVIDIA GPUs with",
            why="there is no CDI specification of NVIDIA's in /etc/cdi or /var/run/cdi",
            hint="install nvidia-container-toolkit; "
            "sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml",
        )


def ran_out(container: "Container", code: int) -> bool:
    """Whether the kernel probably ended a container because its memory ran out, where Podman says nothing.

    With cgroups v1, Podman's conmon 2.1.6 misses it: where there is a limit, a SIGKILL says the same.

    Args:
        container: as it is after its end.
        code: the exit code that it ended with.
    """
    return bool(container.attrs.get("HostConfig", {}).get("Memory")) and code == _KILLED


def followed(container: "Container") -> Iterator[bytes]:
    """A container's output until its end.

    Podman 4.3 goes on following a container that ended while it began to, or does not even answer: so its end
    is waited for as well, and what is left is read without following. The thread that waits for an answer
    keeps nobody.
    """
    said: queue.Queue[bytes | BaseException | None] = queue.Queue()
    ended = threading.Event()

    def read() -> None:
        try:
            for block in container.logs(stream=True, follow=True):
                said.put(block)
            said.put(None)
        except BaseException as error:  # noqa: BLE001 - raised again where it is read
            said.put(error)

    def watch() -> None:
        with suppress(Exception):  # whoever reads hears of it
            container.wait()
        ended.set()

    for work in (read, watch):
        threading.Thread(target=work, daemon=True).start()
    seen = 0
    while True:
        over = ended.is_set()
        try:
            block = said.get(timeout=_PATIENCE)
        except queue.Empty:
            if not over:
                continue
            break
        if isinstance(block, BaseException):
            raise block
        if block is None:
            return
        seen += len(block)
        yield block
    for block in container.logs(stream=True, follow=False):
        rest, seen = block[seen:], max(0, seen - len(block))
        if rest:
            yield rest


def create(connection: "DockerClient", arguments: Mapping[str, Any], userns: str) -> "Container":
    """``containers.create`` with a user namespace: the SDK itself lets none pass but Docker's ``host``."""
    given = dict(arguments)
    names = ("image", "command", "name", "environment", "user", "working_dir", "labels")
    own = {name: given.pop(name) for name in names}
    own |= {name: given.pop(name) for name in ("stdin_open", "tty") if name in given}
    host = connection.api.create_host_config(**given)
    host["UsernsMode"] = userns
    made = connection.api.create_container(**own, host_config=host)
    return connection.containers.get(made["Id"])
