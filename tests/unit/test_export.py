"""launcher.app.export and what replay makes of records: runs whose launcher was killed, links of a recipe."""

import json
from pathlib import Path
from typing import Any

import pytest

from launcher import archive
from launcher.app import export, origin, replay, sameness
from launcher.app import runs as seen
from launcher.app.runs import Seen, State
from launcher.errors import RecordError, UsageError
from tests.support import records


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The record of a run that is done; recipe, runtime and locks are what they were."""
    monkeypatch.setattr(sameness, "of_code", lambda plan: iter(()))
    (tmp_path / "bge-m3-unified.sh").touch()
    return records.make(tmp_path / "runs")


@pytest.mark.parametrize(
    "name", ["metrics.jsonl", "metrics.1.jsonl", "log.txt", "command", "models.json", "attempts/2.json"]
)
def test_links_of_a_recipe_are_not_followed(run: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "id_ed25519").write_text("{}")
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(tmp_path / "id_ed25519")
    with pytest.raises(RecordError, match=f"not exported: {name}"):
        export.export(run, log=True)


def test_a_link_made_at_the_last_moment_is_not_read(run: Path, tmp_path: Path) -> None:
    (run / "link").symlink_to(tmp_path / "bge-m3-unified.sh")
    with pytest.raises(OSError, match="symbolic link"):
        export._read(run / "link")


def test_the_end_of_the_log_is_exported(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_LOG", 4)
    (run / "log.txt").write_text("hello\nend\n")
    files = archive.unpack(export.export(run, log=True).content, "x")
    assert files["record/log.txt"] == b"end\n"
    assert files["record/plan.json"] == (run / "plan.json").read_bytes()


def test_what_other_nodes_reported_goes_with_it(run: Path) -> None:
    (run / "metrics.12.jsonl").write_text("{}\n")
    (run / "metrics.old.jsonl").write_text("{}\n")
    files = archive.unpack(export.export(run, log=False).content, "x")
    assert files["record/metrics.12.jsonl"] == b"{}\n"
    assert "record/metrics.old.jsonl" not in files


def test_a_run_whose_launcher_was_killed_is_looked_at_first(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = (run / "result.json").read_text()
    (run / "result.json").unlink()
    with pytest.raises(UsageError, match="has not ended: unknown") as caught:  # its machine is another one
        export.export(run, log=True)
    assert "elsewhere" in caught.value.why
    look = seen.look

    def conclude(folder: Path) -> Seen:
        (folder / "result.json").write_text(result)
        return look(folder)

    monkeypatch.setattr(seen, "look", conclude)
    assert origin.of_record(run).run == run.name
    (run / "result.json").unlink()
    assert export.export(run, log=False).content


def repetition(run: Path, **more: Any) -> Path:
    """Its launcher has died before the comparison."""
    folder = records.make(run.parent, "20261121-100000-bge-m3-unified-cccc", **more)
    noted = {"schema": 1, "replays": run.name, "from": str(run), "allowed": [], "equality": None}
    (folder / "replay.json").write_text(json.dumps(noted))
    return folder


def test_a_repetition_gets_its_comparison_later(run: Path) -> None:
    folder = repetition(run)
    noted, equality = replay.conclude_later(folder)
    assert equality.equal
    assert equality.steps == 100
    written = json.loads((folder / "replay.json").read_text())
    assert written == json.loads(json.dumps(noted))
    assert written["equality"]["equal"] is True
    assert written["replays"] == run.name


def test_a_repetition_of_a_file_has_its_content(run: Path, tmp_path: Path) -> None:
    content = export.export(run, log=False).content
    folder = repetition(tmp_path / "runs" / run.name, steps=50)
    for name, each in archive.unpack(content, "x").items():
        (folder / "origin" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "origin" / name).write_bytes(each)
    noted = json.loads((folder / "replay.json").read_text())
    (folder / "replay.json").write_text(json.dumps({**noted, "from": "/gone/run.tar.gz"}))
    assert (replay.conclude_later(folder)[1].was_steps, replay.conclude_later(folder)[1].now_steps) == (
        100,
        50,
    )


def test_what_has_no_comparison(run: Path) -> None:
    with pytest.raises(UsageError, match="repeats no run"):
        replay.conclude_later(run)
    folder = repetition(run, ended=3)
    with pytest.raises(UsageError, match="failed"):
        replay.conclude_later(folder)
    records.end(folder)
    (folder / "replay.json").write_text("[]")
    with pytest.raises(RecordError, match="cannot be read"):
        replay.conclude_later(folder)
    assert seen.look(folder).state is State.DONE
