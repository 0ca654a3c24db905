"""GPUs by name, and how much of their memory a training can use: data."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from launcher.errors import UsageError
from launcher.fit.step import Device

_MIB = 1 << 20
_GB = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A kind of GPU.

    Attributes:
        name: as its maker calls it.
        memory: bytes that programs see, which is less than what is sold.
    """

    name: str
    device: Device
    memory: int


def _gpu(name: str, mib: int, device: Device = "cuda") -> Gpu:
    return Gpu(name=name, device=device, memory=mib * _MIB)


#: By the name on the command line. NVIDIA's: what PyTorch calls the total capacity in its out-of-memory
#: messages, as users report them, or where none was at hand nvidia-smi's total. Intel's: total_memory of
#: torch.xpu's device properties, the smallest of several driver versions (reports in intel/torch-xpu-ops).
GPUS: Mapping[str, Gpu] = {
    "t4": _gpu("NVIDIA T4", 14930),
    "l4": _gpu("NVIDIA L4", 22510),
    "a10": _gpu("NVIDIA A10", 22510),
    "a10g": _gpu("NVIDIA A10G", 22510),
    "a30": _gpu("NVIDIA A30", 24090),
    "l40s": _gpu("NVIDIA L40S", 45460),
    "a100-40gb": _gpu("NVIDIA A100 40 GB", 40440),
    "a100": _gpu("NVIDIA A100 80 GB", 81150),
    "h100": _gpu("NVIDIA H100 80 GB", 81000),
    "h200": _gpu("NVIDIA H200", 143150),
    "rtx3090": _gpu("NVIDIA GeForce RTX 3090", 24250),
    "rtx4090": _gpu("NVIDIA GeForce RTX 4090", 24210),
    "b60": _gpu("Intel Arc Pro B60", 23256, "xpu"),
}

_SIZE = re.compile(r"(\d{1,5}(?:\.\d+)?)\s*(gb|g|gib)", re.IGNORECASE)


def find(text: str) -> tuple[str, int, Device | None]:
    """A GPU's name, memory in bytes, and kind; of a mere size such as ``24GB`` no kind.

    A size is taken at its word: 24GB are 24·10⁹ bytes, 24GiB 24·2³⁰.

    Raises:
        UsageError: no GPU of that name is known.
    """
    word = re.sub(r"[\s_]", "", text.lower())
    if word in GPUS:
        found = GPUS[word]
        return found.name, found.memory, found.device
    size = _SIZE.fullmatch(text.strip())
    if size is None or float(size[1]) <= 0:
        raise UsageError(
            f"--gpu {text}: no such GPU is known",
            hint=f"one of {', '.join(GPUS)}, or its memory, such as 24GB",
        )
    unit = 1 << 30 if size[2].lower() == "gib" else _GB
    return text.strip(), int(float(size[1]) * unit), None


def by_name(name: str) -> int | None:
    """Memory in bytes of a card that a driver names; None: not in the table."""
    return next((gpu.memory for gpu in GPUS.values() if name and name.lower() in gpu.name.lower()), None)
