"""Intel's user-mode drivers are those of the lock, load, and know the cards that this target is for.

ocloc is made of the same sources as the drivers and compiles for a card that is not there, by its PCI id: one
that it does not know is newer than they are.
"""

import ctypes
import re
import tempfile
from pathlib import Path

from _common import Failed, LeftOut, NeedsGpu, a_gpu, left_out, locked, main, said
from _level_zero import gpus

# PCI ids: Arc Pro B60, Arc B580, Arc A770, Data Center GPU Max 1100.
CARDS = {"B60": "0xe211", "B580": "0xe20b", "A770": "0x56a0", "Max 1100": "0x0bda"}

# What pytorch-triton-xpu compiles against.
NEEDED = ("/usr/include/level_zero/ze_api.h",)
LIBRARIES = ("libze_loader.so.1", "libze_intel_gpu.so.1")

_KERNEL = "kernel void add(global float *x) { x[get_global_id(0)] += 1.0f; }"


def installed() -> dict[str, str]:
    """Name -> version of the system's packages."""
    lines = said("dpkg-query", "--show", "--showformat=${Package} ${Version}\\n").splitlines()
    return dict(line.split(" ", 1) for line in lines if " " in line)


def compiled(name: str, device: str) -> None:
    """A kernel down to machine code for one card."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "add.cl").write_text(_KERNEL, encoding="utf-8")
        said("ocloc", "compile", "-file", f"{folder}/add.cl", "-device", device, "-out_dir", folder, "-q")
        if not any(path.stat().st_size for path in Path(folder).glob("*.bin")):
            raise Failed(f"ocloc made no machine code for {name} ({device})")


def check() -> str:
    """Versions, files, libraries; a kernel for each card; then what Level Zero sees here."""
    if "drivers" in left_out():
        raise LeftOut("this image is partial: it was built without the drivers")
    have = installed()
    problems = [
        f"{name} is {have.get(name, 'not installed')}, locked is {version}"
        for name, version in locked("DRIVERS").items()
        if have.get(name) != version
    ]
    problems += [f"{path} is missing" for path in NEEDED if not Path(path).is_file()]
    if problems:
        raise Failed("; ".join(problems))
    for library in LIBRARIES:
        ctypes.CDLL(library)
    for name, device in CARDS.items():
        compiled(name, device)
    version = re.search(r"[0-9]+(?:\.[0-9]+)+", have["libze-intel-gpu1"])
    about = f"compute-runtime {version.group() if version else '?'}, compiles for {', '.join(CARDS)}"
    seen, why = gpus()
    if not seen:
        raise NeedsGpu(f"{about}; the rest needs {a_gpu()} ({why})")
    return f"{about}; Level Zero sees {seen}"


main(check)
