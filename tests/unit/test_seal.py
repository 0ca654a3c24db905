"""images/seal.py: what is removed, and what is kept once."""

import hashlib
import importlib.util
from base64 import urlsafe_b64encode
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def seal(checkout: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("seal", checkout / "images" / "seal.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(site: Path, *names: str, content: bytes = b"") -> None:
    for name in names:
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_bytes(content)


def test_numpys_tests_go_and_what_stands_beside_them_stays(seal: ModuleType, tmp_path: Path) -> None:
    stays = ("numpy/_core/tests/__init__.py", "numpy/_core/tests/_natype.py", "numpy/testing/__init__.py")
    goes = (
        "numpy/_core/tests/test_dtype.py",
        "numpy/_core/tests/data/x.csv",
        "numpy/tests/test_all.py",
        "numpy/lib/tests/test_io.py",
    )
    write(tmp_path, *stays, *goes)
    seal.remove(tmp_path, seal.PRUNED["numpy"])
    assert sorted(str(f.relative_to(tmp_path)) for f in tmp_path.rglob("*") if f.is_file()) == sorted(stays)


@pytest.mark.parametrize(
    ("version", "kept"),
    [
        ("cuda: Optional[str] = '12.8'\nxpu: Optional[str] = None\n", {"cpu", "cuda128"}),
        ("cuda: Optional[str] = None\nxpu: Optional[str] = '20250201'\n", {"cpu", "xpu2025", "xpu2026"}),
        ("cuda: Optional[str] = None\n", {"cpu"}),
        (None, {"cpu", "cuda118", "cuda128", "rocm64", "xpu2025", "xpu2026"}),
    ],
)
def test_only_the_installed_torchs_library_stays(
    seal: ModuleType, tmp_path: Path, version: str | None, kept: set[str]
) -> None:
    if version is not None:
        write(tmp_path, "torch/version.py", content=version.encode())
    names = ("cpu", "cuda118", "cuda128", "rocm64", "xpu2025", "xpu2026")
    write(tmp_path, *(f"bitsandbytes/libbitsandbytes_{name}.so" for name in names))
    for path in seal.other_accelerators(tmp_path, seal.ACCELERATED["bitsandbytes"]):
        path.unlink()
    left = {path.stem.split("_")[1] for path in (tmp_path / "bitsandbytes").iterdir()}
    assert left == kept


def test_equal_files_become_one_with_several_names(seal: ModuleType, tmp_path: Path) -> None:
    large, small = b"x" * seal.SHARED, b"x" * (seal.SHARED - 1)
    write(tmp_path, "a/lib.so", "b/lib.so.1", "b/lib.so", content=large)
    write(tmp_path, "a/small", "b/small", content=small)
    write(tmp_path, "a/other.so", content=large[:-1] + b"y")
    rows = []
    for path in sorted(path for path in tmp_path.rglob("*") if path.is_file()):
        checksum = urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).decode().rstrip("=")
        rows.append([str(path.relative_to(tmp_path)), f"sha256={checksum}", str(path.stat().st_size)])
    seal.share(tmp_path, rows)
    assert {name: (tmp_path / name).stat().st_nlink for name, *_ in rows} == {
        **{"a/lib.so": 3, "b/lib.so": 3, "b/lib.so.1": 3},
        **{"a/small": 1, "b/small": 1, "a/other.so": 1},
    }
    assert (tmp_path / "b/lib.so").read_bytes() == large
    seal.share(tmp_path, rows)  # again: nothing to do
    assert (tmp_path / "b/lib.so").stat().st_nlink == 3
