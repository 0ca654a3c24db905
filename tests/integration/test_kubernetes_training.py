"""A real training on a fake cluster, which starts what it is given, in the embedded environment."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_resume import curve, wait_for_step
from tests.kubernetes.conftest import Site, site
from tests.kubernetes.kubelet import real

__all__ = ["site"]

SMALL = ("--passage-max-len", "128", "--query-max-len", "64", "--num-train-epochs", "2", "--save-steps", "3")


def result(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "result.json").read_text()))


@pytest.mark.environment
@pytest.mark.shared_data
def test_trained_stopped_from_elsewhere_and_resumed(
    site: Site, environment: Path, rows: Path, tiny_model: Path
) -> None:
    site.kubelet.script = real(environment)
    asked = ("--data", rows, "--model", tiny_model, "--nproc", 2, *SMALL)
    started = site.start("run", "bge-m3-unified", *site.options, *asked)
    run = site.wait_for(site.record)
    wait_for_step(run, 5)
    started.kill()
    started.communicate()
    stopped = site.launch("runs", "stop", run.name)
    assert stopped.code == 0, stopped.err
    assert site.nothing_left()
    before = result(run)
    assert before["error"] == "stopped by launch runs stop"
    resumed = site.launch("runs", "resume", run.name, timeout=300)
    assert resumed.code == 0, resumed.err + site.log()
    assert site.nothing_left()
    found = result(run)
    assert found["world_size"] == 2
    assert [attempt["number"] for attempt in found["attempts"]] == [1, 2]
    assert found["attempts"][1]["checkpoint"].startswith("checkpoint-")
    assert found["steps"] == max(curve(run))
    assert sorted(curve(run)) == list(range(1, found["steps"] + 1))
    assert (run / "output" / "model.safetensors").stat().st_size > 0


@pytest.mark.environment
@pytest.mark.shared_data
@pytest.mark.parametrize("kind", ["job", "trainjob"])
def test_two_nodes_train_as_one(
    site: Site, environment: Path, rows: Path, tiny_model: Path, kind: str
) -> None:
    site.kubelet.script, site.cluster.trainer = real(environment), kind == "trainjob"
    asked = ("--data", rows, "--model", tiny_model, *SMALL, "--nodes", 2, "--nproc", 1)
    done = site.launch("run", "bge-m3-unified", *site.options, *asked, timeout=300)
    assert done.code == 0, done.err + site.log()
    found = result(site.record())
    assert found["world_size"] == 2
    assert found["steps"] == max(curve(site.record()))
    assert "[rank1]: " in site.log()
    assert site.nothing_left()
