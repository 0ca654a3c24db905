"""recipes/runtime: the reader of defaults, and the module runner (the metrics need the trainer)."""

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
    for name in ("header.py", "__init__.py", "__main__.py"):
        lines = (RUNTIME / name).read_text().splitlines()
        imported = {line.split()[1].split(".")[0] for line in lines if line.startswith(("import ", "from "))}
        assert imported <= sys.stdlib_module_names


@pytest.fixture
def attached(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """A stand-in for the metrics, which would import the trainer."""
    calls: list[bool] = []
    package, metrics = ModuleType("runtime"), ModuleType("runtime.metrics")
    metrics.attach = lambda: calls.append(True)  # type: ignore[attr-defined]
    package.metrics = metrics  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "runtime", package)
    monkeypatch.setitem(sys.modules, "runtime.metrics", metrics)
    return calls


def test_the_trainer_is_run_as_if_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attached: list[bool], capsys: pytest.CaptureFixture[str]
) -> None:
    package = tmp_path / "trainer_of_tests"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "main.py").write_text("import sys\nprint(__name__, sys.argv[0], sys.argv[1:])\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["runtime", "-m", "trainer_of_tests.main", "--x", "a b", "-m", "y"])
    load("__main__").main()
    assert attached == [True]
    assert capsys.readouterr().out == f"__main__ {package / 'main.py'} ['--x', 'a b', '-m', 'y']\n"


@pytest.mark.parametrize("argv", [["runtime"], ["runtime", "-m"], ["runtime", "trainer.py", "x"]])
def test_usage(monkeypatch: pytest.MonkeyPatch, argv: list[str]) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(SystemExit, match="usage: python -m runtime -m MODULE"):
        load("__main__").main()
