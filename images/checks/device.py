"""torch was built for this target's devices, and sees the one that is there."""

import os
from pathlib import Path

from _common import Failed, NeedsGpu, a_gpu, device, main, require
from _level_zero import gpus


def check() -> str:
    """The build first, which needs no device; then a matrix product on the device."""
    require("torch")
    import torch

    nvidia = os.environ["TARGET"].startswith("cuda")
    if nvidia and torch.version.cuda is None:
        raise Failed(f"torch {torch.__version__} is not a CUDA build")
    if nvidia:
        recorded(torch.version.cuda, torch._C._cuda_getArchFlags() or "")
    if not nvidia and not torch.xpu._is_compiled():
        raise Failed(f"torch {torch.__version__} is not an XPU build")
    found = device()
    if found is None and present(nvidia):
        raise Failed(unseen(nvidia))
    if found is None:
        raise NeedsGpu(f"torch {torch.__version__} is built for it; the rest needs {a_gpu()}")
    left, right = torch.randn(64, 64), torch.randn(64, 64)
    error = float((left.to(found) @ right.to(found)).cpu().sub(left @ right).abs().max())
    if not error < 1e-2:
        raise Failed(f"a matrix product on {found} is off by {error}")
    return f"{getattr(torch, found).get_device_name(0)}, product off by {error:.1e}"


def present(nvidia: bool) -> bool:
    """Whether this container was given a GPU.

    GPU_PRESENT is the launcher's word: how NVIDIA's GPUs show themselves is not the same on every machine.
    """
    return os.environ.get("GPU_PRESENT") == "1" if nvidia else any(Path("/dev/dri").glob("renderD*"))


def unseen(nvidia: bool) -> str:
    """Why torch may see no GPU where one is."""
    if nvidia:
        return "a GPU is here, and torch sees none: driver too old, or no permission for its device files"
    seen, said = gpus()
    if seen:
        return (
            f"Level Zero sees {seen}, and torch none: SYCL does not find it. ZE_AFFINITY_MASK or "
            "ONEAPI_DEVICE_SELECTOR may leave it out; SYCL_UR_TRACE=1 shows what it loads"
        )
    return (
        f"a render node is here, and Level Zero sees no GPU ({said}): no permission for it (its group's id), "
        "/dev/dri/by-path is missing, or the user-mode driver is older than the card"
    )


def recorded(cuda: str, architectures: str) -> None:
    """Compare the manifest's record, in the variables CUDA and ARCHITECTURES, with what torch says of itself.

    The launcher refuses GPUs by that record. ``torch.cuda.get_arch_list()`` says nothing without a device.
    """
    for name, has in (("CUDA", cuda), ("ARCHITECTURES", architectures)):
        said = os.environ[name]
        if said and sorted(said.split()) != sorted(has.split()):
            raise Failed(f"the manifest says {name.lower()} {said!r}, torch has {has!r}")


main(check)
