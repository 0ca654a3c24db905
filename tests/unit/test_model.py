"""launcher.model: a folder as it is, or what the hub's cache gives."""

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from launcher import model
from launcher.errors import ModelNotFoundError
from launcher.plan import Model


def test_folder(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = bench.model()
    assert model.resolve(str(folder), download=True) == Model(name=str(folder), path=folder, root=folder)
    monkeypatch.chdir(folder.parent)
    assert model.resolve("tiny", download=True).path == folder


def test_snapshot_is_its_whole_entry_also_through_a_link(bench: Any) -> None:
    snapshot = bench.snapshot()
    entry = snapshot.parent.parent
    assert model.resolve(str(snapshot), download=True) == Model(name=str(snapshot), path=snapshot, root=entry)
    link = bench.folder / "bge"
    link.symlink_to(snapshot)
    assert model.resolve(str(link), download=True) == Model(name=str(link), path=snapshot, root=entry)


@pytest.mark.parametrize("name", ["/nowhere/model", "./model", "~/model", "a/b/c", "model"])
def test_no_such_folder(name: str) -> None:
    with pytest.raises(ModelNotFoundError, match="there is no model folder"):
        model.resolve(name, download=True)


def test_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="is not a model") as caught:
        model.resolve(str(tmp_path), download=True)
    assert "config.json" in caught.value.why


def test_hub_model_that_is_in_the_cache(bench: Any) -> None:
    snapshot = bench.snapshot()
    calls = []

    def download(name: str, **options: object) -> str:
        calls.append(options.get("local_files_only"))
        return str(snapshot)

    bench.patch.setattr("huggingface_hub.snapshot_download", download)
    found = model.resolve("BAAI/bge-m3", download=True)
    assert (found.path, found.root, found.revision) == (snapshot, snapshot.parent.parent, "5" * 40)
    assert calls == [True]  # the network is not asked


def test_hub_model_that_is_not(bench: Any) -> None:
    snapshot = bench.snapshot()

    def download(name: str, *, local_files_only: bool = False, **_: object) -> str:
        if local_files_only:
            raise LocalEntryNotFoundError("not there")
        return str(snapshot)

    bench.patch.setattr("huggingface_hub.snapshot_download", download)
    assert model.resolve("BAAI/bge-m3", download=True).path == snapshot
    planned = model.resolve("BAAI/bge-m3", download=False)
    assert not planned.path.exists()
    assert planned.root.name == "models--BAAI--bge-m3"


def answer() -> Any:
    return SimpleNamespace(headers={}, request=None, status_code=401)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (lambda: GatedRepoError("x", response=answer()), "is gated"),
        (lambda: RepositoryNotFoundError("x", response=answer()), "the hub has no model"),
        (lambda: LocalEntryNotFoundError("offline"), "cannot be downloaded"),
        (lambda: HfHubHTTPError("x", response=answer()), "cannot be downloaded"),
        (lambda: OSError(28, "No space left on device"), "cannot be downloaded"),
        (lambda: ValueError(), "cannot be downloaded"),
    ],
)
def test_hub_refuses(monkeypatch: pytest.MonkeyPatch, error: Any, message: str) -> None:
    def download(name: str, **_: object) -> str:
        raise error()

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(ModelNotFoundError, match=message) as caught:
        model.resolve("org/name", download=True)
    assert caught.value.hint or caught.value.why


def test_weights_hash_is_over_names_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "b.bin").write_bytes(b"2")
    (tmp_path / "a.safetensors").write_bytes(b"1")
    (tmp_path / "config.json").write_text("{}")
    expected = hashlib.sha256(b"a.safetensors\x001b.bin\x002").hexdigest()
    found = Model(name="x", path=tmp_path, root=tmp_path)
    assert model.weights_sha256(found) == expected
    (tmp_path / "config.json").write_text("{ }")
    assert model.weights_sha256(found) == expected
    (tmp_path / "b.bin").rename(tmp_path / "c.bin")
    assert model.weights_sha256(found) != expected
