"""What each host runs, under a real bash: no ssh, and a recipe on this machine."""

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from launcher import runs
from launcher.engines.hosts import request
from launcher.engines.hosts.request import HostsRequest
from launcher.plan import Access, Folders, Hosts, RunPlan, Start
from tests.integration.test_process import alive, ended

#: A worker in a session of its own, as torchrun's are, that does not end when it is asked to.
DEAF = """
setsid bash -c 'trap "" TERM; echo $$ >"$OUTPUT/$LAUNCH_NODE_RANK"; while :; do sleep 0.1; done' &
trap 'exit 143' TERM
wait
"""


@dataclass(frozen=True)
class Site:
    """Two hosts of one run, without a container."""

    asked: HostsRequest
    place: Folders

    def start(self, rank: int) -> subprocess.Popen[bytes]:
        """The script of one host."""
        return subprocess.Popen(
            ["bash", self.asked.traces.script],
            env={"PATH": "/usr/bin:/bin", "RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def word(self) -> str:
        """What the hosts are told."""
        return self.asked.traces.word.read_text()

    def worker(self, rank: int) -> int:
        """Process id of a host's worker."""
        file, deadline = self.place.output / str(rank), time.monotonic() + 10
        while not (file.exists() and file.read_text().endswith("\n")):
            assert time.monotonic() < deadline, rank
            time.sleep(0.05)
        return int(file.read_text())


def site_of(folder: Path, recipe: str, secrets: tuple[str, ...] = ()) -> Site:
    (folder / "it.sh").write_text(recipe)
    plan = RunPlan(
        launcher="1", recipe="it", recipe_path=folder / "it.sh", recipe_sha256="", runtime_sha256="",
        recipes=folder, target="cpu", engine="hosts", image=None, lock_digest="10cc", world_size=2, nproc=1,
        inputs=(), data=(), model=None, output=None, parameters=(), arguments=(), env=(), secrets=secrets,
        uid=os.getuid(), gid=os.getgid(), access=Access(), nodes=2,
        hosts=Hosts(runtime="venv", names=("a", "b")),
    )  # fmt: skip
    start = Start(run=f"probe-{os.getpid()}-{time.monotonic_ns()}")
    place = runs.folders(start.run, plan, folder / "runs")
    for made in (place.run / "attempts", place.output):
        made.mkdir(parents=True)
    asked = request.render(  # noqa: S604 - its variables
        plan, place, start, folder / "envs",
        program="deepspeed", variables=(), shell=(("PATH", "/usr/bin:/bin"),),
    )  # fmt: skip
    asked.traces.script.write_text(asked.text)
    asked.traces.word.write_text("goes\n")
    return Site(asked=asked, place=place)


def test_a_host_that_cannot_begin_tells_the_others(tmp_path: Path) -> None:
    """They would wait for it until their meeting times out."""
    site = site_of(tmp_path, "exit 3", secrets=("HF_TOKEN",))  # whose file is not there
    assert site.start(1).wait(10) == 1
    assert site.word() == "fail\n"
    assert list(Path("/dev/shm").glob(f"launch-{site.place.run.name}-*")) == []


def test_a_worker_in_a_session_of_its_own_ends_with_its_host(tmp_path: Path) -> None:
    """That of another host, on the same machine here, goes on, and so does what started both."""
    site = site_of(tmp_path, DEAF)
    asked = dict(site.asked.environment)
    above = subprocess.Popen(
        ["sleep", "60"], env={"PATH": "/usr/bin:/bin", "LAUNCH_RUN_ID": asked["LAUNCH_RUN_ID"]}
    )
    hosts = [site.start(rank) for rank in (0, 1)]
    workers = [site.worker(rank) for rank in (0, 1)]
    try:
        hosts[0].terminate()
        assert hosts[0].wait(20) == 143
        assert ended(workers[0])
        assert alive(workers[1])
        assert above.poll() is None
        hosts[1].terminate()
        assert hosts[1].wait(20) == 143
        assert ended(workers[1])
    finally:
        above.kill()
        above.wait()
        for pid in [*(host.pid for host in hosts if host.poll() is None), *filter(alive, workers)]:
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(("recipe", "hung_up", "own"), [("exit 255", False, True), (DEAF, True, False)])
def test_a_recipe_that_ends_as_ssh_does_is_told_from_a_lost_host(
    tmp_path: Path, recipe: str, hung_up: bool, own: bool
) -> None:
    site = site_of(tmp_path, recipe.replace("exit 143", "exit 255"))
    host = site.start(0)
    if hung_up:
        site.worker(0)
        host.send_signal(signal.SIGHUP)
    assert host.wait(20) == 255
    assert site.asked.traces.own.exists() == own
    assert site.word() == ("goes\n" if hung_up else "fail\n")
    assert not list(site.place.run.glob("attempts/1.going.*"))
