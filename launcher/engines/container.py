"""One container, as data, from which the SDK's call and the ``docker run`` line of a dry run are made.

A test starts both and compares the containers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from launcher import process
from launcher.plan import Mount
from launcher.secretfile import SecretFile

#: The image's root is read-only; temporary files live in memory, and may be executed (compiled kernels).
_TMPFS = {"/tmp": "rw,exec,nosuid,nodev,mode=1777"}  # noqa: S108 - inside the container


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRequest:
    """One container, as data.

    Attributes:
        command: without what gives it its secrets.
        secrets: how it gets them; None: it has none.
    """

    name: str
    image: str
    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    secrets: SecretFile | None
    mounts: tuple[Mount, ...]
    user: str
    groups: tuple[str, ...]
    devices: tuple[str, ...]
    gpus: str
    shm_size: str
    memory: str
    network: str
    labels: tuple[tuple[str, str], ...]
    # Nothing of the output is dropped, whatever the engine's own settings say: a launcher that comes later
    # counts from its beginning.
    log_driver: str = "json-file"
    log_size: str = "1000g"
    # What Podman has otherwise; see launcher.engines.podman.adapted.
    program: str = "docker"
    security: tuple[str, ...] = ("no-new-privileges",)
    userns: str = ""
    pids: int = 0

    def argv(self) -> tuple[str, ...]:
        """What the container starts."""
        return self.command if self.secrets is None else self.secrets.command(self.command)

    def tmpfs(self) -> tuple[str, ...]:
        """What lies in memory, as PATH:OPTIONS."""
        return tuple(f"{path}:{options}" for path, options in _TMPFS.items())

    def _mounts(self) -> tuple[Mount, ...]:
        return self.mounts if self.secrets is None else (*self.mounts, *self.secrets.mounts())

    def printed(self, streams: Sequence[str] = ()) -> str:
        """The equivalent ``docker run`` line, or Podman's; secrets by name only, the shell has the values.

        Args:
            streams: options of one that people type into.
        """
        line = process.printed(self.words(streams))
        return line if self.secrets is None else self.secrets.around(line)

    def words(self, more: Sequence[str] = ()) -> list[str]:
        """The same line, word by word; what only it can say stands right behind ``run``.

        Args:
            more: options that a request does not have.
        """
        flags: list[str] = [self.program, "run", *more, "--name", self.name, "--init", "--read-only"]
        for path, options in _TMPFS.items():
            flags += ["--tmpfs", f"{path}:{options}"]
        flags += ["--cap-drop", "ALL"]
        for option in self.security:
            flags += ["--security-opt", option]
        flags += ["--network", self.network]
        if self.userns:
            flags += ["--userns", self.userns]
        if self.pids:
            flags += ["--pids-limit", str(self.pids)]
        if self.log_driver:
            flags += ["--log-driver", self.log_driver, "--log-opt", f"max-size={self.log_size}"]
        flags += ["--user", self.user, "--workdir", "/output", "--shm-size", self.shm_size]
        if self.memory:  # without swap, as the SDK's request below
            flags += ["--memory", self.memory, "--memory-swap", self.memory]
        for group in self.groups:
            flags += ["--group-add", group]
        for device in self.devices:
            flags += ["--device", device]
        if self.gpus:
            flags += ["--gpus", "all" if self.gpus == "all" else _csv([f"device={self.gpus}"])]
        for mount in self._mounts():
            flags += ["--mount", bind(mount)]
        for name, value in self.environment:
            flags += ["--env", f"{name}={value}"]
        for name, value in self.labels:
            flags += ["--label", f"{name}={value}"]
        return [*flags, self.image, *self.argv()]

    def sdk(self) -> dict[str, Any]:
        """The arguments of ``client.containers.create``."""
        from docker.types import DeviceRequest, LogConfig
        from docker.types import Mount as SdkMount

        which = {"count": -1} if self.gpus == "all" else {"device_ids": self.gpus.split(",")}
        requests = [DeviceRequest(**which, capabilities=[["gpu"]])] if self.gpus else []
        nodes = [device for device in self.devices if device.startswith("/")]
        if len(nodes) < len(self.devices):  # the others have names of CDI's
            named = [device for device in self.devices if device not in nodes]
            requests.append(DeviceRequest(driver="cdi", device_ids=named))
        return {
            "image": self.image,
            "command": list(self.argv()),
            "name": self.name,
            "environment": dict(self.environment),
            "mounts": [
                SdkMount(str(m.target), str(m.source), type="bind", read_only=m.read_only)
                for m in self._mounts()
            ],
            "user": self.user,
            "group_add": list(self.groups),
            "devices": [f"{device}:{device}:rwm" for device in nodes],
            "device_requests": requests,
            "shm_size": self.shm_size,
            "mem_limit": self.memory or None,
            "memswap_limit": self.memory or None,
            "network_mode": self.network,
            "init": True,
            "read_only": True,
            "tmpfs": _TMPFS,
            "cap_drop": ["ALL"],
            "security_opt": list(self.security),
            "pids_limit": self.pids or None,
            "working_dir": "/output",
            "labels": dict(self.labels),
            "log_config": LogConfig(type=self.log_driver, config={"max-size": self.log_size})
            if self.log_driver
            else None,
        }


def bind(mount: Mount) -> str:
    """The value of ``--mount``; apptainer reads the same."""
    fields = ["type=bind", f"source={mount.source}", f"target={mount.target}"]
    return _csv([*fields, "readonly"] if mount.read_only else fields)


def _csv(fields: list[str]) -> str:
    """One record as the docker command reads the value of --mount: a path may hold a comma or a quote."""
    return ",".join(
        '"' + field.replace('"', '""') + '"' if "," in field or '"' in field else field for field in fields
    )
