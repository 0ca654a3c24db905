"""flash-attn's compiled module loads: its metadata is fine even when every symbol of it is undefined.

With a GPU its attention must equal PyTorch's own within bfloat16's accuracy.
"""

from _common import Failed, NeedsGpu, device, main, require

#: Largest difference of two outputs of size about 1; bfloat16 keeps 8 bits.
TOLERANCE = 2e-2


def check() -> str:
    """Import the shared object itself; with a GPU, compare one forward pass."""
    version = require("flash-attn")
    import torch  # isort: skip - first: it brings the libraries that the module links to
    import flash_attn_2_cuda  # noqa: F401

    if device() != "cuda":
        raise NeedsGpu(f"flash-attn {version}: the compiled module loads; a forward pass needs a GPU")
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
