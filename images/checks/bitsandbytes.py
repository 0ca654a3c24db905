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


def on_cpu(version: str) -> str:
    """A layer of 4-bit weights: near the one that it was made from, and gradients go through it."""
    import torch
    from bitsandbytes.nn import Linear4bit

    torch.manual_seed(7)
    whole = torch.nn.Linear(128, 64, bias=False)
    layer = Linear4bit(128, 64, bias=False, compute_dtype=torch.float32, quant_type="nf4")
    layer.load_state_dict(whole.state_dict())
    layer = layer.to("cpu")
    inputs = torch.randn(16, 128, requires_grad=True)
    expected = torch.autograd.grad(whole(inputs).square().sum(), inputs)[0]
    found = torch.autograd.grad(layer(inputs).square().sum(), inputs)[0]
    apart = float((found - expected).norm() / expected.norm())
    if layer.weight.dtype != torch.uint8 or not 0 < apart < 0.3:
        raise Failed(f"4-bit weights on the CPU: {layer.weight.dtype}, gradients {apart:.2f} apart")
    return f"bitsandbytes {version} on the CPU, gradients of 4-bit weights {apart:.2f} apart from whole ones"


def check() -> str:
    """The library of this target loads; its own report; with a device, the class of what it loaded."""
    version = require("bitsandbytes")
    if os.environ["TARGET"] == "cpu":
        require("torch")
        return on_cpu(version)
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
