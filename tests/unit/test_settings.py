"""launcher.settings: each value with its origin; the user's own package indexes."""

import os
import string
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from launcher import paths, settings
from launcher.errors import SettingsError
from launcher.settings import Setting


def load(text: str, folder: Path, **environment: str) -> settings.Settings:
    file = folder / "config.toml"
    file.write_text(text)
    return settings.load(environment, file)


def test_defaults(tmp_path: Path) -> None:
    found = settings.load({}, tmp_path / "nowhere.toml")
    assert found.target == Setting(value="auto", origin="default")
    assert (found.engine.value, found.base.value, found.stop_grace.value, found.shm_size.value) == (
        "auto",
        None,
        20.0,
        None,
    )


def test_environment_goes_before_the_file(tmp_path: Path) -> None:
    found = load('engine = "venv"\nstop_grace = 5', tmp_path, LAUNCH_ENGINE="docker", LAUNCH_BASE="")
    assert found.engine == Setting(value="docker", origin="LAUNCH_ENGINE")
    assert found.stop_grace == Setting(value=5.0, origin=str(tmp_path / "config.toml"))
    assert found.base == Setting(value=None, origin="default")


def test_all_problems_each_with_its_origin(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load('engine = "kubernetes"\nsurprise = 1\nshm_size = "big"', tmp_path, LAUNCH_STOP_GRACE="soon")
    problems = "\n".join(caught.value.problems)
    file = tmp_path / "config.toml"
    for part in (f"engine (from {file})", f"surprise (from {file})", f"shm_size (from {file})"):
        assert part in problems
    assert "stop_grace (from LAUNCH_STOP_GRACE)" in problems
    assert len(caught.value.problems) == 4


@pytest.mark.parametrize("grace", ["0", "-1", "nan", "inf", "3601", "x"])
def test_grace_that_cannot_be(tmp_path: Path, grace: str) -> None:
    with pytest.raises(SettingsError, match="cannot be used"):
        load("", tmp_path, LAUNCH_STOP_GRACE=grace)


@pytest.mark.parametrize("content", [b"a = ", b"\xff", b"a = " + b"9" * 5000, b"a = " + b"[" * 5000])
def test_file_that_is_no_toml(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match="is not valid TOML"):
        settings.load({}, file)


def test_real_places_are_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAUNCH_TARGET", "xpu")
    paths.config_file().parent.mkdir(parents=True)
    paths.config_file().write_text('base = "debian:12"')
    found = settings.load()
    assert found.target == Setting(value="xpu", origin="LAUNCH_TARGET")
    assert found.base == Setting(value="debian:12", origin=str(paths.config_file()))


valid = st.fixed_dictionaries(
    {},
    optional={
        "target": st.sampled_from(["auto", "cpu", "xpu"]),
        "engine": st.sampled_from(["auto", "docker", "podman", "venv"]),
        "gpus": st.sampled_from(["auto", "all", "0", "1,0", "0, 1", "GPU-8932f937,MIG-1"]),
        "base": st.text(string.ascii_lowercase + ":/", min_size=1),
        "stop_grace": st.floats(0.5, 3600) | st.integers(1, 3600),
        "shm_size": st.from_regex(r"[0-9]{1,3}[kmgKMG]?", fullmatch=True),
    },
)
KEYS = ("target", "engine", "gpus", "base", "without", "stop_grace", "shm_size")


@given(in_file=valid, in_environment=valid)
def test_every_valid_value_with_its_origin(
    tmp_path_factory: pytest.TempPathFactory, in_file: dict[str, Any], in_environment: dict[str, Any]
) -> None:
    file = tmp_path_factory.getbasetemp() / "valid.toml"
    file.write_text(tomli_w.dumps(in_file))
    found = settings.load(
        {f"LAUNCH_{key.upper()}": str(value) for key, value in in_environment.items()}, file
    )
    for key in KEYS:
        setting = getattr(found, key)
        if key in in_environment:
            assert setting == Setting(value=in_environment[key], origin=f"LAUNCH_{key.upper()}")
        elif key in in_file:
            assert setting == Setting(value=in_file[key], origin=str(file))
        else:
            assert setting.origin == "default"


values = (
    st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.dates() | st.lists(st.integers())
)


@given(
    in_file=st.dictionaries(
        st.sampled_from(KEYS) | st.text(string.ascii_letters, max_size=3), values, max_size=4
    ),
    in_environment=st.dictionaries(st.sampled_from(KEYS), st.text(max_size=6), max_size=3),
)
def test_any_value_gives_no_other_exception(
    tmp_path_factory: pytest.TempPathFactory, in_file: dict[str, Any], in_environment: dict[str, str]
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_text(tomli_w.dumps(in_file), encoding="utf-8", errors="replace")
    environment = {f"LAUNCH_{key.upper()}": value for key, value in in_environment.items()}
    try:
        settings.load(environment, file)
    except SettingsError as error:
        problems = error.problems
    else:
        problems = ("none",)
    assert problems


# ------------------------------------------------------------------------------------------- indexes
def pip_home(folder: Path, text: str) -> dict[str, str]:
    file = folder / ".config" / "pip" / "pip.conf"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    return {"HOME": str(folder)}


@pytest.fixture(autouse=True)
def no_system_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """pip's files of this machine stay out."""
    found = settings._pip_files

    def below(environment: Any) -> list[Path]:
        return [file for file in found(environment) if file.is_relative_to(tmp_path)]

    monkeypatch.setattr(settings, "_pip_files", below)


def test_pips_settings_reach_uv(tmp_path: Path) -> None:
    environment = pip_home(
        tmp_path,
        "[global]\nindex_url = https://mirror/simple\nextra-index-url = https://other/simple\n"
        "[install]\nfind-links = /a\n  https://b/links\ncert = /ca.pem\n",
    )
    found = settings.indexes(environment)
    assert found.uv_arguments() == (
        *("--default-index", "https://mirror/simple"),
        *("--find-links", "/a", "--find-links", "https://b/links"),
    )
    assert found.uv_environment() == {"SSL_CERT_FILE": "/ca.pem"}
    assert found.index_url.origin.endswith("pip.conf")
    assert not any("other" in argument for argument in found.uv_arguments())


def test_variables_go_before_files_and_uvs_before_pips(tmp_path: Path) -> None:
    environment = pip_home(tmp_path, "[global]\nindex-url = https://file/simple\n")
    found = settings.indexes({**environment, "PIP_INDEX_URL": "https://variable/simple"})
    assert found.index_url == Setting(value="https://variable/simple", origin="PIP_INDEX_URL")
    for variable in ("UV_DEFAULT_INDEX", "UV_INDEX_URL"):
        found = settings.indexes({**environment, variable: "https://uv/simple"})
        assert found.index_url == Setting(value=None, origin=variable)
        assert found.uv_arguments() == ()


def test_named_file_and_no_file(tmp_path: Path) -> None:
    environment = pip_home(tmp_path, "[global]\nindex-url = https://home/simple\n")
    named = tmp_path / "named.conf"
    named.write_text("[global]\nindex-url = https://named/simple\n")
    assert settings.indexes({**environment, "PIP_CONFIG_FILE": str(named)}).index_url.value == (
        "https://named/simple"
    )
    assert settings.indexes({**environment, "PIP_CONFIG_FILE": os.devnull}).index_url.value is None


@pytest.mark.parametrize("content", ["index-url = x\n", "[global\n", "\xff"])
def test_pips_broken_files_are_pips_business(tmp_path: Path, content: str) -> None:
    environment = pip_home(tmp_path, "")
    (tmp_path / ".config/pip/pip.conf").write_bytes(content.encode("latin-1"))
    assert settings.indexes(environment).index_url == Setting(value=None, origin="default")
