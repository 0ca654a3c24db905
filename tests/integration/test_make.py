"""make's targets that pass on what the caller gives: with stand-ins for the programs that they start."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Make":
    for name in ("REPORT", "WITHOUT", "MAKEFLAGS", "MAKELEVEL"):
        monkeypatch.delenv(name, raising=False)
    return Make(tmp_path)


class Make:
    """make, where the environment holds two programs of one line of bash each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, goal: str, *variables: str, python: str = "", launch: str = "") -> int:
        venv = self.folder / "venv"
        (venv / "bin").mkdir(parents=True, exist_ok=True)
        for name, line in (("python", python), ("launch", launch)):
            (venv / "bin" / name).write_text(f"#!/usr/bin/env bash\n{line}\n")
            (venv / "bin" / name).chmod(0o755)
        done = [part for mark in (".launcher", ".tools") for part in ("--assume-old", f"{venv}/{mark}")]
        for mark in done[1::2]:
            Path(mark).touch()
        return subprocess.run(
            ["make", "--silent", goal, f"VENV={venv}", *done, *variables],
            cwd=ROOT,
            env={**os.environ, "SAID": str(self.folder / "said")},
            check=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ).returncode

    @property
    def said(self) -> list[str]:
        return (self.folder / "said").read_text().splitlines()


def test_two_optional_packages_are_left_out(make: Make) -> None:
    assert make("bench-layers", "WITHOUT=one two", python='echo "$LAUNCH_WITHOUT" >"$SAID"') == 0
    assert make.said == ["one two"]
    assert make("smoke-cpu", "WITHOUT=one two", launch='echo "$*" >>"$SAID"') == 0
    assert make.said[1:] == [
        "image build cpu --without one --without two",
        "image check cpu --without one --without two",
    ]


@pytest.mark.parametrize("code", [0, 72])
def test_the_report_is_what_the_checks_said(make: Make, tmp_path: Path, code: int) -> None:
    report = tmp_path / "a report.json"
    check = f"""if [[ $2 == check ]]; then echo "$*"; [[ ! -e $REPORT ]] || exit 1; exit {code}; fi"""
    assert (make("smoke-cpu", f"REPORT={report}", launch=check) == 0) == (code == 0)
    assert report.read_text() == "image check cpu --json\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a report.json", "venv"]


def test_a_check_that_says_nothing_leaves_no_report(make: Make, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    assert make("smoke-cpu", f"REPORT={report}", launch="[[ $2 == build ]] || exit 73") != 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["venv"]
    report.write_text("of an earlier run")
    assert make("smoke-cpu", f"REPORT={report}", launch="[[ $2 == build ]] || exit 73") != 0
    assert report.read_text() == "of an earlier run"
