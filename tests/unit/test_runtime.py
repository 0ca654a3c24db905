"""recipes/runtime/header.py: the reader of defaults. What needs the trainers is in tests/runtime."""

import importlib.util
import runpy
import sys
from pathlib import Path
from types import ModuleType

import pytest

RUNTIME = Path(__file__).resolve().parents[2] / "recipes" / "runtime"
SHIPPED = RUNTIME.parent / "bge-m3-unified.sh"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"runtime_{name}", RUNTIME / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HEADER = """# /// recipe
# [inputs.model]
# default = "org/it's"
# [parameters.rate]
# default = 2.0
# [parameters.drop]
# default = { cpu = false, cuda = true }
# [parameters.title]
# default = ""
# ///
"""


def test_assignments() -> None:
    header = load("header")
    read = header.read(HEADER)
    assert header.assignments(read, "cuda") == [
        """export MODEL=${MODEL-'org/it'"'"'s'}""",
        "export RATE=${RATE-2}",
        "export DROP=${DROP-true}",
        "export TITLE=${TITLE-''}",
    ]
    assert "export DROP=${DROP-false}" in header.assignments(read, "cpu")


def test_what_is_refused() -> None:
    header = load("header")
    with pytest.raises(SystemExit, match="there is no '# /// recipe' block"):
        header.read("#!/bin/bash\n")
    with pytest.raises(SystemExit, match="drop has no default for the target 'xpu'"):
        header.assignments(header.read(HEADER), "xpu")
    assert header.assignments({}, "cpu") == []


def test_program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["header.py", str(SHIPPED), "cpu"])
    runpy.run_path(str(RUNTIME / "header.py"), run_name="__main__")
    assert "export LEARNING_RATE=${LEARNING_RATE-1e-05}" in capsys.readouterr().out


def test_it_needs_the_standard_library_alone() -> None:
    for name in ("header.py", "__init__.py", "__main__.py", "options.py"):
        lines = (RUNTIME / name).read_text().splitlines()
        imported = {line.split()[1].split(".")[0] for line in lines if line.startswith(("import ", "from "))}
        assert imported <= {*sys.stdlib_module_names, "runtime"}
