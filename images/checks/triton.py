"""The triton that is imported belongs to this target's device, and compiles kernels for it."""

import os
from importlib import metadata

from _common import Failed, NeedsGpu, a_gpu, canonical, device, main, require


def capabilities(names: list[str]) -> list[int]:
    """The GPUs of compiled code as triton counts them, each once: 90 for both sm_90 and sm_90a."""
    return list(dict.fromkeys(int(name.removeprefix("sm_").rstrip("af")) for name in names))


def compiled(architectures: list[int]) -> None:
    """A kernel down to machine code by triton's own compiler and assembler, which need no GPU."""
    import triton
    import triton.language as tl
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    def add(x, y, n, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803
        at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        tl.store(y + at, tl.load(x + at, mask=at < n) + 1.0, mask=at < n)

    source = ASTSource(
        fn=triton.JITFunction(add),
        signature={"x": "*fp32", "y": "*fp32", "n": "i32", "BLOCK": "constexpr"},
        constexprs={(3,): 64},
    )
    for architecture in architectures:
        made = triton.compile(source, target=GPUTarget("cuda", architecture, 32))
        if not made.asm.get("cubin"):
            raise Failed(f"triton made no machine code for sm_{architecture}")


def check() -> str:
    """One owner of the folder triton/, the right one; kernels for the wheels' GPUs; one that runs."""
    wanted = "pytorch-triton-xpu" if os.environ["TARGET"] == "xpu" else "triton"
    require(wanted)
    owners = {canonical(name) for name in metadata.packages_distributions().get("triton", [])}
    if owners != {wanted}:
        raise Failed(f"triton/ belongs to {' and '.join(sorted(owners)) or 'nobody'}, not to {wanted}")
    about = f"{wanted} {metadata.version(wanted)}"
    names = [name for name in os.environ.get("ARCHITECTURES", "").split() if name.startswith("sm_")]
    compiled(capabilities(names))
    found = device()
    if found is None:
        done = f"compiles for {' '.join(names)}; " if names else ""
        raise NeedsGpu(f"{about}: {done}running a kernel needs {a_gpu()}")
    import torch

    x = torch.arange(4096, device=found, dtype=torch.float32)
    y = torch.compile(lambda t: torch.sin(t) * 2 + t)(x)
    if not torch.allclose(y, torch.sin(x) * 2 + x, atol=1e-4):
        raise Failed("a compiled kernel gives other numbers")
    return f"{about}, a compiled kernel ran on {found}"


main(check)
