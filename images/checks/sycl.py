"""C++ compiles against the SYCL of the wheels, and what was compiled loads: triton does that for each kernel.

Level Zero's headers and library are part of it where the image has the drivers.
"""

import ctypes
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from _common import Failed, left_out, main, require

_SOURCE = """
#include <sycl/sycl.hpp>
#ifdef LEVEL_ZERO
#include <level_zero/ze_api.h>
extern "C" int level_zero() { return zeInit(0); }
#endif
extern "C" int devices() { return static_cast<int>(sycl::device::get_devices().size()); }
"""


def check() -> str:
    """Compile as pytorch-triton-xpu does: g++, the wheels' headers, libsycl and libze_loader by name."""
    version = require("intel-sycl-rt")
    compiler = shutil.which("g++")
    if compiler is None:
        raise Failed("no C++ compiler")
    place, more = Path(sys.prefix), [] if "drivers" in left_out() else ["-DLEVEL_ZERO", "-lze_loader"]
    with tempfile.TemporaryDirectory() as temporary:
        source, target = Path(temporary, "probe.cpp"), Path(temporary, "probe.so")
        source.write_text(_SOURCE, encoding="utf-8")
        argv = [
            *(compiler, "-O1", "-shared", "-fPIC", "-w", "-std=c++17", str(source), "-o", str(target)),
            *(f"-I{place}/include", f"-I{place}/include/sycl", f"-L{place}/lib", "-lsycl", *more),
        ]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Failed(f"{compiler}: {done.stderr.strip()[-400:]}")
        found = ctypes.CDLL(str(target)).devices()
    return f"intel-sycl-rt {version} compiles and loads{' with Level Zero' if more else ''}; {found} devices"


main(check)
