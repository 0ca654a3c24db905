"""launcher.runs.checkpoints: which checkpoint a training can go on from."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.runs import checkpoints
from tests.unit.test_runtime import load

FILES = {"model.safetensors": b"weights" * 100, "optimizer.pt": b"states", "trainer_state.json": b"{}"}


def checkpoint(output: Path, step: int) -> Path:
    """A complete checkpoint, as the runtime leaves it."""
    folder = output / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    files = {}
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
        files[name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    marker = {"schema": 1, "step": step, "world_size": 1, "files": files}
    (folder / "complete.json").write_text(json.dumps(marker))
    return folder


def test_the_newest_one_that_is_whole(tmp_path: Path) -> None:
    for step in (5, 10, 100):
        checkpoint(tmp_path, step)
    found, broken = checkpoints.last_complete(tmp_path)
    assert found is not None
    assert (found.step, found.folder.name, broken) == (100, "checkpoint-100", ())


def test_no_output_and_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-best").mkdir()
    (tmp_path / "checkpoint-7").write_text("a file")
    for output in (tmp_path, tmp_path / "missing"):
        assert checkpoints.last_complete(output) == (None, ())


def lose_marker(folder: Path) -> None:
    (folder / "complete.json").unlink()


def half_a_marker(folder: Path) -> None:
    text = (folder / "complete.json").read_text()
    (folder / "complete.json").write_text(text[: len(text) // 2])


def lose_file(folder: Path) -> None:
    (folder / "optimizer.pt").unlink()


def cut_file(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"weights")


def flip_a_bit(folder: Path) -> None:
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[333] ^= 4
    (folder / "model.safetensors").write_bytes(content)


def newer_version(folder: Path) -> None:
    raw = json.loads((folder / "complete.json").read_text())
    (folder / "complete.json").write_text(json.dumps({**raw, "schema": 2}))


DAMAGE: dict[str, tuple[Any, str]] = {
    "no marker": (lose_marker, "still being written"),
    "half a marker": (half_a_marker, "complete.json is damaged"),
    "a file is missing": (lose_file, "optimizer.pt is missing"),
    "a file is cut": (cut_file, "has 7 bytes and should have 700"),
    "a bit is flipped": (flip_a_bit, "model.safetensors is damaged"),
    "another version": (newer_version, "version 2"),
}


@pytest.mark.parametrize(("damage", "said"), DAMAGE.values(), ids=DAMAGE.keys())
def test_a_broken_one_is_passed_over_and_said(tmp_path: Path, damage: Any, said: str) -> None:
    checkpoint(tmp_path, 5)
    damage(checkpoint(tmp_path, 10))
    found, (broken,) = checkpoints.last_complete(tmp_path)
    assert found is not None
    assert (found.step, broken.step) == (5, 10)
    assert said in broken.problems[0]


def test_what_is_set_aside_is_kept_and_out_of_the_way(tmp_path: Path) -> None:
    for number in (1, 2):
        lose_marker(checkpoint(tmp_path, 10))
        _, (broken,) = checkpoints.last_complete(tmp_path)
        kept = checkpoints.set_aside(broken)
        assert kept.name == f"incomplete-{number}-checkpoint-10"
        assert (kept / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert checkpoints.last_complete(tmp_path) == (None, ())


@pytest.mark.parametrize("damage", [None, *(damage for damage, _ in DAMAGE.values())])
def test_the_runtime_takes_the_same_one_after_a_restart_by_the_site(tmp_path: Path, damage: Any) -> None:
    checkpoint(tmp_path, 5)
    newest = checkpoint(tmp_path, 10)
    (tmp_path / "checkpoint-best").mkdir()
    if damage is not None:
        damage(newest)
    found, broken = checkpoints.last_complete(tmp_path)
    name, said = load("restarts").take(tmp_path)
    assert found is not None
    assert name == found.folder.name
    problems = [next(iter(one.problems)).replace("launcher", "runtime") for one in broken]
    assert said == [
        f"checkpoint-10 is not complete ({problem}): moved to incomplete-1-checkpoint-10"
        for problem in problems
    ]
    assert checkpoints.last_complete(tmp_path) == (found, ())


@given(
    text=st.one_of(st.text(), st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
)
def test_any_marker_is_read_or_named(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("checkpoint")
    (folder / "complete.json").write_text(text, encoding="utf-8", errors="replace")
    assert list(checkpoints.problems(folder))
    assert list(load("restarts").problems(folder))
