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

from launcher import model, paths, recipe
from launcher.app import models
from launcher.errors import ModelNotFoundError
from launcher.plan import Model


def resolved(name: str, path: Path, root: Path) -> model.Resolved:
    return model.Resolved(model=Model(name=name, path=path, root=root))


def test_folder(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = bench.model()
    assert model.resolve(str(folder), download=True) == resolved(str(folder), folder, folder)
    monkeypatch.chdir(folder.parent)
    assert model.resolve("tiny", download=True).model.path == folder


def test_snapshot_is_its_whole_entry_also_through_a_link(bench: Any) -> None:
    snapshot = bench.snapshot()
    entry = snapshot.parent.parent
    assert model.resolve(str(snapshot), download=True) == resolved(str(snapshot), snapshot, entry)
    link = bench.folder / "bge"
    link.symlink_to(snapshot)
    assert model.resolve(str(link), download=True) == resolved(str(link), snapshot, entry)


@pytest.mark.parametrize("name", ["/nowhere/model", "./model", "~/model", "a/b/c", "model"])
def test_no_such_folder(name: str) -> None:
    with pytest.raises(ModelNotFoundError, match="there is no model folder"):
        model.resolve(name, download=True)


def test_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="is not a model") as caught:
        model.resolve(str(tmp_path), download=True)
    assert "config.json" in caught.value.why


class Hub:
    """The hub's library over a cache that lacks ``missing`` files; ``calls`` are those that went online."""

    def __init__(self, bench: Any, *missing: str, cached: bool = True) -> None:
        self.snapshot: Path = bench.snapshot()
        self.files = [file.name for file in self.snapshot.iterdir()] + ["sparse_linear.pt", "onnx/model.onnx"]
        self.cached, self.online, self.delivers, self.calls = cached, True, True, list[str]()
        for name in self.files[:-1]:
            if name not in missing:
                (self.snapshot / name).touch()
        bench.patch.setattr("huggingface_hub.snapshot_download", self.download)
        bench.patch.setattr("huggingface_hub.HfApi", lambda: self)

    def download(
        self, name: str, *, revision: str | None = None, local_files_only: bool = False, **options: object
    ) -> str:
        assert "onnx/*" in options["ignore_patterns"]  # type: ignore[operator]
        if local_files_only:
            if not self.cached:
                raise LocalEntryNotFoundError("not there")
            return str(self.snapshot)
        self.calls.append(f"download {revision}")
        if self.delivers:
            self.cached = True
            for file in self.files[:-1]:
                (self.snapshot / file).touch()
        return str(self.snapshot)  # offline as well: so it is in the library

    def model_info(self, name: str, *, revision: str, timeout: float) -> Any:
        self.calls.append(f"ask {revision}")
        if not self.online:
            raise RuntimeError("some HTTP library's own")
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in self.files])


COMMIT = "5" * 40


def test_cached_snapshot_is_completed_once(bench: Any) -> None:
    hub = Hub(bench, "sparse_linear.pt")
    for _ in range(2):
        found = model.resolve("BAAI/bge-m3", download=True)
        assert found.complete
        assert (found.model.path, found.model.root, found.model.revision) == (
            hub.snapshot, hub.snapshot.parent.parent, COMMIT,
        )  # fmt: skip
        assert (hub.snapshot / "sparse_linear.pt").is_file()
    assert hub.calls == [f"ask {COMMIT}", f"download {COMMIT}"]


def test_complete_snapshot_is_asked_about_once_and_downloads_nothing(bench: Any) -> None:
    hub = Hub(bench)
    assert model.resolve("BAAI/bge-m3", download=True).complete
    hub.online = False
    assert model.resolve("BAAI/bge-m3", download=True).complete
    assert hub.calls == [f"ask {COMMIT}"]


def test_marker_holds_only_while_the_files_are_there(bench: Any) -> None:
    hub = Hub(bench)
    assert model.resolve("BAAI/bge-m3", download=True).complete
    (hub.snapshot / "sparse_linear.pt").unlink()
    assert model.resolve("BAAI/bge-m3", download=True).complete
    assert hub.calls[-1] == f"download {COMMIT}"
    assert (hub.snapshot / "sparse_linear.pt").is_file()


def test_partial_snapshot_without_the_hub_is_taken_and_not_marked(bench: Any) -> None:
    hub = Hub(bench, "sparse_linear.pt")
    hub.online = False
    for _ in range(2):
        found = model.resolve("BAAI/bge-m3", download=True)
        assert (found.model.path, found.complete) == (hub.snapshot, False)
    assert hub.calls == [f"ask {COMMIT}"] * 2


def test_partial_snapshot_that_the_hub_does_not_complete(bench: Any) -> None:
    hub = Hub(bench, "sparse_linear.pt")
    hub.delivers = False
    with pytest.raises(ModelNotFoundError, match="not all of it") as caught:
        model.resolve("BAAI/bge-m3", download=True)
    assert "sparse_linear.pt" in caught.value.why
    assert not (paths.cache() / "models").exists()


def test_dry_run_asks_nothing(bench: Any) -> None:
    hub = Hub(bench, "sparse_linear.pt")
    assert not model.resolve("BAAI/bge-m3", download=False).complete
    assert hub.calls == []


def test_cache_that_cannot_be_written_only_costs_the_question(bench: Any) -> None:
    hub = Hub(bench)
    paths.cache().mkdir(parents=True, exist_ok=True)
    (paths.cache() / "models").touch()
    for _ in range(2):
        assert model.resolve("BAAI/bge-m3", download=True).complete
    assert hub.calls == [f"ask {COMMIT}"] * 2


def test_hub_model_that_is_not_in_the_cache(bench: Any) -> None:
    hub = Hub(bench, cached=False)
    planned = model.resolve("BAAI/bge-m3", download=False).model
    assert not planned.path.exists()
    assert planned.root.name == "models--BAAI--bge-m3"
    assert hub.calls == []
    for _ in range(2):
        found = model.resolve("BAAI/bge-m3", download=True)
        assert (found.model.path, found.complete) == (hub.snapshot, True)
    assert hub.calls == ["download None"]


@pytest.mark.parametrize(("download", "note"), [(True, "was not reached"), (False, "a start asks")])
def test_plan_says_what_nobody_knows(bench: Any, download: bool, note: str) -> None:
    Hub(bench, "sparse_linear.pt").online = False
    notes: list[str] = []
    found = recipe.load(recipe.find("bge-m3-unified", paths.recipes()))
    assert models.first("BAAI/bge-m3", found, dry_run=not download, notes=notes) is not None
    assert len(notes) == 1
    assert note in notes[0]


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
    def download(name: str, *, local_files_only: bool = False, **_: object) -> str:
        raise LocalEntryNotFoundError("not there") if local_files_only else error()

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(ModelNotFoundError, match=message) as caught:
        model.resolve("org/name", download=True)
    assert caught.value.hint or caught.value.why


@pytest.mark.parametrize("download", [True, False])
def test_what_cannot_be_an_id_is_refused(download: bool) -> None:
    with pytest.raises(ModelNotFoundError, match="cannot be downloaded") as caught:
        model.resolve("org/two words", download=download)
    assert "two words" in caught.value.why


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
