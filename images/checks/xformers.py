"""xformers was built for the torch that is here, and its operators load and compute."""

import json
from importlib import metadata

from _common import Failed, NeedsGpu, device, main, require, said

#: Largest difference of two outputs of size about 1; bfloat16 keeps 8 bits.
TOLERANCE = 2e-2


def check() -> str:
    """Its build record and torch; its own report; with a GPU, attention beside PyTorch's own."""
    version = require("xformers")
    import torch

    record = next((f for f in metadata.files("xformers") or [] if f.name == "cpp_lib.json"), None)
    if record is None:
        raise Failed(f"xformers {version} has no build record, so no native operators")
    built = json.loads(record.locate().read_text(encoding="utf-8"))["version"]
    if built["torch"].split("+")[0] != torch.__version__.split("+")[0]:
        raise Failed(f"xformers {version} was built for torch {built['torch']}, here is {torch.__version__}")
    import xformers._cpp_lib as library

    if library._cpp_library_load_exception is not None:
        raise Failed(f"its native library does not load: {library._cpp_library_load_exception}")
    report = said("python", "-m", "xformers.info")
    operators = [line for line in report.splitlines() if line.startswith("memory_efficient_attention.")]
    available = [line for line in operators if line.endswith(" available")]
    if not available:
        raise Failed(f"xformers {version} has no attention that is available: {'; '.join(operators)}")
    about = f"xformers {version}, built for torch {built['torch']}, {len(available)} attentions load"
    if device() != "cuda":
        raise NeedsGpu(f"{about}; computing needs a GPU")
    from xformers.ops import memory_efficient_attention

    torch.manual_seed(7)
    q, k, v = torch.randn(3, 2, 128, 4, 64, device="cuda", dtype=torch.bfloat16)
    found = memory_efficient_attention(q, k, v).transpose(1, 2)
    wanted = torch.nn.functional.scaled_dot_product_attention(
        *(each.transpose(1, 2).float() for each in (q, k, v))
    )
    off = float((found.float() - wanted).abs().max())
    if not off < TOLERANCE:
        raise Failed(f"attention is off by {off} from PyTorch's own")
    return f"{about}, off by {off:.1e}"


main(check)
