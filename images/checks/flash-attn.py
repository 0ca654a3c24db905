"""flash-attn's compiled module loads: its metadata is fine even when every symbol of it is undefined."""

from _common import Failed, NeedsGpu, device, main, require


def check() -> str:
    """Import the shared object itself; with a GPU, one forward pass."""
    version = require("flash-attn")
    import flash_attn_2_cuda  # noqa: F401
    import torch  # first: it brings the libraries that the module links to

    if device() != "cuda":
        raise NeedsGpu(f"flash-attn {version}: the compiled module loads; a forward pass needs a GPU")
    from flash_attn import flash_attn_func

    q = torch.randn(1, 32, 2, 64, device="cuda", dtype=torch.bfloat16)
    out = flash_attn_func(q, q, q)
    if not torch.isfinite(out).all():
        raise Failed("a forward pass is not finite")
    return f"flash-attn {version}, forward pass on {torch.cuda.get_device_name(0)}"


main(check)
