"""Runs on two hosts reached by ssh, by DeepSpeed's own launcher; tests/support/ssh.sh starts them."""

import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Launch, start_launch
from tests.integration.test_resume import curve, result, the_run

pytestmark = [pytest.mark.ssh, pytest.mark.environment]

SSH = Path(__file__).resolve().parents[1] / "support" / "ssh.sh"

HOSTS = ("127.0.0.1", "127.0.0.2")

#: What a recipe says when it has begun, and how it waits.
WAITS = 'echo "waiting on $LAUNCH_NODE_RANK"; while :; do sleep 0.2; done'


def ssh_sh(*arguments: object) -> str:
    return subprocess.run([SSH, *map(str, arguments)], check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="session")
def programs(environment: Path) -> str:
    """The folder of programs that know the two hosts."""
    done = subprocess.run([SSH, "status"], capture_output=True, text=True)
    if done.returncode:
        reason = "no hosts answer; tests/support/ssh.sh install and start bring two"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    ssh_sh("deepspeed", environment / "bin" / "python")
    return ssh_sh("env").split("=", 1)[1].split(":")[0]


@pytest.fixture(autouse=True)
def hosts(programs: str, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Both are there, and get no secret to keep."""
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    (workspace / "hostfile").write_text("".join(f"{name} slots=1\n" for name in HOSTS))
    yield
    for name in HOSTS:
        ssh_sh("host", "up", name)
    assert [file.name for file in Path("/dev/shm").glob("launch-*-probe-*")] == []


def left_of(run: Path) -> list[str]:
    """Processes of a run, on whichever host."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environ, words = (entry / "environ").read_bytes(), (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if f"LAUNCH_RUN_ID={run.name}".encode() in environ.split(b"\0") or str(run).encode() in words:
            found.append(words.replace(b"\0", b" ").decode())
    return found


def gone(run: Path) -> None:
    """Nothing of a run is left, at the latest in some seconds."""
    deadline = time.monotonic() + 15
    while left := left_of(run):
        assert time.monotonic() < deadline, left
        time.sleep(0.2)
    assert list(run.parent.glob(f".secrets-*/{run.name}*")) == []


def on(engine: str) -> tuple[str, ...]:
    return ("--target", "cpu", "--engine", engine, "--hostfile", "hostfile")


@pytest.mark.shared_data
@pytest.mark.engine
def test_two_hosts_train_what_two_processes_train(
    launch: Launch, workspace: Path, rows: Path, tiny_model: Path, image: str, engine: Any
) -> None:
    few = workspace / "few.jsonl"
    few.write_text("".join(min(rows.glob("*.jsonl")).read_text().splitlines(keepends=True)[:16]))
    given = ("run", "bge-m3-unified", "--data", few, "--model", tiny_model, "--num-train-epochs", 2)
    given += ("--passage-max-len", 64, "--query-max-len", 32, "--env", "OMP_NUM_THREADS=1")
    alone = launch(*given, "--target", "cpu", "--engine", "venv", "--nproc", 2)
    assert alone.code == 0, alone.err
    (here,) = (workspace / "runs").iterdir()
    done = launch(*given, *on("docker"))
    run = the_run(workspace, {here.name})
    assert done.code == 0, done.err + (run / "log.txt").read_text()
    assert result(run)["world_size"] == 2
    assert curve(run) == curve(here)
    assert len(curve(run)) == 4
    assert engine.containers.list(all=True, filters={"label": f"launch.run={run.name}"}) == []


@pytest.mark.engine
def test_a_stopped_run_leaves_nothing_and_others_alone(
    launch: Launch,
    workspace: Path,
    probe: Callable[[str], Path],
    image: str,
    engine: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first hears of nothing: it is hung up, and each host kills it. The second says good-bye."""
    monkeypatch.setenv("LAUNCH_STOP_GRACE", "1")
    (workspace / ".env").write_text("HF_TOKEN=" + secrets.token_hex(20) + "\n")
    given = ("--env", "HF_TOKEN", "--env-file", workspace / ".env")
    deaf = probe(f"[[ -n $HF_TOKEN && ! -t 1 ]]\ntrap '' TERM\n{WAITS}")
    first = start_launch(workspace, "run", deaf, *on("docker"), *given)
    run = the_run(workspace, set())
    monkeypatch.setenv("LAUNCH_STOP_GRACE", "20")
    polite = workspace / "polite.sh"
    polite.write_text(deaf.read_text().replace("trap ''", "trap 'sleep 1; echo good-bye; exit 143'"))
    second = start_launch(workspace, "run", polite, *on("venv"), *given)
    other = the_run(workspace, {run.name})
    for each in (run, other):
        wait_for(each, "waiting on 0", "waiting on 1")
    assert launch("runs", "stop", run.name).code == 0
    assert first.wait(40) == 143
    assert left_of(run) == []  # not a moment later: the end is known when the hosts have ended it
    assert engine.containers.list(all=True, filters={"label": f"launch.run={run.name}"}) == []
    assert second.poll() is None
    assert len([line for line in left_of(other) if "polite.sh" in line]) >= 2
    assert launch("runs", "stop", other.name).code == 0
    assert second.wait(40) == 143
    assert (other / "log.txt").read_text().count("good-bye") == 2
    for each in (run, other):
        gone(each)


def wait_for(run: Path, *texts: str) -> None:
    deadline = time.monotonic() + 60
    while not all(text in (run / "log.txt").read_text() for text in texts):
        assert time.monotonic() < deadline, (run / "log.txt").read_text()
        time.sleep(0.2)


def test_a_host_that_fails_ends_the_others(
    launch: Launch, workspace: Path, probe: Callable[[str], Path]
) -> None:
    failed = launch("run", probe(f"((LAUNCH_NODE_RANK == 0)) || exit 7\n{WAITS}"), *on("venv"))
    run = the_run(workspace, set())
    assert failed.code == 7, failed.err
    gone(run)


def test_lost_hosts_are_named(launch: Launch, workspace: Path, probe: Callable[[str], Path]) -> None:
    recipe = probe('touch "$OUTPUT/$LAUNCH_NODE_RANK"; sleep 5; echo over')
    started = start_launch(workspace, "run", recipe, *on("venv"))
    run = the_run(workspace, set())
    deadline = time.monotonic() + 60
    while len(list((run / "output").glob("[01]"))) < 2:
        assert time.monotonic() < deadline, (run / "log.txt").read_text()
        time.sleep(0.1)
    ssh_sh("host", "down", HOSTS[1])
    assert started.wait(60) == 73
    assert "a host was lost" in result(run)["error"]
    again = launch("run", recipe, *on("venv"))
    assert again.code == 73
    assert f"{HOSTS[1]} cannot be reached by ssh" in again.err
    gone(run)
