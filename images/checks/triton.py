"""The triton that is imported belongs to this target's device, and compiles a kernel there."""

import os
from importlib import metadata

from _common import Failed, canonical, main, need_device


def check() -> str:
    """One owner of the folder triton/, the right one; then a kernel through torch.compile."""
    wanted = "pytorch-triton-xpu" if os.environ["TARGET"] == "xpu" else "triton"
    owners = {canonical(name) for name in metadata.packages_distributions().get("triton", [])}
    if owners != {wanted}:
        raise Failed(f"triton/ belongs to {' and '.join(sorted(owners)) or 'nobody'}, not to {wanted}")
    found = need_device()
    import torch

    x = torch.arange(4096, device=found, dtype=torch.float32)
    y = torch.compile(lambda t: torch.sin(t) * 2 + t)(x)
    if not torch.allclose(y, torch.sin(x) * 2 + x, atol=1e-4):
        raise Failed("a compiled kernel gives other numbers")
    return f"{wanted} {metadata.version(wanted)}, a compiled kernel ran on {found}"


main(check)
