"""launcher.app.environments: kernels in the user's Jupyter; nobody else's is touched."""

import json
from pathlib import Path

import pytest

from launcher import jupyter, manifest
from launcher.app import environments
from launcher.app.environments import Found
from launcher.errors import OutputError, UsageError


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    return tmp_path / "jupyter"


@pytest.fixture
def found() -> Found:
    return Found(target=manifest.shipped().target("xpu"), folder=Path("/envs/xpu-1"), notes=())


def test_a_kernel_runs_the_environments_python_with_the_targets_variables(found: Found, data: Path) -> None:
    folder = environments.register(found, None)
    assert folder == data / "kernels" / "finetune-xpu"
    spec = json.loads((folder / "kernel.json").read_text())
    assert spec["argv"][0] == "/envs/xpu-1/bin/python"
    assert spec["display_name"] == "Fine-tuning (xpu)"
    assert spec["env"]["LD_LIBRARY_PATH"] == "/envs/xpu-1/lib"
    assert spec["env"]["PATH"] == "/envs/xpu-1/bin:${PATH}"


def test_registering_again_replaces_and_unregistering_removes(found: Found, data: Path) -> None:
    environments.register(found, "mine")
    folder = environments.register(found, "mine")
    assert [path.name for path in folder.iterdir()] == ["kernel.json"]
    assert "mine" in json.loads((folder / "kernel.json").read_text())["display_name"]
    assert environments.unregister("xpu", "mine") == folder
    assert not folder.exists()
    assert environments.unregister("xpu", "mine") is None


@pytest.mark.parametrize("content", ['{"argv": []}', "not json", '{"metadata": null}', "[]", None])
def test_somebody_elses_kernel_stays(found: Found, data: Path, content: str | None) -> None:
    folder = data / "kernels" / "finetune-xpu"
    folder.mkdir(parents=True)
    if content is not None:
        (folder / "kernel.json").write_text(content)
    for action in (lambda: environments.register(found, None), lambda: environments.unregister("xpu", None)):
        with pytest.raises(OutputError, match="did not write"):
            action()
    assert content is None or (folder / "kernel.json").read_text() == content


@pytest.mark.parametrize("name", ["", "..", "a/b", "Upper", "-x", "a b"])
def test_names_that_are_none(found: Found, data: Path, name: str) -> None:
    with pytest.raises(UsageError, match="name"):
        environments.register(found, name)


def test_where_kernels_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("JUPYTER_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert environments.kernels() == tmp_path / "data" / "jupyter" / "kernels"
    monkeypatch.delenv("XDG_DATA_HOME")
    assert environments.kernels() == tmp_path / "home" / ".local" / "share" / "jupyter" / "kernels"


def test_ours_is_told_by_its_metadata(found: Found) -> None:
    assert jupyter.is_ours(jupyter.kernel(found.target, found.folder))
