"""flash-attn's compiled module loads: its metadata is fine even when every symbol of it is undefined.

With a GPU its attention must equal PyTorch's own within bfloat16's accuracy. MINIMUM says which GPUs it has
kernels for: pairs such as ``flash-attn=8.0``, of the manifest.
"""

import os

from _common import Failed, NeedsGpu, device, main, require

#: Largest difference of two outputs of size about 1; bfloat16 keeps 8 bits.
TOLERANCE = 2e-2


def require_kernels(capability: tuple[int, int], name: str) -> None:
    """A GPU that flash-attn has no kernels for decides nothing, no more than none would."""
    least = dict(pair.split("=") for pair in os.environ.get("MINIMUM", "").split()).get("flash-attn", "0.0")
    if capability < tuple(map(int, least.split("."))):
        has = ".".join(map(str, capability))
        raise NeedsGpu(f"needs a GPU of compute capability {least} or newer, here is {name} ({has})")


def check() -> str:
    """Import the shared object itself; with a GPU, compare one forward pass."""
    version = require("flash-attn")
    import torch  # isort: skip - first: it brings the libraries that the module links to
    import flash_attn_2_cuda  # noqa: F401

    if device() != "cuda":
        raise NeedsGpu(f"flash-attn {version}: the compiled module loads; a forward pass needs a GPU")
    require_kernels(torch.cuda.get_device_capability(0), torch.cuda.get_device_name(0))
    from flash_attn import flash_attn_func

    torch.manual_seed(7)
    q, k, v = torch.randn(3, 2, 128, 4, 64, device="cuda", dtype=torch.bfloat16)
    found = flash_attn_func(q, k, v, causal=True).transpose(1, 2)
    wanted = torch.nn.functional.scaled_dot_product_attention(
        *(each.transpose(1, 2).float() for each in (q, k, v)), is_causal=True
    )
    off = float((found.float() - wanted).abs().max())
    if not off < TOLERANCE:
        raise Failed(f"attention is off by {off} from PyTorch's own")
    return f"flash-attn {version} on {torch.cuda.get_device_name(0)}, off by {off:.1e}"


main(check)
