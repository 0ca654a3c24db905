"""launcher.secretfile: where the file may lie, and that none stays."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from launcher import secretfile
from launcher.errors import OutputError
from launcher.plan import Start
from launcher.secretfile import SecretFile


@pytest.fixture
def file(bench: Any) -> SecretFile:
    plan = bench.plan(target="cpu", secrets={"HF_TOKEN": "t"}).plan
    found = secretfile.in_container(plan, Start(run="20261121-tiny.v2-ab12", attempt=3))
    assert found is not None
    return found


def test_a_plan_without_secrets_has_none(bench: Any) -> None:
    plan = bench.plan(target="cpu").plan
    assert secretfile.in_container(plan, Start(run="x")) is None
    with secretfile.handed(None, {}):
        pass
    assert not (bench.folder / "finetune-launch").exists()


def left(file: SecretFile) -> list[str]:
    return sorted(each.name for each in file.path.parent.iterdir())


def test_what_a_killed_launcher_leaves_is_removed(file: SecretFile) -> None:
    with secretfile.handed(file, {"HF_TOKEN": "t"}, read=True):
        pass
    other, stale = file.path.with_name("20261121-tiny.1"), file.path.with_name("x.1")
    for each in (other, stale):
        each.touch()
    os.utime(stale, (time.time() - 3600,) * 2)
    secretfile.sweep()
    assert left(file) == ["20261121-tiny.1", "20261121-tiny.v2-ab12.3"]  # another start may need its own
    secretfile.forget("20261121-tiny.v2-ab12")
    assert left(file) == ["20261121-tiny.1"]


def test_a_file_of_somebody_else_is_not_written_to(file: SecretFile) -> None:
    file.path.parent.mkdir(mode=0o700)
    target = file.path.parent.parent / "target"
    target.write_text("kept")
    file.path.symlink_to(target)
    with secretfile.handed(file, {"HF_TOKEN": "t"}):
        assert not file.path.is_symlink()
    assert target.read_text() == "kept"


def test_a_folder_that_others_can_read_is_not_taken(
    bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folders = [tmp_path / name / "finetune-launch" for name in ("open", "link", "mine")]
    for each in folders:
        each.parent.mkdir()
    folders[0].mkdir(mode=0o755)
    folders[0].chmod(0o755)
    folders[1].symlink_to(tmp_path)
    monkeypatch.setattr(secretfile.paths, "secrets", lambda: tuple(folders))
    plan = bench.plan(target="cpu", secrets={"A": "t"}).plan
    found = secretfile.in_container(plan, Start(run="x"))
    assert found is not None
    assert found.path == folders[2] / "x.1"
    monkeypatch.setattr(secretfile.paths, "secrets", lambda: tuple(folders[:2]))
    with pytest.raises(OutputError, match="no place for the file of the secrets") as raised:
        secretfile.in_container(plan, Start(run="x"))
    assert "LAUNCH_SECRETS_DIR" in raised.value.hint


def test_a_folder_that_changed_meanwhile_is_refused(file: SecretFile) -> None:
    file.path.parent.mkdir(mode=0o700)
    file.path.parent.chmod(0o777)
    with pytest.raises(OutputError, match="cannot be written"), secretfile.handed(file, {"HF_TOKEN": "t"}):
        raise AssertionError("nothing starts without it")
    assert left(file) == []


def test_users_who_share_a_folder_of_records_do_not_share_one_of_secrets(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one's is closed to the second, and both have to get theirs."""
    plan = bench.plan(target="cpu", secrets={"HF_TOKEN": "t"}).plan
    made: dict[int, int] = {}  # folders and who came first
    monkeypatch.setattr(
        secretfile, "_own", lambda found: made.setdefault(found.st_ino, os.getuid()) == os.getuid()
    )
    shared = []
    for uid, run in ((1000, "ada"), (1001, "bob")):
        monkeypatch.setattr(os, "getuid", lambda uid=uid: uid)
        file = secretfile.on_nodes(plan, Start(run=run), bench.folder, seen="")
        assert file is not None
        with secretfile.handed(file, {"HF_TOKEN": "t"}, read=True):
            shared.append(file.path)
    assert [path.exists() for path in shared] == [True, True]
    secretfile.forget("ada", bench.folder)
    assert [path.exists() for path in shared] == [False, True]


def test_the_first_choice_is_memory_of_this_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAUNCH_SECRETS_DIR")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    found = [str(each) for each in secretfile.paths.secrets()]
    assert found[0] == "/run/user/7/finetune-launch"
    assert found[1].startswith("/dev/shm/finetune-launch-")
