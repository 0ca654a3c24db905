"""launcher.app.moving and origin: the data of a plan found again by its content, its models by name."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher import archive, paths
from launcher import plan as plans
from launcher.app import moving, origin, replay, sameness
from launcher.data import DataFile
from launcher.errors import ChangedError, RecordError, UsageError
from launcher.plan import RunPlan
from launcher.progress import Silent


def of(path: Path, content: str) -> DataFile:
    raw = content.encode()
    return DataFile(
        path=path, sha256=hashlib.sha256(raw).hexdigest(), size=len(raw), rows=content.count("\n")
    )


def write(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


@pytest.fixture
def plan(bench: Any) -> RunPlan:
    """A file, and a folder of two; of another machine."""
    files = (
        of(Path("/there/b.jsonl"), "b\n"),
        of(Path("/there/rows/c.jsonl"), "c\n"),
        of(Path("/there/rows/a.jsonl"), "a\n"),
    )
    return replace(
        bench.plan(target="cpu").plan, inputs=(Path("/there/b.jsonl"), Path("/there/rows")), data=files
    )


def test_names_and_order_stay_whatever_the_files_are_called(plan: RunPlan, tmp_path: Path) -> None:
    here, run = tmp_path / "here", tmp_path / "runs" / "new"
    one = write(here / "x" / "1.jsonl", "b\n")
    two, three = write(here / "2.jsonl", "c\n"), write(here / "3.jsonl", "a\n")
    write(here / "decoy.jsonl", "d\n")
    found = moving.find(plan, [here], run, Silent())
    assert found.found == (one, two, three)
    assert found.inputs == (run / "inputs/0/b.jsonl", run / "inputs/1/rows")
    assert [file.path.name for file in found.files] == ["b.jsonl", "c.jsonl", "a.jsonl"]
    assert not run.exists()
    moving.make(found)
    for file in found.files:
        assert hashlib.sha256(file.path.read_bytes()).hexdigest() == file.sha256
    assert found.inputs[0].resolve() == one
    # a container sees the folder alone: nothing in it may be a link out of it
    assert not any(path.is_symlink() for path in found.inputs[1].iterdir())


def test_a_file_of_the_same_name_is_taken_as_it_is(plan: RunPlan, tmp_path: Path) -> None:
    plan = replace(plan, inputs=plan.inputs[:1], data=plan.data[:1])
    for content in ("b\n", "changed\n"):  # by content, or by its name
        file = write(tmp_path / "here" / "b.jsonl", content)
        found = moving.find(plan, [file], tmp_path / "run", Silent())
        assert (found.inputs, found.found, found.kept) == ((file,), (file,), ())


def test_what_is_missing_is_listed(plan: RunPlan, tmp_path: Path) -> None:
    write(tmp_path / "here" / "b.jsonl", "b\n")
    with pytest.raises(ChangedError, match="2 of 3") as caught:
        moving.find(plan, [tmp_path / "here"], tmp_path / "run", Silent())
    assert plan.data[1].sha256 in caught.value.problems[0]
    assert "1 rows" in caught.value.problems[1]
    with pytest.raises(UsageError, match="does not exist"):
        moving.find(plan, [tmp_path / "nowhere"], tmp_path / "run", Silent())


def test_a_plan_of_somebody_else_writes_into_the_record_alone(plan: RunPlan, tmp_path: Path) -> None:
    file = of(Path("/there/rows/../../../evil.jsonl"), "b\n")
    write(tmp_path / "here" / "x.jsonl", "b\n")
    for inputs in ((Path("/there/rows"),), (Path("/there/rows/../.."),)):
        with pytest.raises(RecordError, match="elsewhere"):
            moving.find(replace(plan, inputs=inputs, data=(file,)), [tmp_path / "here"], tmp_path, Silent())


def test_models_are_those_that_are_given(bench: Any, plan: RunPlan) -> None:
    folder = bench.model()
    moved = moving.with_models(plan, {"model": folder})
    assert moved.model is not None
    assert moved.model.path == folder
    with pytest.raises(UsageError, match="no model teacher"):
        moving.with_models(plan, {"teacher": folder})
    fact = sameness.of_model(moved.model, {"weights_sha256": "0" * 64})
    assert fact.was != fact.now != ""
    # a plain folder says nothing of a revision, and the record nothing of its bytes
    assert sameness.of_model(moved.model, {"revision": "5" * 40}).was == ""
    assert plan.model is not None
    assert sameness.of_model(plan.model, {"revision": "5" * 40}).now == ""


def test_the_threads_of_a_training_on_a_cpu_are_in_its_plan(bench: Any) -> None:
    def env(**asked: Any) -> dict[str, str]:
        return dict(bench.plan(**asked).plan.env)

    assert env(target="cpu", nproc=3)["OMP_NUM_THREADS"] == "2"  # of eight cores
    assert env(target="cpu", nproc=3)["MKL_DYNAMIC"] == "FALSE"
    assert env(target="cpu", env={"OMP_NUM_THREADS": "5"})["OMP_NUM_THREADS"] == "5"
    assert "OMP_NUM_THREADS" not in env(target="cuda", gpus="all")


def test_data_paths_of_older_plans_become_absolute(plan: RunPlan) -> None:
    typed = replace(
        plan, data=tuple(replace(file, path=file.path.relative_to("/there")) for file in plan.data)
    )
    assert origin._with_absolute_data(typed).data == plan.data


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"export.json": b"[]"},
        {"export.json": b'{"schema": 9, "run": "x", "recipe": "recipes/x.sh", "outputs": {}}'},
        {"export.json": b'{"schema": 1, "run": "x", "recipe": "../../x.sh", "outputs": {}}'},
        {
            "export.json": b'{"schema": 1, "run": "x", "recipe": "recipes/x.sh", "outputs": {}}',
            "source/recipes/x.sh": b"",
            "record/plan.json": b"{}",
        },
    ],
)
def test_a_file_that_holds_no_run_leaves_nothing(bench: Any, tmp_path: Path, files: dict[str, bytes]) -> None:
    file = tmp_path / "x.tar.gz"
    file.write_bytes(archive.pack(files))
    with pytest.raises(RecordError):
        replay.load(str(file))
    assert not paths.runs().exists() or not list(paths.runs().iterdir())


def test_a_plan_is_rebased(plan: RunPlan) -> None:
    moved = origin.rebased(plan, Path("/run/origin/source"), "recipe/own.sh")
    assert moved.recipe_path == Path("/run/origin/source/recipe/own.sh")
    assert plans.in_container(moved).recipe == "/launch/recipe/own.sh"


def test_a_large_file_is_refused_unread(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    with weights.open("wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(RecordError, match="not a run in one file") as caught:
        replay.load(str(weights))
    assert "1048576 MiB" in caught.value.why
