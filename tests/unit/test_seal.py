"""images/seal.py: what is removed, what is kept once, what is said of a layer, and how it is compiled."""

import hashlib
import importlib.util
import json
from base64 import urlsafe_b64encode
from pathlib import Path
from types import ModuleType

import pytest

from launcher import lock
from launcher.lock import Lock, LockedPackage


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


def test_unsloths_server_and_command_line_go(seal: ModuleType, tmp_path: Path) -> None:
    site = tmp_path / "lib" / "python3.11" / "site-packages"
    write(site, "unsloth/__init__.py", "studio/backend/main.py", "unsloth_cli/__init__.py")
    write(tmp_path / "bin", "unsloth", "python")
    seal.remove(site, seal.PRUNED["unsloth"])
    left = sorted(file.name for file in tmp_path.rglob("*") if file.is_file())
    assert left == ["__init__.py", "python"]
    assert (site / "unsloth" / "__init__.py").is_file()


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


def _install(site: Path, name: str, files: dict[str, str]) -> Path:
    folder = site / f"{name}-1.0.dist-info"
    folder.mkdir(parents=True)
    for file, text in files.items():
        (site / file).parent.mkdir(parents=True, exist_ok=True)
        (site / file).write_text(text)
    names = [*files, f"{folder.name}/RECORD", f"{folder.name}/direct_url.json"]
    (folder / "direct_url.json").write_text("{}")
    (folder / "RECORD").write_text("".join(f"{file},,\n" for file in reversed(names)))
    return folder


def test_seal_prunes_tests_and_notes_and_keeps_record_true(seal: ModuleType, tmp_path: Path) -> None:
    folder = _install(tmp_path, "pandas", {"pandas/a.py": "", "pandas/tests/t.py": "", "pandas/LICENSE": ""})
    seal.remove(tmp_path, seal.PRUNED["pandas"])
    assert [row[0] for row in seal.tidy_record(tmp_path, folder)][2:] == ["pandas/a.py"]
    listed = [line.split(",")[0] for line in (folder / "RECORD").read_text().splitlines()]
    assert listed == ["pandas-1.0.dist-info/RECORD", "pandas/LICENSE", "pandas/a.py"]
    assert not (folder / "direct_url.json").exists()


def test_seal_reads_the_lock_as_it_is_written(seal: ModuleType) -> None:
    packages = tuple(
        LockedPackage(name=name, version=version, filename=f"{name}.whl", sha256="1" * 64)
        for name, version in (("ir-datasets", "1"), ("torch", "1.0+cpu"))
    )
    text = lock.render(Lock(owner="low", layer="x", packages=packages, manifest_digest="2" * 64, tool="uv 0"))
    plain = "".join(line for line in text.splitlines(keepends=True) if not line.lstrip().startswith("#"))
    assert seal.locked(text) == {"ir-datasets": ("1", "1" * 64), "torch": ("1.0+cpu", "1" * 64)}
    assert seal.locked(plain) == seal.locked(text)  # as the build has it


def test_seal_writes_what_the_layer_holds(seal: ModuleType, tmp_path: Path) -> None:
    site = tmp_path / "lib" / "python3.11" / "site-packages"
    big = _install(site, "big_one", {"big/a.py": "x = 1\n", "big/b": "123", "../../../bin/run": "12"})
    _install(site, "other", {"other.txt": "other layer's"})
    (site / "big" / "again").hardlink_to(site / "big" / "b")  # one file of two names counts once
    with (big / "RECORD").open("a") as stream:
        stream.write("big/again,,\nbig/gone,,\n")
    seal.compile_files([str(site / "big" / "a.py")])
    (compiled,) = (site / "big" / "__pycache__").iterdir()
    notes = sum((big / name).stat().st_size for name in ("RECORD", "direct_url.json"))
    for layer in ("torch", "top"):
        seal.write_bill(site, layer, {"big-one": ("1.0+local", "1" * 64)})
    bills = tmp_path / "share" / "launch"
    assert json.loads((bills / "torch.json").read_text()) == {
        "schema": 1,
        "layer": "torch",
        "position": 0,
        "distributions": [
            {
                "name": "big-one",
                "version": "1.0+local",
                "sha256": "1" * 64,
                "bytes": 6 + 3 + 2 + notes + compiled.stat().st_size,
            }
        ],
    }
    assert json.loads((bills / "top.json").read_text())["position"] == 1
    assert {path.stat().st_mode & 0o777 for path in bills.iterdir()} == {0o644}


def test_sealed_bytecode_is_checked_against_nothing(seal: ModuleType, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    good.write_text("x = {'a', 'b', 'c'}\n")
    bad.write_text("print 'two'\n")
    assert seal.compile_files([str(good), str(bad)]) == 0
    compiled = list((tmp_path / "__pycache__").iterdir())
    assert [path.name.split(".")[0] for path in compiled] == ["good"]
    flags = int.from_bytes(compiled[0].read_bytes()[4:8], "little")
    assert flags == 0b01  # hash-based, check_source unset (PEP 552)
