"""launcher.app.leftovers: which sessions are dead, and what of them goes; never a living or foreign one."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher import process, supervisor
from launcher.app import leftovers
from launcher.app.leftovers import Owner
from launcher.engines.docker import DockerEngine
from launcher.engines.venv import VenvEngine

SESSION = "ID-notebook"

#: A launcher of this process's number that started before it.
GONE = replace(leftovers.own(), start=1)


@pytest.fixture(autouse=True)
def no_programs_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "with_variables", lambda wanted: [])


def folder(parent: Path, owner: Owner) -> Path:
    found = parent / "launch-abcdefgh"
    (found / "run").mkdir(parents=True)
    leftovers.note(found, SESSION, owner.text())
    return found


def swept(parent: Path) -> None:
    leftovers.sweep(VenvEngine(parent), parent)


def test_who_it_is() -> None:
    assert leftovers.read(leftovers.own().text()) == leftovers.own()


@given(st.text() | st.from_regex(leftovers._TEXT, fullmatch=True))
def test_any_text_is_read(text: str) -> None:
    found = leftovers.read(text)
    assert found is None or leftovers.read(found.text()) == found


@pytest.mark.parametrize(
    ("change", "ended", "expected"),
    [
        ({}, True, False),
        ({"start": 1}, False, True),
        ({"start": 1, "uid": os.getuid() + 1}, True, False),
        ({"start": 1, "space": "pid:[1]"}, True, False),
        ({"boot": "0"}, False, False),
        ({"boot": "0"}, True, True),
    ],
)
def test_whose_launcher_is_gone(change: dict[str, Any], ended: bool, expected: bool) -> None:
    assert leftovers.dead(replace(leftovers.own(), **change), ended=ended) is expected


def test_a_number_that_is_somebody_elses_by_now(monkeypatch: pytest.MonkeyPatch) -> None:
    own, ask = leftovers.own(), supervisor.identity

    def refuse(pid: int) -> dict[str, Any] | None:
        if pid == 1:
            raise PermissionError
        return ask(pid)

    monkeypatch.setattr(supervisor, "identity", refuse)
    assert leftovers.dead(replace(own, pid=1), ended=False)


def test_a_dead_sessions_folder_goes(tmp_path: Path) -> None:
    found = folder(tmp_path, GONE)
    swept(tmp_path)
    assert not found.exists()


def test_a_living_one_stays(tmp_path: Path) -> None:
    found = folder(tmp_path, leftovers.own())
    swept(tmp_path)
    assert (found / "run").is_dir()


def test_folders_of_nobody_known_stay(tmp_path: Path) -> None:
    (tmp_path / "launch-plain").mkdir()
    for name, content in (("launch-strange", b"hello"), ("launch-binary", b"\xff\xfe")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "launcher").write_bytes(content)
    linked = tmp_path / "launch-linked"
    linked.symlink_to(folder(tmp_path / "elsewhere", GONE))
    swept(tmp_path)
    assert len(list(tmp_path.glob("launch-*/"))) == 4
    assert (linked / "launcher").is_file()


def test_one_that_somebody_works_in_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = folder(tmp_path, GONE)
    asked: list[object] = []
    monkeypatch.setattr(process, "with_variables", lambda wanted: asked.append(wanted) or [4242])
    monkeypatch.setattr(os, "kill", lambda *given: pytest.fail("ended"))
    swept(tmp_path)
    assert found.is_dir()
    assert asked == [{"LAUNCH_RUN_ID": SESSION}]


def test_a_server_ends_with_all_that_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = folder(tmp_path, GONE)
    trace = found / "run" / "attempts" / "1.process"
    trace.parent.mkdir()
    own = supervisor.identity(os.getpid()) or {}
    trace.write_text(json.dumps(own))
    ended: list[tuple[int, int]] = []

    def kill(pid: int, number: int) -> None:
        ended.append((pid, number))
        if number == signal.SIGUSR1:
            last = {**own, "code": 137, "out_of_memory": False, "ended": ""}
            trace.write_text(json.dumps(last))

    monkeypatch.setattr(os, "kill", kill)
    monkeypatch.setattr(process, "with_variables", lambda wanted: [4242])
    swept(tmp_path)
    assert ended == [(os.getpid(), signal.SIGUSR1), (4242, signal.SIGKILL)]
    assert not found.exists()


class Container:
    def __init__(self, label: str, status: str = "running") -> None:
        self.labels, self.status, self.removed = {leftovers.LABEL: label}, status, False

    def remove(self, *, force: bool) -> None:
        self.removed = force


def test_dead_sessions_containers_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = replace(leftovers.own(), boot="0")
    going = [Container(GONE.text()), Container(before.text(), "exited")]
    staying = [Container(leftovers.own().text()), Container(before.text()), Container("hello")]
    asked: list[dict[str, Any]] = []

    def every(**given: Any) -> list[Container]:
        asked.append(given)
        return [*going, *staying]

    client = SimpleNamespace(containers=SimpleNamespace(list=every))
    monkeypatch.setattr(DockerEngine, "connect", lambda self: client)
    leftovers.sweep(DockerEngine(), tmp_path)
    assert [each.removed for each in going] == [True, True]
    assert [each.removed for each in staying] == [False, False, False]
    assert asked == [{"all": True, "filters": {"label": leftovers.LABEL}, "ignore_removed": True}]
