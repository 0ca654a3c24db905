"""What ``launch run`` looks at before a start: rows, memory, machine; what refuses it, and how to go on."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from launcher import data
from launcher.app import fit, preflight
from launcher.app.fit import Foreseen
from launcher.cli import root
from launcher.data import Rules
from launcher.diagnosis.lines import Line, Status, ok
from launcher.errors import CheckError, DataError, OutOfMemoryError

GOOD = '{"query": "q", "pos": ["p"], "neg": ["n1", "n2", "n3", "n4", "n5", "n6", "n7"]}\n'


def line(name: str, status: Status, found: str) -> Line:
    return Line(name=name, status=status, found=found, means="it means this", fix="that")


def planned(*, checked: bool = True) -> Any:
    return SimpleNamespace(plan=SimpleNamespace(preflight=checked))


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``found(lines, foreseen)``: what doctor and estimate say."""

    def say(lines: tuple[Line, ...] = (), foreseen: Foreseen | None = None) -> None:
        monkeypatch.setattr(preflight, "preflight", lambda _: lines)
        monkeypatch.setattr(fit, "foreseen", lambda _: foreseen)

    return say


def test_a_machine_that_is_ready_says_nothing(found: Any) -> None:
    found((ok("shm", "8 GB"),))
    assert preflight.ready(planned(), dry_run=False) == ()


def test_warnings_and_a_tight_fit_are_notes(found: Any) -> None:
    found(
        (line("shm", "warning", "64 MB free"),),
        Foreseen(share=1.2, text="does not fit: 12 of 10", advice="--a b"),
    )
    shm, memory = preflight.ready(planned(), dry_run=False)
    assert shm == "shm: 64 MB free; it means this; do: that"
    assert memory == "memory: does not fit: 12 of 10; do: --a b"


def test_a_run_that_would_break_is_refused_with_all_reasons(found: Any) -> None:
    found(
        (
            line("disk.output", "failed", "1 GB free"),
            line("memory", "failed", "1 GB"),
            line("shm", "warning", "little"),
        )
    )
    with pytest.raises(CheckError) as caught:
        preflight.ready(planned(), dry_run=False)
    assert [each.split(":")[0] for each in caught.value.problems] == ["disk.output", "memory"]
    assert "--no-preflight" in caught.value.hint
    assert len(preflight.ready(planned(), dry_run=True)) == 3


@pytest.mark.parametrize(("share", "refused"), [(1.49, False), (1.5, True), (40.0, True)])
def test_only_what_cannot_fit_is_refused(found: Any, share: float, refused: bool) -> None:
    found((), Foreseen(share=share, text="does not fit", advice=""))
    assert preflight.ready(planned(), dry_run=True) == ("memory: does not fit",)
    if not refused:
        assert preflight.ready(planned(), dry_run=False) == ("memory: does not fit",)
        return
    with pytest.raises(OutOfMemoryError) as caught:
        preflight.ready(planned(), dry_run=False)
    assert caught.value.exit_code == 79
    assert "--no-preflight" in caught.value.hint


def test_what_was_not_looked_at_is_said(found: Any) -> None:
    found((line("memory", "failed", "none"),), Foreseen(share=9, text="", advice=""))
    (note,) = preflight.ready(planned(checked=False), dry_run=False)
    assert "--no-preflight" in note


def test_files_are_known_again_without_being_judged(tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_bytes(b'{"query": \n\n  \nno json at all')
    (one,) = data.identify((bad,), Rules(format="embedder"))
    assert (one.rows, one.size) == (2, bad.stat().st_size)
    assert one.sha256 == hashlib.sha256(bad.read_bytes()).hexdigest() == data.fingerprint(bad)
    with pytest.raises(DataError, match="cannot be read") as caught:
        data.identify((bad, tmp_path / "none.jsonl"), Rules(format="embedder"))
    assert "none.jsonl" in caught.value.problems[0]


def test_identity_is_that_of_the_check(tmp_path: Path) -> None:
    good = tmp_path / "good.jsonl"
    good.write_text(GOOD * 3 + "\n" + GOOD)
    rules = Rules(format="embedder", group_size=8)
    assert data.identify((good,), rules) == data.check((good,), rules)


def test_the_plan_says_that_nothing_was_looked_at(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("no json\n" * 4)
    asked = ["run", "bge-m3-unified", "--target", "cpu", "--engine", "venv", "--data", str(rows), "--dry-run"]
    refused = CliRunner().invoke(root, [*asked, "--json"])
    assert isinstance(refused.exception, DataError)
    started = CliRunner().invoke(root, [*asked, "--no-preflight", "--json"])
    assert started.exit_code == 0
    made = json.loads(started.stdout)
    assert made["plan"]["preflight"] is False
    assert made["plan"]["data"][0]["rows"] == 4
    assert any("--no-preflight" in note for note in made["notes"])


def test_a_line_says_what_it_means_and_what_to_do() -> None:
    one = Line(name="shm", status="warning", found="64 MB", means="workers die", fix="--shm-size 8g")
    assert preflight.said(one) == "shm: 64 MB; workers die; do: --shm-size 8g"
    assert preflight.said(replace(one, means="", fix="")) == "shm: 64 MB"
