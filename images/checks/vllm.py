"""vLLM imports, its compiled operators load with this torch, and its transformers is below 5."""

import re
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from _common import Failed, NeedsGpu, device, main, require, said

_LOAD = "import torch, vllm, vllm._C; from vllm import LLM, SamplingParams"


def stand_in(library: Path, folder: Path) -> None:
    """A libcuda.so.1 with the functions that a library asks of the driver: any other missing symbol shows."""
    functions = re.findall(r"\bU (cu[A-Z]\w*)", said("nm", "-D", "--undefined-only", str(library)))
    source = "".join(f"void {name}(void) {{}}\n" for name in functions)
    made = subprocess.run(
        ["gcc", "-shared", "-x", "c", "-", "-Wl,-soname,libcuda.so.1", "-o", str(folder / "libcuda.so.1")],
        input=source,
        text=True,
        capture_output=True,
        check=False,
    )
    if made.returncode != 0:
        raise Failed(f"gcc: {made.stderr.strip()[-400:]}")


def check() -> str:
    """In a process of its own, because a stand-in for the driver must be there before torch is."""
    version = require("vllm")
    if int(metadata.version("transformers").split(".")[0]) >= 5:
        raise Failed(f"vllm {version} breaks on transformers {metadata.version('transformers')}")
    if device() is not None:
        said(sys.executable, "-c", _LOAD)
        return f"vllm {version}, native operators load"
    library = next(
        (file.locate() for file in metadata.files("vllm") or [] if file.match("vllm/_C.*so")), None
    )
    if library is None:
        raise Failed(f"vllm {version} has no native operators")
    with tempfile.TemporaryDirectory() as temporary:
        stand_in(Path(str(library)), Path(temporary))
        said("env", f"LD_LIBRARY_PATH={temporary}", sys.executable, "-c", _LOAD)
    raise NeedsGpu(f"vllm {version}, native operators load beside a stand-in for the driver's libcuda.so.1")


main(check)
