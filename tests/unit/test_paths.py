"""launcher.paths: where things lie, and files that are never half-written."""

import os
from pathlib import Path

import pytest

from launcher import paths
from launcher.errors import SettingsError


def test_the_checkout(checkout: Path) -> None:
    assert paths.assets() == checkout
    assert paths.is_checkout()
    assert (paths.images() / "manifest.toml").is_file()
    assert (paths.recipes() / "bge-m3-unified.sh").is_file()


def test_an_installed_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site-packages" / "launcher"
    (package / "_assets" / "recipes").mkdir(parents=True)
    monkeypatch.setattr(paths, "__file__", str(package / "paths.py"))
    assert paths.recipes() == package / "_assets" / "recipes"
    assert not paths.is_checkout()


def test_folders_by_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAUNCH_CACHE_DIR", "~/cache")
    monkeypatch.setenv("LAUNCH_RUNS_DIR", "here")
    assert paths.cache() == Path.home() / "cache"
    assert paths.runs() == tmp_path / "here"
    monkeypatch.delenv("LAUNCH_CACHE_DIR")
    monkeypatch.delenv("LAUNCH_RUNS_DIR")
    assert paths.cache() == tmp_path / "home" / "xdg_cache_home" / "finetune-launch"
    assert paths.runs() == tmp_path / "runs"
    assert paths.config_file() == tmp_path / "home" / "xdg_config_home" / "finetune-launch" / "config.toml"


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "user_cache_path", lambda _: Path("~/.cache/finetune-launch"))
    monkeypatch.delenv("LAUNCH_CACHE_DIR", raising=False)
    with pytest.raises(SettingsError) as caught:
        paths.cache()
    assert "LAUNCH_CACHE_DIR" in caught.value.hint


def test_write(tmp_path: Path) -> None:
    file = tmp_path / "new" / "file"
    paths.write_atomic(file, "训\n")
    assert file.read_bytes() == "训\n".encode()
    assert file.stat().st_mode & 0o777 == 0o644
    paths.write_atomic(file, b"\x00", mode=0o600)
    assert file.read_bytes() == b"\x00"
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("step", ["fsync", "chmod", "replace"])
def test_a_failure_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    file = tmp_path / "file"
    file.write_text("before")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os if step == "fsync" else Path, step, full)
    with pytest.raises(OSError, match="No space"):
        paths.write_atomic(file, "after")
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]


def test_an_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        paths.write_atomic(tmp_path / "file", "text")
    assert not list(tmp_path.iterdir())
