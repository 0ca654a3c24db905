"""Faults in real runs, see tests/faults: whatever breaks, records tell the truth, and nothing stays behind.

The seed is the same in every run of the tests; FAULTS_SEED gives another, and `make chaos` more faults.
"""

import os
from pathlib import Path

import pytest

from tests.faults import campaign

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
