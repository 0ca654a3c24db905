"""``launch accept`` for real, in the embedded environment: the report and its figures."""

import json
from pathlib import Path
from typing import Any

import pytest

from launcher import manifest
from tests.integration.conftest import Launch


def data_of(report: Path) -> dict[str, Any]:
    """The JSON at the report's end."""
    return dict(json.loads(report.read_text().rpartition("```json\n")[2].removesuffix("```\n")))


@pytest.mark.environment
def test_this_machine_is_accepted(launch: Launch, workspace: Path, environment: Path) -> None:
    report = workspace / "report.md"
    done = launch("accept", "cpu", "--engine", "venv", "--steps", 1, "-o", report)
    print(done.out)
    assert done.code == 0, done.err + done.out
    found = data_of(report)
    assert (found["complete"], found["engine"], found["size"]) == (True, "venv", "tiny")
    assert found["facts"]["system"]["ram_bytes"] > 0
    assert {check["name"]: check["status"] for check in found["checks"]} == {
        **dict.fromkeys(manifest.shipped().target("cpu").checks, "ok"),
        **dict.fromkeys(("pruned", "size"), "not-run"),
    }
    assert {curve["status"] for curve in found["curves"]} == {"ok"}
    assert {curve["device"].split(":")[0] for curve in found["curves"]} == {"cpu"}
    fast, _, exact, _ = found["speed"]
    assert (fast["precision"], exact["precision"]) == ("bf16", "fp32")
    for speed in (fast, exact):
        assert speed["status"] == "ok"
        assert speed["steps"] == 1
        assert speed["step_seconds"] > 0
        assert speed["peak_memory"] > 300e6  # torch alone takes as much
        assert speed["parameters"]["per_device_train_batch_size"] == "4"
    assert str(Path.home()) not in report.read_text()
    assert [file.name for file in workspace.iterdir()] == ["report.md"]


@pytest.mark.environment
def test_an_existing_report_is_refused_before_anything_runs(launch: Launch, workspace: Path) -> None:
    (workspace / "report.md").write_text("mine")
    done = launch("accept", "cpu", "--engine", "venv", "-o", workspace / "report.md")
    assert done.code == 77
    assert (workspace / "report.md").read_text() == "mine"
