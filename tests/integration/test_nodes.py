"""One training over several nodes: two containers on a network of their own, as two machines would be.

No engine starts several containers for one run here: they are started by the engine's own request, with the
variables that a site's engine, or a person on each machine, sets.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from launcher import metrics, plan, runs
from launcher.engines.docker import DockerEngine
from launcher.errors import NodesError
from launcher.plan import Folders, RunPlan, Start

SMALL = ("--passage-max-len", "128", "--query-max-len", "64", "--max-steps", "6", "--save-steps", "3")

pytestmark = [pytest.mark.engine, pytest.mark.environment, pytest.mark.shared_data]


@dataclass
class Cluster:
    """Two nodes that can be started for a plan."""

    network: str
    whole: Path
    plan: RunPlan
    parent: Path
    containers: list[Any] = field(default_factory=list)
    count: int = 0

    def start(
        self, *nodes: int, timeout: int = 60, own_output: bool = False, resolves_to: str = "", **more: str
    ) -> Folders:
        """Start these of two nodes.

        Args:
            own_output: each node has a folder of its own under the same name.
            resolves_to: the address that the host's own name stands for; empty: the container's.
            more: variables.
        """
        self.count += 1
        start = Start(run=f"{self.network}-{self.count}")
        engine = DockerEngine()
        for node in nodes:
            place = self.place(node if own_output else 0)
            runs.make(place)
            request = engine.render(self.plan, place, start)
            variables = {
                **dict(request.environment),
                "LAUNCH_NODE_RANK": str(node),
                "LAUNCH_RENDEZVOUS": f"{start.run}-0:29500",
                "LAUNCH_RENDEZVOUS_TIMEOUT": str(timeout),
                **more,
            }
            host = f"host-{node}"
            request = replace(
                request,
                name=f"{start.run}-{node}",
                environment=tuple(sorted(variables.items())),
                network=self.network,
            )
            names = {host: resolves_to} if resolves_to else None
            self.containers.append(engine.create(request, hostname=host, extra_hosts=names))
            self.containers[-1].start()
        return self.place(0)

    def place(self, node: int) -> Folders:
        """The folders of a start."""
        record = self.parent / f"{self.count}"
        own = record if node == 0 else self.parent / f"{self.count}-of-node-{node}"
        record.mkdir(parents=True, exist_ok=True)
        return Folders(run=record, output=own / "output", home=record / "home")

    def forget(self) -> None:
        """Let the next start be the last one again."""
        for container in self.containers[-2:]:
            container.remove(force=True)
        del self.containers[-2:]
        self.count -= 1

    def codes(self, seconds: float = 90) -> list[int]:
        """The exit codes of the last two containers."""
        return [int(each.wait(timeout=seconds)["StatusCode"]) for each in self.containers[-2:]]

    def log(self, node: int) -> str:
        """What a node of the last start printed."""
        found = next(each for each in reversed(self.containers) if each.name.endswith(f"-{node}"))
        return str(found.logs().decode())


@pytest.fixture(scope="module")
def cluster(
    engine: Any, image: str, rows: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """Its plan is that of one container with two processes, which has been run: ``whole`` is its record."""
    workspace = tmp_path_factory.mktemp("nodes")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "launcher", "run", "bge-m3-unified", "--target", "cpu"),
            *("--engine", "docker", "--data", str(rows), "--model", str(tiny_model), "--nproc", "2", *SMALL),
        ],
        cwd=workspace,
        env={name: value for name, value in os.environ.items() if name != "LAUNCH_RUNS_DIR"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (run,) = (workspace / "runs").iterdir()
    whole = plan.from_json((run / "plan.json").read_text(encoding="utf-8"), source="a test")
    network = engine.networks.create(f"launch-{workspace.name}-{os.getpid()}", internal=True)
    found = Cluster(
        network=network.name, whole=run, plan=replace(whole, nodes=2, nproc=1), parent=workspace / "nodes"
    )
    try:
        yield found
    finally:
        for container in found.containers:
            container.remove(force=True)
        network.remove()


def losses(run: Path) -> dict[int, float]:
    events = metrics.read(run / "metrics.jsonl")
    return {event["step"]: event["loss"] for event in events if event["event"] == "step" and "loss" in event}


def wait_until(true: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def failures(run: Path) -> list[dict[str, Any]]:
    return [event for event in metrics.read(run / "metrics.jsonl") if event["event"] == "failure"]


def test_two_nodes_train_what_two_processes_do(cluster: Cluster) -> None:
    # The hosts' names are loopback addresses, as on many machines.
    place = cluster.start(0, 1, resolves_to="127.0.1.1")
    assert cluster.codes() == [0, 0], cluster.log(0) + cluster.log(1)
    assert len(losses(place.run)) == 6
    assert losses(place.run) == losses(cluster.whole)
    assert metrics.world_problem(metrics.read(place.run / "metrics.jsonl"), 2) == ""
    of_second = [json.loads(line) for line in (place.run / "metrics.1.jsonl").read_text().splitlines()]
    assert {event["rank"] for event in of_second} == {1}
    assert "[rank1]: " in cluster.log(1)
    assert "gloo is told to use eth0" in cluster.log(1)
    assert "[rank0]: " in cluster.log(0)
    assert (place.output / "model.safetensors").is_file()
    assert not list(place.output.glob(".meeting-*"))


def test_a_killed_node_ends_the_other_and_both_go_on_from_a_checkpoint(cluster: Cluster) -> None:
    place = cluster.start(0, 1, MAX_STEPS="100000")
    wait_until((place.output / "checkpoint-6" / "complete.json").is_file)
    cluster.containers[-1].kill()
    since = time.monotonic()
    assert cluster.codes(60)[0] not in (0, NodesError.exit_code)
    print(f"the other node ended after {time.monotonic() - since:.1f} s")

    # As the site's scheduler starts it again; the newest checkpoint is not whole.
    newest = max(place.output.glob("checkpoint-*"), key=lambda folder: int(folder.name.split("-")[1]))
    (newest / "complete.json").unlink(missing_ok=True)
    last = max(losses(place.run))
    cluster.forget()
    cluster.start(0, 1, MAX_STEPS=str(last + 2), LAUNCH_RESTARTS="1")
    assert cluster.codes() == [0, 0], cluster.log(0) + cluster.log(1)
    assert (place.output / f"incomplete-1-{newest.name}").is_dir()
    events = metrics.read(place.run / "metrics.jsonl")
    begun = [event for event in events if event["event"] == "begin" and event.get("attempt") == 2]
    assert {event["rank"] for event in begun} == {0, 1}
    assert len({event["step"] for event in begun}) == 1
    assert begun[0]["step"] >= 3
    assert max(losses(place.run)) == last + 2
    assert metrics.world_problem(events, 2) == ""


def test_nodes_that_do_not_meet(cluster: Cluster) -> None:
    # Node 1 never comes.
    since = time.monotonic()
    place = cluster.start(0, timeout=4)
    assert cluster.containers[-1].wait(timeout=60)["StatusCode"] == NodesError.exit_code
    print(f"one node alone ended after {time.monotonic() - since:.1f} s")
    (failed,) = failures(place.run)
    assert "1 of 2 came to" in failed["message"]
    assert "not there: node 1" in failed["message"]
    assert failed["message"] in cluster.log(0)

    # Both come, each with a folder of its own.
    place = cluster.start(0, 1, timeout=6, own_output=True)
    assert cluster.codes() == [NodesError.exit_code] * 2
    one, other = failures(place.run)
    assert one["message"] == other["message"]
    assert "OUTPUT (/output): node 1 (host host-1) does not see what node 0 wrote there" in one["message"]

    # They meet, and what they would train through does not connect them.
    place = cluster.start(0, 1, timeout=12, GLOO_SOCKET_IFNAME="lo")
    assert cluster.codes() == [NodesError.exit_code] * 2
    assert "gloo at lo" in cluster.log(0)
    assert "GLOO_SOCKET_IFNAME" in failures(place.run)[0]["message"]
