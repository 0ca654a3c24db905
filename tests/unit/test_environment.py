"""The embedded environment: complete or not there, and what it holds is what the lock says."""

from pathlib import Path

import pytest

from launcher import manifest
from launcher.errors import CheckError, EngineError, FetchError, ProgramError
from launcher.image import environment, fetch, uv
from launcher.lock import Lock, LockedPackage, TargetLock
from launcher.manifest import Target
from launcher.progress import Silent


@pytest.fixture
def xpu(checkout: Path) -> Target:
    return manifest.load(checkout / "images" / "manifest.toml").target("xpu")


def target_lock(**versions: str) -> TargetLock:
    packages = tuple(
        LockedPackage(
            name=name, version=version, filename=f"{name}-{version}-py3-none-any.whl", sha256="a" * 64
        )
        for name, version in sorted(versions.items())
    )
    layer = Lock(owner="xpu", layer="torch", packages=packages, manifest_digest="0" * 64, tool="uv 1")
    return TargetLock(target="xpu", layers=(layer,), build=None)


def installed(place: Path, **versions: str) -> Path:
    for name, version in versions.items():
        folder = place / "lib" / "python3.12" / "site-packages" / f"{name}-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return place


def test_without_its_marker_it_is_not_there() -> None:
    lock = target_lock(torch="1")
    place = environment.folder(lock)
    assert environment.existing(lock) is None
    (place / "bin").mkdir(parents=True)
    assert environment.existing(lock) is None
    (place / ".complete").touch()
    found = environment.existing(lock)
    assert found == environment.Environment(folder=place, python=place / "bin" / "python")


def test_a_complete_one_is_used_as_it_is(xpu: Target) -> None:
    lock = target_lock(torch="1")
    environment.folder(lock).mkdir(parents=True)
    (environment.folder(lock) / ".complete").touch()
    assert environment.ensure(xpu, lock, progress=Silent()) == environment.existing(lock)


DOWNLOAD = """\
warning: Failed to inspect Python interpreter from search path at `/home/me/.pyenv/shims/python3.12`
  cause: Querying Python failed with exit status exit status: 127
error: Request failed after 3 retries in 9.2s
  cause: Failed to download `https://…/cpython-3.12.tar.gz`
  cause: error sending request for url (https://…/cpython-3.12.tar.gz)
  cause: dns error: failed to lookup address information"""

SHIM = """\
error: Failed to inspect Python interpreter from first executable in the search path
  Caused by: Querying Python at `/home/me/.pyenv/shims/python3.12` failed with exit status: 127

         [stderr]
         pyenv: python3.12: command not found"""


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (
            "error: No interpreter found for Python 3.12 in search path\n\nhint: …",
            "No interpreter found for Py",
        ),
        ("no interpreter found", "no interpreter found"),
        (DOWNLOAD, "dns error: failed to lookup address information"),
        (SHIM, "Querying Python at `/home/me/.pyenv/shims/python3.12` failed with exit status: 127"),
        ("", ""),
    ],
)
def test_a_missing_python_says_what_to_do_before_anything_is_fetched(
    xpu: Target, monkeypatch: pytest.MonkeyPatch, said: str, why: str
) -> None:
    def fail(*_: object, **__: object) -> str:
        raise ProgramError("uv venv failed", output=said)

    fetched: list[object] = []
    monkeypatch.setattr(uv, "run", fail)
    monkeypatch.setattr(fetch, "fetch", lambda *_, **__: fetched.append(1))
    with pytest.raises(EngineError, match=r"no Python 3\.12") as caught:
        environment.ensure(xpu, target_lock(torch="1"), progress=Silent())
    assert caught.value.why.startswith(why)
    assert "\n" not in caught.value.why
    for way in (
        "install python3.12",
        "uv python install 3.12",
        "UV_PYTHON_INSTALL_MIRROR",
        "--engine docker",
    ):
        assert way in caught.value.hint
    assert not fetched


def test_an_environment_whose_files_cannot_be_had_is_not_there(
    xpu: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_files(*_: object, **__: object) -> None:
        raise FetchError("files are missing", ["torch"])

    lock = target_lock(torch="1")
    monkeypatch.setattr(uv, "run", lambda *_, **__: environment.folder(lock).mkdir())
    monkeypatch.setattr(fetch, "fetch", no_files)
    with pytest.raises(FetchError):
        environment.ensure(xpu, lock, progress=Silent())
    assert environment.existing(lock) is None


def test_what_is_installed_is_compared_with_the_lock(
    xpu: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(*_: object, **__: object) -> str:
        raise ProgramError(
            "uv pip failed",
            output=(
                "Found 3 incompatibilities\n"
                "The package `unsloth` requires `triton>=3.0.0 ; os_name=='posix'`, but it's not installed\n"
                "The package `unsloth` requires `xformers`, but it's not installed\n"
                "The package `torch` requires `sympy>=1.13.3`, but `1.0` is installed\n"
            ),
        )

    monkeypatch.setattr(uv, "run", check)
    place = installed(tmp_path / "env", torch="2.9.0", sympy="1.0", stray="1")
    with pytest.raises(CheckError) as caught:
        environment._verify(xpu, target_lock(torch="2.9.0+xpu", sympy="1.14", numpy="2.5"), place)
    assert caught.value.problems == (
        "numpy: nothing instead of 2.5",
        "sympy: 1.0 instead of 1.14",
        "stray: not in the lock",
        "torch needs sympy>=1.13.3",
    )


def test_what_the_manifest_keeps_out_is_not_missed(
    xpu: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(*_: object, **__: object) -> str:
        raise ProgramError(
            "uv pip failed", output="The package `unsloth` requires `triton>=3.0.0`, but it's not installed"
        )

    monkeypatch.setattr(uv, "run", check)
    environment._verify(xpu, target_lock(torch="2"), installed(tmp_path / "env", torch="2"))
