"""What an engine says about the devices that it is to give to containers, before a start and as a refusal.

Runs and the checks of images ask the same engine for the same devices, and name its answers alike.
"""

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.errors import DeviceError, DeviceRuntimeError, EngineError, LaunchError

#: What the engine itself looks for in its PATH, to answer ``--gpus`` by a hook or by CDI.
_HELPERS = ("nvidia-container-runtime-hook", "nvidia-cdi-hook")
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#: How NVIDIA's tools say that they were asked, and that the driver or a GPU failed them.
_DRIVER_FAILS = ("nvidia-container-cli:", "nvml error", "failed to initialize NVML")

#: How engines say that nothing answers ``--gpus``: by the hook, by CDI, and about NVIDIA's programs.
_NO_GPUS = ("could not select device driver", "GPU vendor", "unresolvable CDI devices", "nvidia-container")

#: What Podman's OCI runtimes refuse, and the setting of Podman's that ends it.
_SETTINGS = {
    "cgroups in hybrid mode": 'runtime = "runc" below [engine] in containers.conf: crun knows none such',
    "rlimit": 'default_ulimits = ["nofile=N:N", "nproc=N:N"] below [containers] in containers.conf, with no '
    "more than ulimit -Hn and ulimit -Hu allow",
    "/dev/net/tun": "a network without root takes a /dev/net/tun that the user may open; or leave it at "
    "--network none",
}


def gives_gpus(info: Mapping[str, Any]) -> bool:
    """Whether anything says that the engine can give NVIDIA GPUs to containers.

    The engine does not say what answers ``--gpus``: NVIDIA's hook, if it was in the engine's PATH when it
    started and even when no runtime is registered; since Engine 29 also CDI (moby, daemon/nvidia_linux.go and
    its successor devices_nvidia_linux.go). One sign is enough: who is let through wrongly is refused by the
    engine, with the same error.

    Args:
        info: the engine's own, as ``docker info`` shows it.
    """
    devices = [str(device.get("ID", "")) for device in info.get("DiscoveredDevices") or ()]
    path = f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}"
    return (
        "nvidia" in (info.get("Runtimes") or {})
        or any(device.startswith("nvidia.com/gpu=") for device in devices)
        or any("nvidia" in file.name for folder in info.get("CDISpecDirs") or () for file in _files(folder))
        or any(shutil.which(helper, path=path) for helper in _HELPERS)
    )


def gives_cdi(info: Mapping[str, Any]) -> bool:
    """Whether a CDI specification of NVIDIA's is where engines look for one."""
    folders = info.get("CDISpecDirs") or ("/etc/cdi", "/var/run/cdi")
    return any("nvidia" in file.name for folder in folders for file in _files(folder))


def _files(folder: str) -> list[Path]:
    """The files of a folder of the engine's, if it is there and open to the caller."""
    try:
        return list(Path(folder).iterdir())
    except OSError:
        return []


def named(text: str) -> LaunchError | None:
    """The named error behind a refusal that is about devices; None: it is about something else.

    The texts are those of Docker Engine 20.10 to 29 and of NVIDIA's container tools 1.0 to 1.17.
    """
    if "nvidia-container-cli" in text and "unknown device" in text:
        return DeviceError(
            "the engine does not know a GPU that was asked for", why=text, hint="nvidia-smi -L"
        )
    if any(sign in text for sign in _DRIVER_FAILS):
        return DeviceError(
            "the NVIDIA driver, or one of its GPUs, does not answer NVIDIA's container tools",
            why=text,
            hint="nvidia-smi on this machine says more; after an update of the driver reboot, or reload its "
            "kernel modules",
        )
    if any(sign in text for sign in _NO_GPUS):
        return no_runtime(text)
    if "error gathering device information" in text:
        found = re.search(r'device information while adding custom device "([^"]+)"', text)
        return no_device(found.group(1) if found else "device")
    absent = re.search(r"stat (/dev/\S+): no such file or directory", text)  # Podman's words
    return no_device(absent.group(1)) if absent else None


def explained(error: Any, message: str) -> LaunchError:
    """The SDK's APIError as a named error, or under this message."""
    text = str(error.explanation or error)
    hint = next((advice for sign, advice in _SETTINGS.items() if sign in text), "")
    return named(text) or EngineError(message, why=text, hint=hint)


def no_device(device: str) -> DeviceError:
    """The error for a device node that is not there."""
    return DeviceError(
        f"{device} is not on this machine",
        why="no such accelerator, or its kernel driver is not loaded",
        hint="choose another --target, or see `ls -l /dev/dri` and `lspci -nnk`",
    )


def no_runtime(text: str = "") -> DeviceRuntimeError:
    """The error for an engine that has nothing to give GPUs with; ``text``: what it said, if it was asked."""
    why = "the NVIDIA Container Toolkit is not installed, or the engine was not told about it"
    return DeviceRuntimeError(
        "the engine cannot give NVIDIA GPUs to containers",
        why=f"{why} ({text})" if text else why,
        hint="install nvidia-container-toolkit; nvidia-ctk runtime configure --runtime=docker; restart it",
    )
