"""The main job, end to end: in the container where an engine answers, otherwise in the environment."""

import json
from pathlib import Path

import pytest

from launcher.errors import EngineError
from launcher.image.client import connect
from tests.integration.conftest import Launch


@pytest.mark.environment
def test_recall_rises_on_held_out_queries(
    launch: Launch, workspace: Path, request: pytest.FixtureRequest
) -> None:
    try:
        connect().close()
        engine = "docker"
    except EngineError:
        engine = "venv"
    request.getfixturevalue("image" if engine == "docker" else "environment")
    done = launch("demo", "--folder", workspace / "demo", "--engine", engine, "--json", timeout=1200)
    assert done.code == 0, done.err
    report = json.loads(done.out)
    print(json.dumps(report["before"]["heads"]), json.dumps(report["after"]["heads"]), report["seconds"])
    assert report["engine"] == engine
    before, after = (report[when]["heads"]["dense"]["recall@10"] for when in ("before", "after"))
    assert after > before + 0.15, (before, after)
    assert after > 2 * before, (before, after)
    # four recipes ran, and each of them left a complete record
    results = [json.loads(file.read_text()) for file in (workspace / "demo/runs").glob("*/result.json")]
    assert sorted(result["recipe"] for result in results) == [
        *("bge-m3-unified", "evaluate", "evaluate", "tiny-xlmr")
    ]
    assert {result["stage"] for result in results} == {"done"}
