"""images/checks/pruned.py finds whoever asks for what images/seal.py removed."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

PATTERNS = ["lib/**/tests", "lib/_*/tests/test_*", "lib/x/libgone.so*", "lib/bin/*[Tt]est*", "examples"]


@pytest.fixture
def pruned(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    folder = checkout / "images" / "checks"
    monkeypatch.syspath_prepend(str(folder))
    path = list(sys.path)
    spec = importlib.util.spec_from_file_location("pruned", folder / "pruned.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = path
    sys.modules.pop("_common")


def write(site: Path, **texts: str) -> None:
    for name, text in texts.items():
        path = site / "lib" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(
    "text",
    [
        "import lib.sub.tests",
        "from lib.tests import helper",
        "from . import tests",
        "from .tests.test_it import x",
        "try:\n    import lib.tests.a\nexcept ImportError:\n    pass",
        "try:\n    pass\nfinally:\n    import lib.tests.a",
        "if x:\n    pass\nelse:\n    import lib.tests.a",
        "for x in y:\n    from lib._core.tests import test_dtype",
        "class A:\n    from lib.tests import helper",
        "import examples",
    ],
)
def test_an_import_that_runs_is_found(pruned: ModuleType, tmp_path: Path, text: str) -> None:
    write(tmp_path, module=text)
    assert len(set(pruned.asked(tmp_path, PATTERNS))) >= 1


@pytest.mark.parametrize(
    "text",
    [
        "def run():\n    import lib.tests.a",
        "import lib.testing",
        "from lib._core.tests import kept",  # not removed: only its tests are
        "import tests",
        "print 'tests'  # for another Python\n",
        "x = 'import lib.tests'",
    ],
)
def test_what_asks_for_nothing_is_left_alone(pruned: ModuleType, tmp_path: Path, text: str) -> None:
    write(tmp_path, module=text)
    assert not list(pruned.asked(tmp_path, [p for p in PATTERNS if p != "lib/**/tests"] + ["lib/tests"]))


def test_what_is_still_there_may_be_asked_for(pruned: ModuleType, tmp_path: Path) -> None:
    write(tmp_path, module="import lib.tests.a")
    (tmp_path / "lib" / "tests").mkdir()
    (tmp_path / "lib" / "tests" / "a.py").write_text("")
    assert not list(pruned.asked(tmp_path, PATTERNS))


def test_whoever_names_a_removed_library_is_found(pruned: ModuleType, tmp_path: Path) -> None:
    write(tmp_path, loads="ctypes.CDLL('libgone.so.1')", other="libgone")
    (tmp_path / "lib" / "needs.so").write_bytes(b"\x7fELF\0libgone.so\0")
    (tmp_path / "lib" / "empty.so").write_bytes(b"")
    catalogue = tmp_path / pruned.CATALOGUES[0] / "catalogue.py"
    catalogue.parent.mkdir(parents=True)
    catalogue.write_text("NAMES = ['libgone.so']")
    found = sorted(pruned.named(tmp_path, [b"libgone.so"]))
    assert found == ["lib/loads.py names libgone.so", "lib/needs.so names libgone.so"]


def test_the_patterns_of_the_build_are_understood(pruned: ModuleType, checkout: Path) -> None:
    pruned.SEAL = checkout / "images" / "seal.py"
    patterns = [pattern for several in pruned.seal().PRUNED.values() for pattern in several]
    for pattern, path, removed in (
        ("numpy/[!_]*/**/tests", "numpy/lib/tests/test_io", True),
        ("numpy/[!_]*/**/tests", "numpy/_core/tests/_natype", False),
        ("scipy/**/tests", "scipy/tests", True),
        ("torch/bin/*[Tt]est*", "torch/bin/HashStoreTest", True),
        ("torch/bin/protoc*", "torch/bin/torch_shm_manager", False),
    ):
        assert pattern in patterns
        assert bool(pruned.expression(pattern).match(path)) is removed, (pattern, path)
