"""A C compiler and Python.h are there: triton builds its launcher with them at the first kernel."""

import importlib.util
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path

from _common import Failed, main

_SOURCE = """
#include <Python.h>
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "probe", NULL, -1, NULL};
PyMODINIT_FUNC PyInit_probe(void) { return PyModule_Create(&module); }
"""


def check() -> str:
    """Compile and load an extension module."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise Failed("no C compiler")
    with tempfile.TemporaryDirectory() as temporary:
        source, target = Path(temporary, "probe.c"), Path(temporary, "probe.so")
        source.write_text(_SOURCE, encoding="utf-8")
        include = sysconfig.get_path("include")
        argv = [compiler, "-shared", "-fPIC", f"-I{include}", str(source), "-o", str(target)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Failed(f"{compiler}: {done.stderr.strip()[-400:]}")
        spec = importlib.util.spec_from_file_location("probe", target)
        if spec is None:
            raise Failed("the compiled module cannot be loaded")
        importlib.util.module_from_spec(spec)
    return f"{compiler} builds an extension module"


main(check)
