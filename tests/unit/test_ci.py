"""The workflows: the manifest's targets, make's own commands, pinned actions, the least of permissions."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from launcher import manifest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = list(manifest.load(ROOT / "images" / "manifest.toml").names())

#: The only actions that are trusted, all by GitHub itself.
ACTIONS = {"actions/checkout", "actions/setup-python", "actions/cache", "actions/upload-artifact"}


def load(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def jobs() -> list[Any]:
    return [
        pytest.param(job, id=f"{path.stem}-{name}")
        for path in FILES
        for name, job in load(path)["jobs"].items()
    ]


def test_there_are_workflows() -> None:
    assert [path.stem for path in FILES] == ["images", "tests", "upgrade"]


def test_every_target_has_its_job() -> None:
    (job,) = load(ROOT / ".github" / "workflows" / "images.yml")["jobs"].values()
    assert job["strategy"]["matrix"] == {"target": TARGETS}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"\nTARGETS := {' '.join(TARGETS)}\n" in makefile


def test_what_runs_is_what_a_developer_runs() -> None:
    steps = [step.values[0]["steps"] for step in jobs()]
    commands = [step["run"] for each in steps for step in each if "run" in step]
    assert sorted(set(commands)) == [
        ".github/prepare-runner.sh",
        ".github/upgrade.sh",
        "make setup",
        "make smoke-${{ matrix.target }}",
        "make test",
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_actions_are_pinned_by_commit_with_their_version(path: Path) -> None:
    used = re.findall(r"^ +(?:- )?uses: *(.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert used
    for line in used:
        found = re.fullmatch(r"([a-z-]+/[a-z-]+)@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)
        assert found, line
        assert found[1] in ACTIONS


def test_an_action_is_pinned_once() -> None:
    texts = "".join(path.read_text(encoding="utf-8") for path in FILES)
    pins = set(re.findall(r"uses: *(.*)$", texts, flags=re.MULTILINE))
    assert len(pins) == len(ACTIONS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_tokens_can_read_and_nothing_more(path: Path) -> None:
    workflow = load(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["group"]
    writes = [name for name, job in workflow["jobs"].items() if "permissions" in job]
    assert writes == (["upgrade"] if path.stem == "upgrade" else [])


@pytest.mark.parametrize("job", jobs())
def test_jobs_end_by_themselves_and_leave_no_token_behind(job: dict[str, Any]) -> None:
    assert job["timeout-minutes"] <= 120
    assert job["runs-on"] == "ubuntu-24.04"
    checkouts = [step for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@")]
    assert [step["with"]["persist-credentials"] for step in checkouts] == [False]


def test_the_machine_is_prepared_before_files_come(checkout: Path) -> None:
    """The second disk is mounted over the folder that the cache is unpacked into."""
    (job,) = load(checkout / ".github" / "workflows" / "images.yml")["jobs"].values()
    names = [step.get("run") or step["uses"].split("@")[0] for step in job["steps"]]
    assert names.index(".github/prepare-runner.sh") < names.index("actions/cache")
