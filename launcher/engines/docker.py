"""Runs in containers, through the Docker SDK: least privilege, named errors, nothing left behind."""

import datetime
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from launcher import plan as plans
from launcher import secretfile
from launcher.engines import podman
from launcher.engines.base import Description, Exit, Phase
from launcher.engines.container import ContainerRequest
from launcher.engines.podman import Podman
from launcher.errors import (
    DeviceError,
    EngineError,
    EngineGoneError,
    ImageMissingError,
    LaunchError,
)
from launcher.image import client, refusals
from launcher.plan import EngineName, Folders, Mount, RunPlan, Start

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

#: Seconds in which a container that was made is started; it takes one, on a busy machine some.
_STARTING = 10.0

#: The links by which oneAPI tells Intel GPUs apart.
_BY_PATH = Path("/dev/dri/by-path")


class DockerHandle:
    """A container of a run; it stays until its end is on the record.

    Args:
        container: of the SDK.
        on_podman: it is Podman that has it.
    """

    def __init__(self, container: "Container", *, on_podman: bool = False) -> None:
        self._container, self._on_podman = container, on_podman

    @property
    def id(self) -> str:
        """The container's id."""
        return str(self._container.id)

    def phase(self) -> Phase:
        """See base.Handle.phase."""
        with _answering("it may still run"):
            self._container.reload()
        status = str(self._container.attrs["State"]["Status"])
        if status == "created":  # its start may be on its way, also when whoever asked for it is gone
            made = datetime.datetime.fromisoformat(str(self._container.attrs["Created"])[:19] + "+00:00")
            age = (datetime.datetime.now(datetime.UTC) - made).total_seconds()
            return Phase.RUNNING if age < _STARTING else Phase.UNSTARTED
        return Phase.ENDED if status in ("exited", "dead") else Phase.RUNNING

    def lines(self, log: Path, begins: int, shown: int, *, follow: bool = True) -> Iterator[str]:
        """See base.Handle.lines; the engine keeps the output from its beginning."""
        rest = b""
        # Unbuffered: on a full disk, what is in the file is a beginning of the output.
        # No link is followed: the record is the container's to write, and the file would be anybody's.
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        with os.fdopen(descriptor, "ab", buffering=0) as file:
            known = max(0, file.tell() - begins)
            for block in self._blocks(follow=follow):
                fresh, known = block[known:], max(0, known - len(block))
                written = 0
                while written < len(fresh):
                    written += file.write(fresh[written:])
                *complete, rest = (rest + fresh).split(b"\n")
                for line in complete:
                    yield line.decode(errors="replace")
        if rest:
            yield rest.decode(errors="replace")

    def _blocks(self, *, follow: bool) -> Iterator[bytes]:
        with _answering("it may still run"):
            if follow and self._on_podman:
                yield from podman.followed(self._container)
            else:
                yield from self._container.logs(stream=True, follow=follow)

    def waiting(self) -> str:
        """See base.Handle.waiting: nothing waits here."""
        return ""

    def wait(self) -> Exit:
        """See base.Handle.wait."""
        with _answering("it may still run"):
            code = int(self._container.wait()["StatusCode"])
            self._container.reload()
        state = self._container.attrs["State"]
        killed = bool(state.get("OOMKilled")) or (self._on_podman and podman.ran_out(self._container, code))
        ended = str(state.get("FinishedAt", ""))
        ended = ended[:23].removesuffix("Z")  # of the nanoseconds Python takes three digits
        return Exit(code=code, out_of_memory=killed, ended=f"{ended}+00:00" if ended else "")

    def remove(self) -> None:
        """See base.Handle.remove."""
        from docker.errors import APIError

        with _answering("its container is still there"):
            try:
                self._container.remove(force=True)
            except APIError as error:
                going = error.status_code == 409 and "already in progress" in str(error.explanation)
                if error.status_code != 404 and not going:
                    raise

    def stop(self, grace: float) -> None:
        """See base.Handle.stop."""
        self._in_background(lambda: self._container.stop(timeout=round(grace)))

    def kill(self) -> None:
        """See base.Handle.kill."""
        self._in_background(self._container.kill)

    def _in_background(self, action: Any) -> None:
        """The caller goes on reading the output while the engine waits out the grace period."""
        from docker.errors import APIError

        def act() -> None:
            with suppress(EngineGoneError):  # whoever waits for the end says so
                try:
                    action()
                except APIError as error:
                    if error.status_code not in (404, 409):  # ended meanwhile: that was the aim
                        raise
                except OSError as error:
                    raise _gone(error, "it may still run") from None

        threading.Thread(target=act, daemon=True).start()


@contextmanager
def _answering(meanwhile: str) -> Iterator[None]:
    """Tell an engine that does not answer from one that does not know the container any more.

    Raises:
        EngineGoneError, EngineError.
    """
    from docker.errors import APIError, DockerException, NotFound
    from urllib3.exceptions import HTTPError

    try:
        yield
    except EngineError as error:  # of the connection
        raise _gone(error, meanwhile) from None
    except NotFound:
        raise EngineError(
            "the run was lost: its container is gone",
            why="somebody removed it",
            hint="launch runs resume goes on from the last checkpoint",
        ) from None
    except APIError as error:
        raise EngineError("the engine refused to tell about a container", why=str(error)) from None
    except (DockerException, HTTPError, OSError) as error:  # requests' own errors are OSErrors
        raise _gone(error, meanwhile) from None


def _gone(error: Exception, meanwhile: str) -> EngineGoneError:
    return EngineGoneError(
        f"the engine does not answer any more; {meanwhile}",
        why=str(error),
        hint="when it answers again: launch runs list",
    )


class DockerEngine:
    """Containers on the engine that ``docker`` would use, or on Podman; the first may be Podman, too.

    Args:
        name: which of the two.
        patience: seconds in which it has to answer.
    """

    def __init__(self, name: Literal["docker", "podman"] = "docker", *, patience: float = 60) -> None:
        self.name: EngineName = name
        self._patience = patience
        self._client: DockerClient | None = None
        # Until it has answered: a dry run prints what would be asked of it.
        self._podman = Podman(rootless=os.getuid() != 0) if name == "podman" else None

    def connect(self) -> "DockerClient":
        """The engine's client.

        Raises:
            EngineError: no engine answers.
        """
        if self._client is None:
            self._client = client.connect(self.name, timeout=self._patience)
            self._podman = podman.found(self._client)
            # It has answered; the first container of an image may still have to wait for its unpacking.
            self._client.api.timeout = int(10 * self._patience)
        return self._client

    def check(self, plan: RunPlan) -> None:
        """See base.Engine.check.

        Raises:
            EngineError, ImageMissingError, DeviceError, DeviceRuntimeError.
        """
        from docker.errors import ImageNotFound

        connection = self.connect()
        try:
            image = connection.images.get(plan.image or "")
        except ImageNotFound:
            raise ImageMissingError(
                f"the image {plan.image} is not on this engine",
                why=f"the target {plan.target} has not been built from this lock",
                hint=_build_command(plan),
            ) from None
        if image.labels.get("launch.lock-digest") != f"sha256:{plan.lock_digest}":
            raise ImageMissingError(
                f"the image {plan.image} holds other packages than the plan's",
                why="another one has its name by now",
                hint=_build_command(plan),
            )
        for device in plan.access.devices:
            if not Path(device).exists():
                raise refusals.no_device(device)
        if plans.DRI in plan.access.devices and not _BY_PATH.exists():
            raise DeviceError(
                f"{_BY_PATH} is not on this machine",
                why="udev makes these links, by which oneAPI tells cards apart",
                hint="start udev, or make them: by-path/pci-<address>-render -> ../renderD<number>",
            )
        if self._podman is not None:
            access, given = plan.access, refusals.gives_cdi(connection.info())
            podman.refuse(self._podman, memory=access.memory, nvidia=access.nvidia, given=given)
        elif plan.access.nvidia and not refusals.gives_gpus(connection.info()):
            raise refusals.no_runtime()

    def describe(self, plan: RunPlan) -> Description:
        """See base.Engine.describe."""
        with _answering("nothing is known of the run"):
            found = self.connect().info()
            image = self.connect().images.get(plan.image or "")
        version = str(found["ServerVersion"])
        if self._podman is not None and self.name != "podman":  # behind Docker's address
            version = f"Podman {version}"
        return Description(image_digest=str(image.id), version=version, where=self._where(found))

    def where(self) -> str:
        """See base.Engine.where."""
        with _answering("nothing is known of its runs"):
            return self._where(self.connect().info())

    def _where(self, info: dict[str, Any]) -> str:
        """The machine's name for it, and its id; Podman has another one each time."""
        own = info.get("DockerRootDir", "") if self._podman is not None else info.get("ID", "")
        return f"{info.get('Name', '')}:{own}"

    def render(self, plan: RunPlan, folders: Folders, start: Start) -> ContainerRequest:
        """See base.Engine.render."""
        places = plans.in_container(plan)
        found = plans.mounts(plan, folders)
        if plans.DRI in plan.access.devices:  # --device leaves the links out
            found = (*found, Mount(source=_BY_PATH, target=PurePosixPath(_BY_PATH), read_only=True))
        request = ContainerRequest(
            name=_name(start),
            image=plan.image or "",
            command=plans.command(plan, places),
            environment=plans.environment(plan, places, start),
            secrets=secretfile.in_container(plan, start),
            mounts=found,
            user=f"{plan.uid}:{plan.gid}",
            groups=tuple(str(group) for group in plan.access.groups),
            devices=plan.access.devices,
            gpus=plan.access.nvidia,
            shm_size=plan.access.shm_size,
            memory=plan.access.memory,
            network=plan.access.network,
            labels=(
                ("launch.recipe", plan.recipe),
                ("launch.run", start.run),
                ("launch.target", plan.target),
            ),
        )
        return podman.adapted(request, self._podman) if self._podman else request

    def start(self, submission: ContainerRequest, secrets: Mapping[str, str]) -> DockerHandle:
        """See base.Engine.start.

        Raises:
            DeviceError, DeviceRuntimeError, EngineError: the engine refused; no container is left.
        """
        from docker.errors import APIError, DockerException

        container: Container | None = None
        try:
            with secretfile.handed(submission.secrets, secrets):
                container = self.create(submission)
                container.start()
        except BaseException as error:
            if container is not None:
                container.remove(force=True)
            elif not isinstance(error, APIError):  # no answer, which is no refusal: it may be there, unseen
                self._remove(submission.name)
            if isinstance(error, APIError):
                raise _named(error) from None
            if isinstance(error, (DockerException, OSError)):
                raise EngineError("the engine did not start the container", why=str(error)) from None
            raise
        return self._handle(container)

    def create(self, submission: ContainerRequest, **more: Any) -> "Container":
        """The container of a request, which may have been rendered before it was known who answers.

        Args:
            submission: of :meth:`render`; the file of its secrets is there until it has started.
            more: the SDK's arguments for standard input and a terminal.
        """
        connection = self.connect()
        if self._podman is None:
            return connection.containers.create(**submission.sdk(), **more)
        submission = podman.adapted(submission, self._podman)
        return podman.create(connection, {**submission.sdk(), **more}, submission.userns)

    def find(self, folders: Folders, start: Start) -> DockerHandle | None:
        """See base.Engine.find."""
        from docker.errors import NotFound

        with _answering("it may still run"):
            try:
                return self._handle(self.connect().containers.get(_name(start)))
            except NotFound:
                return None

    def every(self) -> Iterator[tuple[str, DockerHandle]]:
        """All containers of runs, whatever their state, with the runs' ids."""
        with _answering("they are still there"):
            for container in self.connect().containers.list(
                all=True, filters={"label": "launch.run"}, ignore_removed=True
            ):
                yield container.labels["launch.run"], self._handle(container)

    def _handle(self, container: "Container") -> DockerHandle:
        return DockerHandle(container, on_podman=self._podman is not None)

    def _remove(self, name: str) -> None:
        """Remove a container by name, if it was made and the engine answers."""
        from docker.errors import DockerException

        with suppress(DockerException, EngineError, OSError):
            self.connect().containers.get(name).remove(force=True)


def _name(start: Start) -> str:
    """The container of one start."""
    return f"launch-{start.run}" + (f"-{start.attempt}" if start.attempt > 1 else "")


def _build_command(plan: RunPlan) -> str:
    return " ".join(["launch image build", plan.target, *(f"--without {name}" for name in plan.without)])


def _named(error: Any) -> LaunchError:
    """The engine's refusal as a named error."""
    text = str(error.explanation or error)
    if "is already in use by" in text:
        return EngineError(
            "a container of this run's name exists", why=text, hint="docker ps -a --filter label=launch.run"
        )
    return refusals.explained(error, "the engine refused to start the container")
