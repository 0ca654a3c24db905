"""Run images/checks inside a built image: no network, the caller's own user id, no capabilities."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher import process
from launcher.errors import ProgramError
from launcher.host import nvidia
from launcher.image import inspect, refusals
from launcher.image.client import unstarted
from launcher.image.inputs import Inputs
from launcher.image.inspect import ImageInfo
from launcher.manifest import Devices, Target
from launcher.plan import ENVIRONMENT
from launcher.progress import Progress

if TYPE_CHECKING:
    from docker import DockerClient

#: What a check may say; a check that needs a device that is not there says so and never "ok".
STATUSES = ("ok", "failed", "needs-gpu", "left-out")

#: The check that is not a program in the image.
SIZE = "size"

#: About images alone: an environment has all files, and the machine's own drivers.
_OF_IMAGES = ("pruned", "drivers", SIZE)

_LIMIT_S = 1800  # a training step on a slow machine, with room
_TAIL = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one check found.

    Attributes:
        check: its name in the manifest.
        status: one of :data:`STATUSES`; ``not-run`` where there is no image to check.
        detail: for people.
        seconds: wall time, the container's start included.
    """

    check: str
    status: str
    detail: str
    seconds: float


def size(client: "DockerClient", image: ImageInfo, target: Target) -> Outcome:
    """Whether an image keeps to its target's budget.

    A container is made and removed first: an engine that has not unpacked the image, or no longer has it so,
    does it then, and knows no other size than the packed one before.

    Raises:
        EngineError: the engine refused to make one.
    """
    from docker.errors import APIError

    try:
        with unstarted(client, image.reference):
            unpacked = (inspect.find(client, image.reference) or image).size
    except APIError as error:
        raise refusals.explained(error, f"the engine refused a container of {image.reference}") from None
    found = f"{unpacked / 1e9:.2f} GB unpacked"
    if target.max_size is None:
        return Outcome(check=SIZE, status="ok", detail=f"{found}, no budget", seconds=0.0)
    status = "ok" if unpacked <= target.max_size else "failed"
    return Outcome(
        check=SIZE, status=status, detail=f"{found}, the budget is {target.max_size / 1e9:g} GB", seconds=0.0
    )


def run(
    client: "DockerClient", image: ImageInfo, inputs: Inputs, names: Sequence[str], *, progress: Progress
) -> tuple[Outcome, ...]:
    """Run the named checks one after the other; all are run, whatever one says.

    Raises:
        DeviceRuntimeError: a GPU is here, and the engine cannot give it to containers.
        DeviceError: the engine tried, and the driver or the device failed it.
        EngineError: the engine refused to run a container of the image.
    """
    gpu = bool(names) and inputs.target.devices.kind == "nvidia" and nvidia.count() > 0
    if gpu and not refusals.gives_gpus(client.info()):
        raise refusals.no_runtime()
    task = f"checking {image.reference}"
    progress.start(task, total=len(names))
    outcomes = []
    for name in names:
        outcomes.append(_one(client, image, inputs, name, gpu=gpu))
        progress.advance(task, 1)
    progress.finish(task)
    return tuple(outcomes)


def _one(client: "DockerClient", image: ImageInfo, inputs: Inputs, name: str, *, gpu: bool) -> Outcome:
    import time

    import requests
    from docker.errors import APIError

    begin = time.monotonic()
    try:
        asked = request(inputs, name, image.left_out, gpu=gpu)
        container = client.containers.create(image.reference, **asked)
    except APIError as error:
        raise refusals.explained(error, f"the engine refused a container of {image.reference}") from None
    try:
        container.start()
        try:
            code = int(container.wait(timeout=_LIMIT_S)["StatusCode"])
        except requests.exceptions.RequestException:
            code = -1
        text = container.logs(stdout=True, stderr=True).decode(errors="replace")
        verdict = container.logs(stdout=True, stderr=False).decode(errors="replace")
    except APIError as error:
        raise refusals.explained(error, f"check {name} could not be started in {image.reference}") from None
    finally:
        container.remove(force=True, v=True)
    status, detail = judge(code, verdict, text)
    return Outcome(check=name, status=status, detail=detail, seconds=time.monotonic() - begin)


def judge(code: int, verdict: str, text: str) -> tuple[str, str]:
    """A check's status and detail from its exit code, its standard output and everything it printed.

    A check that ends without its verdict, or contradicts it with its exit code, has failed.
    """
    tail = "\n".join(text.strip().splitlines()[-_TAIL:])
    if code == -1:
        return "failed", f"not done after {_LIMIT_S} s\n{tail}"
    for line in reversed(verdict.strip().splitlines()):
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if isinstance(said, dict) and said.get("status") in STATUSES:
            if (said["status"] == "failed") == (code == 0):
                return "failed", f"said {said['status']}, but exited with code {code}: {said.get('detail')}"
            return said["status"], str(said.get("detail", ""))
        break
    return "failed", f"exited with code {code} and gave no verdict\n{tail}"


def request(inputs: Inputs, name: str, left_out: Sequence[str], *, gpu: bool = False) -> dict[str, Any]:
    """The SDK's arguments for the container of one check: the least that it needs.

    Args:
        inputs: of the image.
        name: of the check.
        left_out: optional packages that the image lacks.
        gpu: NVIDIA GPUs are here, and the container gets them.
    """
    devices = inputs.target.devices
    return {
        "command": ["python", f"/launch/checks/{name}.py"],
        "environment": {
            **{"HOME": "/tmp/home", "USER": "launch", "LOGNAME": "launch", "TMPDIR": "/tmp"},  # noqa: S108
            **_asked(inputs, Path("/launch/locks"), left_out, gpu=gpu),
        },
        "user": f"{os.getuid()}:{os.getgid()}",
        "network_mode": "none",
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "read_only": True,
        # A check writes models and caches; /tmp is the container's only writable place.
        "tmpfs": {"/tmp": "rw,exec,mode=1777,size=4g"},  # noqa: S108
        "working_dir": "/tmp",  # noqa: S108
        "init": True,
        "shm_size": devices.shm_size,
        "volumes": {
            str(inputs.folder / "checks"): {"bind": "/launch/checks", "mode": "ro"},
            str(inputs.folder / "seal.py"): {"bind": "/launch/seal.py", "mode": "ro"},
            str(inputs.folder / "locks"): {"bind": "/launch/locks", "mode": "ro"},
        },
        "labels": {"launch.role": "check", "launch.target": inputs.target.name},
        **_devices(devices, gpu=gpu),
    }


def _asked(inputs: Inputs, locks: Path, left_out: Sequence[str], *, gpu: bool) -> dict[str, str]:
    """The variables that say what is checked, see images/checks/_common.py; ``locks`` is their folder."""
    devices = inputs.target.devices
    return {
        "TARGET": inputs.target.name,
        "LOCKS": ":".join(str(locks / part.file_name) for part in inputs.lock.layers),
        "DRIVERS": str(locks / inputs.lock.drivers.file_name) if inputs.lock.drivers else "",
        "WITHOUT": " ".join(left_out),
        "CUDA": devices.cuda,
        "ARCHITECTURES": " ".join(devices.architectures),
        "MINIMUM": " ".join(f"{package}={least}" for package, least in devices.minimum),
        **({"GPU_PRESENT": "1"} if gpu else {}),
    }


def run_here(inputs: Inputs, environment: Path, name: str) -> Outcome:
    """One check in an embedded environment; what only an image has is not among them.

    The lock of ``inputs`` is the environment's own, without what was left out of it.

    Args:
        environment: its folder.
    """
    import tempfile
    import time

    if name in _OF_IMAGES:
        return Outcome(check=name, status="not-run", detail="it is about images", seconds=0.0)
    begin = time.monotonic()
    gpu = inputs.target.devices.kind == "nvidia" and nvidia.count() > 0
    with tempfile.TemporaryDirectory(prefix="launch-check-") as folder:
        variables = {
            **{name: value.replace(ENVIRONMENT, str(environment)) for name, value in inputs.target.env},
            **_asked(inputs, inputs.folder / "locks", inputs.lock.left_out, gpu=gpu),
            **{"HOME": folder, "TMPDIR": folder, "PYTHONPATH": "", "OMP_WAIT_POLICY": "PASSIVE"},
            "PATH": f"{environment / 'bin'}:{os.environ.get('PATH', os.defpath)}",
        }
        argv = [str(environment / "bin" / "python"), str(inputs.folder / "checks" / f"{name}.py")]
        try:
            done = process.run(argv, env=variables, cwd=Path(folder), timeout=_LIMIT_S, check=False)
            status, detail = judge(done.returncode, done.stdout, done.stdout + done.stderr)
        except ProgramError as error:
            status, detail = "failed", error.message
    return Outcome(check=name, status=status, detail=detail, seconds=time.monotonic() - begin)


def _devices(devices: Devices, *, gpu: bool) -> dict[str, Any]:
    """The target's devices as far as this machine has them; checks say when one is missing."""
    if gpu:
        from docker.types import DeviceRequest

        return {"device_requests": [DeviceRequest(count=-1, capabilities=[["gpu"]])]}
    present = [path for path in devices.paths if Path(path).exists()]
    if devices.kind != "intel" or not present:
        return {}
    groups = {node.stat().st_gid for path in present for node in Path(path).glob("render*")}
    return {
        "devices": [f"{path}:{path}:rwm" for path in present],
        "group_add": sorted(str(group) for group in groups),
    }
