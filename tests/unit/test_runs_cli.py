"""``launch runs compare`` and ``launch runs report``: what they print, write and refuse."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from launcher import cli
from launcher.app import serving
from launcher.errors import OutputError, UsageError
from tests.support import records

A, B = "20261121-080000-bge-m3-unified-aaaa", "20261121-090000-bge-m3-unified-bbbb"

Launch = Callable[..., Result]


@pytest.fixture
def launch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Launch:
    """Run ``launch runs`` in a folder with two runs; errors of the launcher are raised."""
    monkeypatch.setattr("launcher.report.page.plotly", lambda: "/* plotly */")
    monkeypatch.chdir(tmp_path)
    records.make(tmp_path / "runs", A)
    records.make(tmp_path / "runs", B, pace=0.1, parameters=(("learning_rate", "0.002"), ("seed", "7")))

    def run(*arguments: object) -> Result:
        result = CliRunner().invoke(cli.root, ["runs", *map(str, arguments)], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result

    return run


def test_compare(launch: Launch) -> None:
    said = launch("compare", "aaaa", "last")
    lines = {line.split("  ")[0]: line for line in said.stdout.splitlines() if line}
    assert A in lines["A"]
    assert "done" in lines["B"]
    assert lines["seconds per step"].split()[3:] == ["0.2", "s", "0.1", "s", "★", "×0.5"]
    assert lines["seed"].split() == ["seed", "42", "7"]
    assert "learning_rate" not in lines
    assert "lock digest" not in lines
    whole = launch("compare", "aaaa", "last", "--all").stdout
    assert "learning_rate" in whole
    assert "cccccccccccc" in whole


def test_compare_as_data(launch: Launch) -> None:
    found = json.loads(launch("compare", A, B, "--json").stdout)
    assert found["schema"] == 1
    assert [each["run"] for each in found["runs"]] == [A, B]
    speed: dict[str, Any] = next(each for each in found["outcomes"] if each["key"] == "seconds_per_step")
    assert (speed["unit"], speed["better"]) == ("s", "lower")
    assert [each["best"] for each in speed["values"]] == [False, True]
    assert {"group": "parameter", "name": "seed", "values": ["42", "7"], "differs": True} in found["facts"]


def test_compare_writes_the_report(launch: Launch, tmp_path: Path) -> None:
    found = json.loads(launch("compare", A, B, "--json", "-o", "both.html").stdout)
    assert found["schema"] == 1  # nothing else on standard output
    assert "What differs" in (tmp_path / "both.html").read_text()


def test_one_run_is_no_comparison(launch: Launch) -> None:
    with pytest.raises(UsageError, match="one run alone"):
        launch("compare", A)


def test_report(launch: Launch, tmp_path: Path) -> None:
    assert "report.html (" in launch("report", "bbbb").stdout
    page = (tmp_path / "report.html").read_text()
    with pytest.raises(OutputError, match="exists"):
        launch("report", "aaaa")
    assert (tmp_path / "report.html").read_text() == page
    launch("report", "aaaa", "--force")
    assert A in (tmp_path / "report.html").read_text()
    assert sorted(each.name for each in tmp_path.glob("*.html")) == ["report.html"]


def test_a_taken_port_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def taken(*_: object) -> None:
        raise OSError(98, "Address already in use")

    monkeypatch.setattr(serving, "Server", taken)
    with pytest.raises(UsageError, match="port 80 cannot be used: Address already in use"):
        CliRunner().invoke(cli.root, ["runs", "board", "--port", "80"], catch_exceptions=False)
