"""``launch image diff`` on a real engine and a real git: what is said is what is there."""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.app import difference as use_case
from launcher.difference import SYSTEM, Side
from launcher.errors import ImageMissingError, LockError, UsageError
from launcher.image import build as builds
from launcher.image.inputs import Inputs
from launcher.progress import Silent
from tests.integration.conftest import Launch
from tests.integration.project import Project

Git = Callable[..., None]


@pytest.fixture
def assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny project in tmp_path is the checkout that the launcher belongs to."""
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr("launcher.paths.assets", lambda: tmp_path)


@pytest.fixture
def git(tmp_path: Path, assets: None, monkeypatch: pytest.MonkeyPatch) -> Git:
    """Git in that checkout, with nobody's settings."""
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "test")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "test@localhost")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")

    def run(*arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True, capture_output=True)

    run("init")
    return run


def built(project: Project, engine: Any, **versions: str) -> Inputs:
    what = project.inputs(**versions)
    builds.build(engine, what, project.wheels, progress=Silent())
    return what


def sizes(side: Side) -> dict[str, int | None]:
    return {item.name: item.bytes for item in side.items if item.layer != SYSTEM}


@pytest.mark.engine
def test_two_images(project: Project, engine: Any, launch: Launch) -> None:
    first = built(project, engine)
    second = built(project, engine, upper=f"2.0.{time.time_ns()}")
    found = use_case.diff(first.reference, second.reference)
    assert [(change.how, change.name, change.layers) for change in found.changes] == [
        ("newer", "tiny-upper", ("upper",))
    ]
    assert [total.layer for total in found.layers] == [SYSTEM, "lower", "upper"]
    assert [total.before.packages for total in found.layers[1:]] == [1, 1]
    assert found.layers[0].before.packages > 50
    assert found.total.bytes == found.changes[0].bytes
    assert found.before.base == found.after.base == project.base
    done = launch("image", "diff", first.reference, second.reference, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["changes"][0]["after"]["version"] == second.lock.packages[1].version


@pytest.mark.engine
def test_sizes_are_those_of_the_installed_files(project: Project, engine: Any) -> None:
    what = built(project, engine)
    command = ["find", "/opt/venv/lib", "-path", "*tiny_lower*", "-type", "f", "-printf", "%s\n"]
    said = engine.containers.run(what.reference, command, remove=True, network_mode="none")
    before = {each.id for each in engine.containers.list(all=True, ignore_removed=True)}
    assert sizes(use_case.side(what.reference))["tiny-lower"] == sum(map(int, said.split()))
    assert {each.id for each in engine.containers.list(all=True, ignore_removed=True)} <= before


@pytest.mark.engine
@pytest.mark.usefixtures("assets")
def test_an_image_is_what_its_locks_say(project: Project, engine: Any) -> None:
    what = built(project, engine)
    found = use_case.diff("tiny", what.reference)
    assert found.changes == ()
    assert found.beside == (SYSTEM,)
    assert found.total.bytes is None
    assert found.before.digest == what.lock.digest
    image = engine.images.get(what.reference)
    assert use_case.side(image.id).items == found.after.items


@pytest.mark.engine
def test_an_image_without_bills_and_an_unknown_one(base: str) -> None:
    with pytest.raises(ImageMissingError, match="does not say what is in it"):
        use_case.side(base)
    with pytest.raises(UsageError, match="the engine has no image finetune:nothing") as caught:
        use_case.side("finetune:nothing")
    assert "launch image list" in caught.value.hint


def test_locks_at_a_revision(tmp_path: Path, checkout: Path, git: Git) -> None:
    project = Project(tmp_path, checkout, "no-base:1")
    project.inputs()
    git("add", "images")
    git("commit", "--message", "first")
    project.inputs(lower="0.9", upper="1.1")
    found = use_case.diff("tiny@HEAD", "tiny")
    assert [(change.how, change.name) for change in found.changes] == [
        ("older", "tiny-lower"),
        ("newer", "tiny-upper"),
    ]
    assert found.total.before.bytes is None  # none was fetched
    assert use_case.diff("tiny@HEAD", "tiny@HEAD").empty


def test_a_revision_that_cannot_be_compared(tmp_path: Path, checkout: Path, git: Git) -> None:
    project = Project(tmp_path, checkout, "no-base:1")
    project.inputs()
    (project.images / "locks" / "tiny.upper.txt").unlink()
    git("add", "images")
    git("commit", "--message", "a lock is missing")
    with pytest.raises(LockError, match="no locks of tiny at HEAD"):
        use_case.side("tiny@HEAD")
    with pytest.raises(UsageError, match="there is no target 'large'"):
        use_case.side("large@HEAD")
    with pytest.raises(UsageError, match="no git revision"):
        use_case.side("tiny@nothing")
    with pytest.raises(UsageError, match="no git revision"):
        use_case.side(f"tiny@--output={tmp_path / 'written'}")
    assert not (tmp_path / "written").exists()
