"""bitsandbytes has its native library for this device: without one it imports silently and fails later."""

import ctypes
import os
from importlib import metadata

from _common import Failed, NeedsGpu, device, main, require, said


def check() -> str:
    """Its own report; the library of this target loads; with a device, the class of what it loaded."""
    version = require("bitsandbytes")
    import torch

    said("python", "-m", "bitsandbytes")
    nvidia = os.environ["TARGET"].startswith("cuda")
    wanted = f"cuda{(torch.version.cuda or '').replace('.', '')}" if nvidia else "xpu"
    files = [
        file.locate()
        for file in metadata.files("bitsandbytes") or []
        if file.name.startswith(f"libbitsandbytes_{wanted}")
    ]
    if not files:
        raise Failed(f"bitsandbytes {version} has no library for {wanted}")
    if nvidia:
        for file in files:
            ctypes.CDLL(str(file))
    found = device()
    if found is None:
        names = ", ".join(file.name for file in files)
        raise NeedsGpu(f"bitsandbytes {version} has {names}; which one it takes shows with a GPU")
    from bitsandbytes import cextension

    kind = type(cextension.lib).__name__
    if "Error" in kind or "Mock" in kind:
        raise Failed(f"bitsandbytes {version} has no native library for {found} ({kind})")
    return f"bitsandbytes {version}, {kind} on {found}"


main(check)
