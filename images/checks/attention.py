"""Gradients through causal attention are numbers, and the right ones.

On Intel GPUs ``scaled_dot_product_attention`` with ``is_causal`` was reported to give NaN gradients.
"""

from typing import Any

from _common import Failed, NeedsGpu, a_gpu, device, main, require

# Batch, heads, length (one that no block size divides), size of a head.
_SHAPE = (2, 4, 77, 64)

# Largest difference of a gradient from the same in float32 on the CPU, over the largest gradient.
_TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2}


def gradients(place: str, kind: Any) -> list[Any]:
    """Of query, key and value, as float32 on the CPU."""
    import torch

    made = torch.Generator().manual_seed(7)
    inputs = [torch.randn(_SHAPE, generator=made).to(place, kind).requires_grad_() for _ in range(3)]
    out = torch.nn.functional.scaled_dot_product_attention(*inputs, is_causal=True)
    (out.float() ** 2).mean().backward()
    return [each.grad.float().cpu() for each in inputs]


def check() -> str:
    """Both precisions against float32 on the CPU."""
    require("torch")
    import torch

    found = device() or "cpu"
    expected = gradients("cpu", torch.float32)
    largest = max(float(each.abs().max()) for each in expected)
    seen = []
    for name, tolerance in _TOLERANCE.items():
        got = gradients(found, getattr(torch, name))
        if not all(bool(each.isfinite().all()) for each in got):
            raise Failed(f"causal attention in {name} on {found} has gradients that are no numbers")
        error = max(float((a - b).abs().max()) for a, b in zip(got, expected, strict=True)) / largest
        if not error < tolerance:
            raise Failed(f"gradients of causal attention in {name} on {found} are off by {error:.1e}")
        seen.append(f"{name} off by {error:.1e}")
    if found == "cpu":
        raise NeedsGpu(f"on the CPU {', '.join(seen)}; the rest needs {a_gpu()}")
    return f"on {found} {', '.join(seen)}"


main(check)
