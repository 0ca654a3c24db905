"""launcher.runs: the record's folder, its metrics, and what they say about the world."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from launcher import metrics, runs
from launcher.errors import OutputError
from launcher.plan import Folders


@pytest.fixture
def place(tmp_path: Path) -> Folders:
    run = tmp_path / "runs" / "x"
    run.mkdir(parents=True)
    return Folders(run=run, output=run / "output", home=tmp_path / "home")


def test_ids_are_unique_and_fit_an_engine() -> None:
    ids = {runs.new_id("微调 my/recipe") for _ in range(20)}
    assert len(ids) == 20
    for found in ids:
        assert re.fullmatch(r"\d{8}-\d{6}-[A-Za-z0-9_.-]+-[0-9a-f]{6}", found)


def test_runtime_and_buckets() -> None:
    assert metrics.runtime([]) is None
    assert metrics.runtime([{"event": "runtime", "rank": 0, "off": ["a"]}]) == {"off": ["a"]}
    twice = [{"event": "buckets", "buckets": [1]}, {"event": "buckets", "buckets": [2]}, {"event": "end"}]
    assert metrics.buckets(twice) == [2]
    for none in ([], [{"event": "begin"}], [{"event": "buckets"}], [{"event": "buckets", "buckets": "x"}]):
        assert metrics.buckets(none) is None


def test_folders(bench: Any) -> None:
    plan = bench.plan(target="cpu").plan
    place = runs.folders("ID", plan)
    assert place.run == bench.folder / "runs" / "ID"
    assert place.output == place.run / "output"
    assert place.home == bench.folder / "cache" / "home" / "cpu"
    assert not place.run.exists()
    assert runs.folders("ID", plan, parent=Path("/other")).run == Path("/other/ID")


def test_prepare(bench: Any) -> None:
    plan = bench.plan(target="cpu").plan
    place = runs.folders("ID", plan)
    runs.prepare(plan, "ID", "docker run …", place)
    assert (place.run / "command").read_text() == "docker run …\n"
    assert json.loads((place.run / "plan.json").read_text())["target"] == "cpu"
    for folder in (place.output, place.home, place.run / "scratch"):
        assert folder.is_dir()
    assert (place.output / runs.CLAIM).read_text() == "ID\n"
    with pytest.raises(OutputError, match="is not empty"):
        runs.prepare(plan, "ID", "again", place)
    runs.unclaim(place)
    with pytest.raises(OutputError, match="exists"):
        runs.prepare(plan, "ID", "again", place)


def test_two_launchers_never_share_an_output(
    bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plan = bench.plan(target="cpu", output=tmp_path / "out").plan
    monkeypatch.setattr(
        "launcher.runs.folder.refuse_used_output", lambda _: None
    )  # both looked at the same moment
    runs.prepare(plan, "ONE", "docker run …", runs.folders("ONE", plan))
    with pytest.raises(OutputError, match=r"\.launch-run exists"):
        runs.prepare(plan, "TWO", "docker run …", runs.folders("TWO", plan))


def test_refuse_used_output(tmp_path: Path) -> None:
    runs.refuse_used_output(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    runs.refuse_used_output(tmp_path / "empty")
    (tmp_path / "empty" / ".hidden").write_text("")
    for used in (tmp_path / "empty", tmp_path / "empty" / ".hidden"):
        with pytest.raises(OutputError, match="is not empty"):
            runs.refuse_used_output(used)


def test_root_gives_the_folders_to_the_runs_user(place: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    owned: list[tuple[Path, int, int]] = []
    monkeypatch.setattr(os, "chown", lambda path, uid, gid: owned.append((path, uid, gid)))
    monkeypatch.setattr(os, "getuid", lambda: 0)
    runs.own(place, 0, 0)
    assert not owned
    runs.own(place, 1000, 100)
    assert owned == [
        (folder, 1000, 100) for folder in (place.run, place.output, place.home, place.run / "scratch")
    ]
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    runs.own(place, 1001, 100)
    assert len(owned) == 4


def test_metrics_come_as_they_are_written(place: Folders) -> None:
    reader = metrics.Reader(place.run / "metrics.jsonl")
    assert reader.new() == []
    file = place.run / "metrics.jsonl"
    with file.open("ab") as stream:
        for block, expected in (
            (b'{"event": "begin"}\n{"ev', [{"event": "begin"}]),
            (b'ent": "step"', []),
            (b"}\n", [{"event": "step"}]),
            (b'not json\n[1]\n\xff\n{"event": "end"}\n', [{"event": "end"}]),
        ):
            stream.write(block)
            stream.flush()
            assert reader.new() == expected
    assert [event["event"] for event in reader.events] == ["begin", "step", "end"]


def test_numbers() -> None:
    events: list[dict[str, Any]] = [
        {"event": "begin", "rank": 0},
        {"event": "step", "step": 1, "loss": 2.0, "grad_norm": 1.0},
        {"event": "step", "step": 2, "loss": 1.0},
        {"event": "step", "step": 2, "train_loss": 1.5, "train_runtime": 9.0},
        {"event": "end", "rank": 0, "step": 2},
        {"event": "end", "rank": 1, "step": 1},
    ]
    assert metrics.steps(events) == 2
    assert metrics.steps([]) == 0
    assert metrics.final_numbers(events) == {"loss": 1.0, "train_loss": 1.5, "train_runtime": 9.0}


def test_the_planned_world() -> None:
    events = [{"event": "begin", "rank": rank, "world_size": 2} for rank in (1, 0)]
    assert metrics.world_problem([*events, {"event": "end", "step": 1}], 2) == ""
