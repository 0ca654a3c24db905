"""NVIDIA's driver and GPUs, asked of NVML, the driver's own library.

pynvml is imported only where a driver shows itself: the launcher starts fast, and most machines have none.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.cuda import Gpu, Nvidia

if TYPE_CHECKING:
    from launcher.diagnosis.facts import GpuHealth

#: Where the Linux driver shows itself; below ``gpus`` there is one folder per GPU.
_DRIVER = "proc/driver/nvidia"

#: The GPU of Windows in WSL, where /proc/driver/nvidia does not exist. It need not be one of NVIDIA's.
_WSL = "dev/dxg"


def may_be_there(root: Path = Path("/")) -> bool:
    """Whether a driver is loaded that may have NVIDIA GPUs."""
    return (root / _DRIVER).exists() or (root / _WSL).exists()


def count(root: Path = Path("/")) -> int:
    """GPUs that the driver shows."""
    if (root / _DRIVER).exists():
        return len(list((root / _DRIVER / "gpus").glob("*")))
    return len(facts(root).gpus or ())


def facts(root: Path = Path("/")) -> Nvidia:
    """Driver and GPUs. Nothing is raised: what cannot be found out is unknown."""
    if not may_be_there(root):
        return Nvidia(unknown="no NVIDIA driver is loaded")
    windows = not (root / _DRIVER).exists()
    import pynvml

    driver = "" if windows else _driver_of_kernel(root)
    try:
        pynvml.nvmlInit()
        try:
            driver = str(pynvml.nvmlSystemGetDriverVersion())
            found = [_gpu(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())]
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        # No library, no permission, or a library of another version than the kernel's module.
        return Nvidia(driver=driver, windows=windows, unknown=f"NVML: {error}")
    return Nvidia(driver=driver, gpus=tuple(gpu for gpu in found if gpu is not None), windows=windows)


def health(root: Path = Path("/")) -> "tuple[GpuHealth, ...]":
    """Errors and memory of the GPUs that this process may use, as they are now; none without a driver.

    Raises:
        OSError: the driver's library does not answer.
    """
    if not may_be_there(root):
        return ()
    import pynvml

    try:
        pynvml.nvmlInit()
        try:
            found = [_health(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())]
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        raise OSError(f"NVML: {error}") from None
    return tuple(each for each in found if each is not None)


def _health(pynvml: Any, index: int) -> "GpuHealth | None":
    """One GPU; None: this process may not use it. What a card does not count is unknown."""
    from launcher.diagnosis.facts import GpuHealth  # only the doctor asks: a run starts without it

    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    except pynvml.NVMLError_NoPermission:
        return None

    def ask(name: str, *arguments: object) -> Any:
        try:
            return getattr(pynvml, name)(handle, *arguments)
        except pynvml.NVMLError:  # not of this card, not in this container, not of this driver
            return None

    memory, ecc = ask("nvmlDeviceGetMemoryInfo"), ask("nvmlDeviceGetEccMode")
    errors = (pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC)
    return GpuHealth(
        gpu=f"GPU {index} ({ask('nvmlDeviceGetName') or 'unknown'})",
        used=int(memory.used) if memory else 0,
        total=int(memory.total) if memory else 0,
        ecc=bool(ecc[0]) if ecc else None,
        uncorrected=ask("nvmlDeviceGetTotalEccErrors", *errors),
        programs=len(ask("nvmlDeviceGetComputeRunningProcesses") or ()),
    )


def _gpu(pynvml: Any, index: int) -> Gpu | None:
    """One GPU; None: this process may not use it, as in a batch job that was given others."""
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    except pynvml.NVMLError_NoPermission:
        return None
    try:
        memory = int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)
    except pynvml.NVMLError_NotSupported:  # it shares the machine's
        memory = 0
    major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
    return Gpu(
        index=index,
        name=str(pynvml.nvmlDeviceGetName(handle)),
        uuid=str(pynvml.nvmlDeviceGetUUID(handle)),
        memory=memory,
        capability=(int(major), int(minor)),
        instances=tuple(_instances(pynvml, handle)),
    )


def _instances(pynvml: Any, handle: Any) -> list[str]:
    """uuids of the MIG instances of a GPU."""
    try:
        current, _ = pynvml.nvmlDeviceGetMigMode(handle)
    except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_FunctionNotFound):
        return []
    found = []
    for place in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle) if current else 0):
        try:
            instance = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, place)
        except (pynvml.NVMLError_NotFound, pynvml.NVMLError_NoPermission):  # a free place; another's
            continue
        found.append(str(pynvml.nvmlDeviceGetUUID(instance)))
    return found


def _driver_of_kernel(root: Path) -> str:
    """The version in /proc/driver/nvidia/version; empty when it does not say."""
    try:
        text = (root / _DRIVER / "version").read_text()
    except (OSError, UnicodeDecodeError):
        return ""
    found = re.search(r"Kernel Module.*?\s([0-9]+(?:\.[0-9]+){1,2})\s", text)
    return found.group(1) if found else ""
