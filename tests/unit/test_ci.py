"""The workflows: the manifest's targets, make's own commands, pinned actions, the least of permissions."""

import inspect
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from launcher import lock, manifest
from tests.integration import conftest as integration

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = list(manifest.load(ROOT / "images" / "manifest.toml").names())

#: The only actions that are trusted, all by GitHub itself.
ACTIONS = {
    "actions/checkout",
    "actions/setup-python",
    "actions/cache/restore",
    "actions/cache/save",
    "actions/upload-artifact",
}

#: The base image that the integration tests look for when the caller's settings name none.
STAND_IN = "finetune-base:bookworm"


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
        ".github/pull-base.sh",
        ".github/upgrade.sh",
        "make setup",
        "make smoke-${{ matrix.target }}",
        "make test",
        "sudo --preserve-env=HOME tests/support/registry.sh install",
        "sudo tests/support/documents.sh install",
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_actions_are_pinned_by_commit_with_their_version(path: Path) -> None:
    used = re.findall(r"^ +(?:- )?uses: *(.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert used
    for line in used:
        found = re.fullmatch(r"([a-z-]+(?:/[a-z-]+)+)@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)
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
    assert names.index(".github/prepare-runner.sh") < names.index("actions/cache/restore")


def test_a_cache_is_named_by_its_owners_locks_alone(checkout: Path) -> None:
    """One pin of another target leaves it; what a target takes over is cached once, under its owner."""
    (job,) = load(checkout / ".github" / "workflows" / "images.yml")["jobs"].values()
    restore, save = (step for step in job["steps"] if "actions/cache/" in step.get("uses", ""))
    assert restore["with"]["key"].endswith("hashFiles(format('images/locks/{0}.*.txt', env.OWNER)) }}")
    assert save["with"]["key"] == f"${{{{ steps.{restore['id']}.outputs.cache-primary-key }}}}"
    assert save["with"]["path"] == restore["with"]["path"]
    assert "github.ref == 'refs/heads/main' && matrix.target == env.OWNER" in save["if"]
    (other,) = re.findall(r"matrix\.target == '(\S+)' && '(\S+)'", job["env"]["OWNER"])
    shared = dict([other])
    known = manifest.load(checkout / "images" / "manifest.toml")
    for target in known.targets:
        owner = shared.get(target.name, target.name)
        files = {path.name for path in (checkout / "images" / "locks").glob(f"{owner}.*.txt")}
        assert files <= set(lock.file_names(target))


def test_the_tests_of_image_builds_have_their_base(checkout: Path) -> None:
    """Pulled before the tests, under the name that they look for."""
    (job,) = load(checkout / ".github" / "workflows" / "tests.yml")["jobs"].values()
    commands = [step.get("run") for step in job["steps"]]
    assert commands.index(".github/prepare-runner.sh") < commands.index(".github/pull-base.sh")
    assert commands.index(".github/pull-base.sh") < commands.index("make test")
    script = (checkout / ".github" / "pull-base.sh").read_text(encoding="utf-8")
    assert f'docker tag "$base" {STAND_IN}\n' in script
    assert "'s/^ARG BASE=//p' images/cpu/Dockerfile" in script
    base = manifest.load(checkout / "images" / "manifest.toml").target("cpu").base
    assert f"\nARG BASE={base.reference}\n" in (checkout / "images" / "cpu" / "Dockerfile").read_text()


@pytest.mark.parametrize(("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_a_base_that_is_missing_fails_under_ci(
    ci: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", ci)
    asked: list[str] = []
    monkeypatch.setattr("launcher.image.inspect.find", lambda _, name: asked.append(name))
    with pytest.raises(outcome, match="no base image"):
        inspect.unwrap(integration.base)(SimpleNamespace())
    assert asked == [STAND_IN]
