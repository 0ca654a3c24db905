"""Faults in real runs, see tests/faults: whatever breaks, records tell the truth, and nothing stays behind.

The seed is the same in every run of the tests; FAULTS_SEED gives another, and `make chaos` more faults.
"""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.faults import campaign, oracle
from tests.faults.world import Case, send

SEED = int(os.environ.get("FAULTS_SEED", "20261121"))


def _survived(report: campaign.Report, wanted: int) -> None:
    print(f"\nseed {SEED}: {report.faults} faults in {report.seconds:.0f} s\n{report.table()}")
    assert report.faults >= wanted
    assert not report.problems, "\n".join(report.problems)


@pytest.mark.environment
@pytest.mark.parametrize("part", range(4))
def test_processes_disks_checkpoints_and_records(tmp_path: Path, environment: Path, part: int) -> None:
    drawn = campaign.draw(campaign.kinds(), 200, SEED)
    _survived(campaign.run(drawn[part * 50 : part * 50 + 50], tmp_path), 50)


@pytest.mark.engine
def test_containers(tmp_path: Path, image: str) -> None:
    drawn = campaign.draw(campaign.kinds("docker"), 26, SEED)
    _survived(campaign.run(drawn, tmp_path, engine="docker"), 26)


ENGINE = Path(__file__).resolve().parents[1] / "support" / "engine.sh"


@pytest.mark.engine
@pytest.mark.skipif(not os.environ.get("FAULTS_DAEMON"), reason="kills the engine: only with FAULTS_DAEMON=1")
def test_the_engine_is_killed_and_started_again(tmp_path: Path, image: str, engine: Any) -> None:
    """A daemon that went away: nothing is concluded before it answers again, and then what has happened.

    Without live-restore it ends the containers that it finds when it starts.
    """
    daemon = Path(os.environ.get("DOCKER_HOST", "").removeprefix("unix://")).with_name("docker.pid")
    if not daemon.is_file() or "finetune-launch-engine" not in str(daemon):
        pytest.skip("only the engine of tests/support/engine.sh may be killed")
    cases = [
        Case(
            folder=tmp_path / name,
            state_home=tmp_path / "state",
            kind=name,
            seed=SEED + number,
            engine="docker",
        )
        for number, name in enumerate(("followed", "abandoned"))
    ]
    launchers = [case.run(steps=300, pace=0.2) for case in cases]
    for case, launcher in zip(cases, launchers, strict=True):
        case.hit = case.lost_log = True
        case.wait(
            lambda case=case: case.noted("step", "1"), unless=lambda one=launcher: one.poll() is not None
        )
    send(launchers[1].pid, signal.SIGKILL)
    send(int(daemon.read_text()), signal.SIGKILL)
    try:
        assert launchers[0].wait(60) == 73  # it does not answer any more
        for case in cases:
            assert case.call("runs", "list").code == 0
            assert case.record is not None
            assert not (case.record / "result.json").exists()
    finally:
        subprocess.run([ENGINE, "start"], check=True, stdin=subprocess.DEVNULL)
    for case in cases:
        case.wait(lambda case=case: case.container() in ("exited", ""))
        seen = json.loads(case.call("runs", "list", "--json").out)["runs"][0]
        case.finish()
        assert list(oracle.judge(case, seen)) == []
