"""Files of this machine that a recipe's parameters name: found, mounted, recorded, and looked at again."""

import hashlib
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from launcher import plan as plans
from launcher import runs
from launcher.app import files, moving, sameness
from launcher.app import plan as planning
from launcher.cli.runs.replay import _file
from launcher.comparison import facts
from launcher.errors import ChangedError, UsageError
from launcher.plan import File, RunPlan
from launcher.progress import Silent
from tests.unit.test_plan import python_recipe

CODE = "def short(completions, **_):\n    return [0.0 for _ in completions]\n"

PARAMETER = '[parameters.reward_file]\ntype = "file"\ndefault = ""\nhelp = { en = "x", zh = "字" }\n'


@pytest.fixture
def recipe(bench: Any) -> str:
    """A recipe with a parameter that names a file."""
    return str(python_recipe(bench.folder, PARAMETER))


@pytest.fixture
def rewards(bench: Any) -> Path:
    path: Path = bench.folder / "mine" / "rewards.py"
    path.parent.mkdir()
    path.write_text(CODE)
    return path


def planned(bench: Any, recipe: str, path: Path | str) -> RunPlan:
    plan: RunPlan = bench.plan(recipe=recipe, target="cpu", parameters={"reward_file": str(path)}).plan
    return plan


def variable(plan: RunPlan, *, container: bool) -> str:
    folders = runs.folders("ID", plan)
    places = plans.in_container(plan) if container else plans.on_host(plan, folders)
    return dict(plans.environment(plan, places))["REWARD_FILE"]


def test_a_file_is_recorded_mounted_and_named_to_the_recipe(bench: Any, recipe: str, rewards: Path) -> None:
    plan = planned(bench, recipe, rewards)
    assert plan.files == (
        ("reward_file", File(path=rewards, sha256=hashlib.sha256(CODE.encode()).hexdigest())),
    )
    assert dict(plan.parameters) == {"reward_file": str(rewards)}
    target = PurePosixPath("/files/reward_file/rewards.py")
    mounts = plans.mounts(plan, runs.folders("ID", plan))
    assert plans.Mount(source=rewards, target=target, read_only=True) in mounts
    assert variable(plan, container=True) == str(target)
    assert variable(plan, container=False) == str(rewards)


def test_a_relative_path_and_a_link(bench: Any, recipe: str, rewards: Path) -> None:
    link = bench.folder / "linked.py"
    link.symlink_to(rewards)
    bench.patch.chdir(bench.folder)
    plan = planned(bench, recipe, "linked.py")
    assert [file.path for _, file in plan.files] == [link]
    # the file behind the link is mounted, under the given name: a link would lead out of the container
    (mount,) = [each for each in plans.mounts(plan, runs.folders("ID", plan)) if "files" in each.target.parts]
    assert (mount.source, mount.target.name) == (rewards, "linked.py")


def test_no_file_is_an_empty_variable(bench: Any, recipe: str) -> None:
    plan = planned(bench, recipe, "")
    assert plan.files == ()
    assert variable(plan, container=True) == variable(plan, container=False) == ""


@pytest.mark.parametrize("name", ["nowhere.py", "folder", "~nobody-at-all/x.py", "x" * 5000])
def test_what_is_no_file_is_refused_with_its_option(bench: Any, recipe: str, name: str) -> None:
    (bench.folder / "folder").mkdir()
    bench.patch.chdir(bench.folder)
    with pytest.raises(UsageError, match=r"--reward-file: '.*' is no file that can be read") as caught:
        planned(bench, recipe, name)
    assert caught.value.why


def test_a_repeated_plan_needs_the_file_as_it_was(bench: Any, recipe: str, rewards: Path) -> None:
    plan = planned(bench, recipe, rewards)
    text = plans.to_json(plan)
    assert planning.read(text, "plan.json", {}, progress=Silent()).plan == plan
    rewards.write_text(CODE.replace("0.0", "1.0"))
    with pytest.raises(ChangedError, match="cannot be repeated: file") as caught:
        planning.read(text, "plan.json", {}, progress=Silent())
    assert f"file: {rewards} of --reward-file has changed" in caught.value.problems[0]
    rewards.unlink()
    with pytest.raises(ChangedError) as caught:
        planning.read(text, "plan.json", {}, progress=Silent())
    assert "is not on this machine" in caught.value.problems[0]


def test_a_repetition_finds_the_file_where_it_is_now(bench: Any, recipe: str, rewards: Path) -> None:
    plan = planned(bench, recipe, rewards)
    elsewhere = rewards.rename(bench.folder / "other.py")
    moved = moving.with_files(plan, {"reward_file": elsewhere})
    (fact,) = sameness.of_files(moved)
    assert (fact.kind, fact.was) == ("file", fact.now)
    elsewhere.write_text("")
    (fact,) = sameness.of_files(moved)
    assert fact.was != fact.now
    # what was allowed to differ is what the new plan records
    assert files.as_they_are(moved.files)[0][1].sha256 == fact.now
    assert sameness.of_files(plan) is not None
    with pytest.raises(UsageError, match="the run has no file baseline"):
        moving.with_files(plan, {"baseline": elsewhere})
    assert _file("reward-file=a=b.py") == ("reward_file", Path("a=b.py"))
    with pytest.raises(UsageError, match="NAME=PATH"):
        _file("rewards.py")


def test_two_runs_differ_in_what_the_file_holds(bench: Any, recipe: str, rewards: Path) -> None:
    plan = planned(bench, recipe, rewards)
    other = replace(plan, files=(("reward_file", replace(plan.files[0][1], sha256="0" * 64)),))
    apart = {fact.name for fact in {*facts.of_run(plan, None)} ^ {*facts.of_run(other, None)}}
    assert apart == {"reward_file sha256"}
