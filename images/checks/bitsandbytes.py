"""bitsandbytes has its native library for this device: without one it imports silently and fails later."""

import ctypes
import os
from importlib import metadata
from pathlib import Path

from _common import Failed, LeftOut, NeedsGpu, a_gpu, device, left_out, main, require, said


def libraries(wanted: str) -> list[str]:
    """The native libraries of the wheel for a kind of device, by their paths."""
    return [
        str(file.locate())
        for file in metadata.files("bitsandbytes") or []
        if file.name.startswith(f"libbitsandbytes_{wanted}")
    ]


def loaded(paths: list[str]) -> list[str]:
    """Those that load: the wheel has one for each version of the device's runtime, and one is here."""
    found, reasons = [], []
    for path in paths:
        try:
            ctypes.CDLL(path)
            found.append(Path(path).name)
        except OSError as error:
            reasons.append(str(error))
    if not found:
        raise Failed(f"no native library loads: {'; '.join(reasons) or 'the wheel has none for this device'}")
    return found


def check() -> str:
    """The library of this target loads; its own report; with a device, the class of what it loaded."""
    version = require("bitsandbytes")
    nvidia = os.environ["TARGET"].startswith("cuda")
    if not nvidia:  # before torch, which would bring SYCL into the process: the library path has to do it
        names = ", ".join(loaded(libraries("xpu")))
        if "torch" in left_out():
            raise LeftOut(f"bitsandbytes {version}: {names} loads; this image was built without torch")
    require("torch")
    import torch

    if nvidia:
        names = ", ".join(loaded(libraries(f"cuda{(torch.version.cuda or '').replace('.', '')}")))
    said("python", "-m", "bitsandbytes")
    found = device()
    if found is None:
        raise NeedsGpu(f"bitsandbytes {version}: {names} loads; which one it takes shows with {a_gpu()}")
    from bitsandbytes import cextension

    kind = type(cextension.lib).__name__
    if "Error" in kind or "Mock" in kind:
        raise Failed(f"bitsandbytes {version} has no native library for {found} ({kind})")
    return f"bitsandbytes {version}, {kind} on {found}"


main(check)
