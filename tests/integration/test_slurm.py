"""Runs on a real Slurm of two nodes on this host; tests/support/slurm.sh starts it."""

import json
import os
import re
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Launch, start_launch, wait_for_log
from tests.integration.test_resume import curve, result, the_run, wait_for_step
from tests.integration.test_secrets import files, processes

pytestmark = [pytest.mark.slurm, pytest.mark.environment]

SLURM = Path(__file__).resolve().parents[1] / "support" / "slurm.sh"

SMALL = ("--passage-max-len", "64", "--query-max-len", "32", "--num-train-epochs", "2", "--save-steps", "2")

ON = ("--target", "cpu", "--engine", "slurm")


def slurm_sh(*arguments: str) -> str:
    return subprocess.run([SLURM, *arguments], check=True, capture_output=True, text=True).stdout


def asked(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True).stdout


@pytest.fixture(scope="session")
def cluster() -> str:
    """The file that names the cluster."""
    done = subprocess.run([SLURM, "env"], capture_output=True, text=True)
    if done.returncode:
        reason = "no Slurm answers; tests/support/slurm.sh install and start bring one"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return done.stdout.strip().removeprefix("export SLURM_CONF=")


@pytest.fixture(autouse=True)
def nothing_is_left(cluster: str, environment: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither jobs, nor files of secrets in memory, nor containers; both nodes are up."""
    monkeypatch.setenv("SLURM_CONF", cluster)
    yield
    asked("scancel", "--user", "root")
    slurm_sh("node", "up", "n1")
    slurm_sh("node", "up", "n2")
    deadline = time.monotonic() + 30
    while asked("squeue", "--noheader") and time.monotonic() < deadline:
        time.sleep(0.3)
    # A shell that is being killed may be a moment behind its job.
    while in_memory() and time.monotonic() < deadline:
        time.sleep(0.3)
    assert in_memory() == []


def in_memory() -> list[str]:
    """What runs have left in the memory of a node."""
    return [file.name for file in Path("/dev/shm").glob("launch-2*")]


def left_of(run: Path) -> list[str]:
    """Processes of a run, wherever they are."""
    mark = f"LAUNCH_RUN_ID={run.name}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append((entry / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


@pytest.fixture(scope="session")
def losses() -> dict[str, dict[int, float]]:
    """Of the same training, wherever it took place."""
    return {}


def training(rows: Path, model: Path) -> tuple[object, ...]:
    given = ("run", "bge-m3-unified", "--target", "cpu", "--data", rows, "--model", model)
    return (*given, *SMALL, "--env", "OMP_NUM_THREADS=1")


@pytest.mark.shared_data
@pytest.mark.parametrize("runtime", ["none", pytest.param("docker", marks=pytest.mark.engine)])
def test_two_nodes_train_what_two_processes_train(
    launch: Launch,
    workspace: Path,
    rows: Path,
    tiny_model: Path,
    losses: dict[str, dict[int, float]],
    runtime: str,
    request: pytest.FixtureRequest,
) -> None:
    given = training(rows, tiny_model)
    if not losses:
        alone = launch(*given, "--engine", "venv", "--nproc", 2)
        assert alone.code == 0, alone.err
        (run,) = (workspace / "runs").iterdir()
        losses["here"] = curve(run)
    if runtime == "docker":
        request.getfixturevalue("image")
    known = {each.name for each in (workspace / "runs").glob("*")}
    done = launch(*given, "--engine", "slurm", "--nodes", 2, "--slurm-runtime", runtime)
    run = the_run(workspace, known)
    assert done.code == 0, done.err + (run / "log.txt").read_text()[-3000:]
    assert "pending: " in done.err
    assert result(run)["world_size"] == 2
    assert result(run)["stage"] == "done"
    assert curve(run) == losses["here"]
    assert len(curve(run)) > 5
    if runtime == "docker":
        engine = request.getfixturevalue("engine")
        assert engine.containers.list(all=True, filters={"label": f"launch.run={run.name}"}) == []


@pytest.mark.shared_data
def test_a_lost_node_is_no_end(
    launch: Launch, workspace: Path, rows: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is put back into the queue, waits for a node, and goes on from its last complete checkpoint."""
    longer = ("--num-train-epochs", 16, "--save-steps", 10)
    given = (*training(rows, tiny_model), *longer, "--engine", "slurm", "--nodes", 2, "--env", "HF_TOKEN")
    (workspace / ".env").write_text(f"HF_TOKEN={secrets.token_hex(20)}\n")  # the next start needs it, too
    monkeypatch.setenv("LAUNCH_DOTENV", ".env")
    launcher = start_launch(workspace, *given)
    run = the_run(workspace, set())
    wait_for_step(run, 14)
    slurm_sh("node", "down", "n2")
    deadline = time.monotonic() + 60
    while "pending" not in (listed := launch("runs", "list").out):
        assert time.monotonic() < deadline, listed + (run / "log.txt").read_text()[-3000:]
        time.sleep(0.5)
    slurm_sh("node", "up", "n2")
    assert launcher.wait(120) == 0, (run / "log.txt").read_text()[-3000:]
    found = result(run)
    assert found["stage"] == "done"
    assert [each["restarts"] for each in found["attempts"]] == [1]
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    again = [event["step"] for event in events if event["event"] == "step" and event.get("attempt") == 2]
    assert min(again) > 10  # not from the beginning
    assert max(again) == found["steps"]
    assert left_of(run) == []


@pytest.mark.parametrize(
    ("runtime", "how"),
    [
        ("none", "launch runs stop"),
        ("none", "scancel"),
        pytest.param("docker", "Ctrl-C", marks=pytest.mark.engine),
        pytest.param("docker", "twice Ctrl-C", marks=pytest.mark.engine),
    ],
)
def test_a_cancelled_run_leaves_nothing(
    launch: Launch,
    workspace: Path,
    probe: Callable[[str], Path],
    runtime: str,
    how: str,
    request: pytest.FixtureRequest,
) -> None:
    if runtime == "docker":
        request.getfixturevalue("image")
    # It hears of nothing: what ends it is the deadline.
    recipe = probe("trap '' TERM INT\necho waiting\nwhile :; do sleep 0.2; done")
    (workspace / ".env").write_text("HF_TOKEN=" + secrets.token_hex(20) + "\n")
    given = ("run", recipe, *ON, "--nodes", 2, "--slurm-runtime", runtime, "--env", "HF_TOKEN")
    os.environ["LAUNCH_DOTENV"] = ".env"
    launcher = start_launch(workspace, *given)
    del os.environ["LAUNCH_DOTENV"]
    wait_for_log(workspace, "waiting\nwaiting")
    run = the_run(workspace, set())
    job = (run / "attempts" / "1.job").read_text().strip()
    if how == "launch runs stop":
        assert launch("runs", "stop", "last").code == 0
    elif "Ctrl-C" in how:
        launcher.send_signal(signal.SIGINT)
        if how == "twice Ctrl-C":
            time.sleep(0.3)
            launcher.send_signal(signal.SIGINT)
    else:
        asked("scancel", job)
    code = launcher.wait(60)
    assert code == {"launch runs stop": 143, "Ctrl-C": 130, "twice Ctrl-C": 130, "scancel": 73}[how]
    why = result(run)["error"]
    assert ("stopped by" in why) == (how != "scancel")
    assert how != "scancel" or "somebody cancelled it" in why
    deadline = time.monotonic() + 10
    while asked("squeue", "--noheader", "--jobs", job) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert left_of(run) == []
    assert list((workspace / "runs").glob(".secrets-*/*")) == []
    if runtime == "docker":
        engine = request.getfixturevalue("engine")
        assert engine.containers.list(all=True, filters={"label": f"launch.run={run.name}"}) == []


def test_a_pending_run_is_listed_detached_and_stopped(
    launch: Launch, workspace: Path, probe: Callable[[str], Path]
) -> None:
    recipe = probe("echo here")
    begun = launch("run", recipe, *ON, "--sbatch", "begin=now+1hour", "--detach")
    assert begun.code == 0, begun.err
    (run,) = Path(begun.out.strip()).parent.glob("2*")
    assert asked("pgrep", "-f", "--", f"--begun {run}") == ""
    (line,) = json.loads(launch("runs", "list", "--json").out)["runs"]
    assert line["state"] == "pending"
    assert line["why"].startswith("BeginTime: ")
    assert launch("runs", "stop", "last").code == 0
    assert result(run)["error"] == "stopped by launch runs stop"


def test_a_run_that_nobody_follows_is_concluded_when_slurm_has_forgotten_it(
    launch: Launch, workspace: Path, probe: Callable[[str], Path]
) -> None:
    odd = {"LAUNCH_RUNS_DIR": str(workspace / 'it\'s a "place" %j, #')}
    options = ("--detach", "--sbatch", "comment=a 'b' \"c\"")
    begun = launch("run", probe("echo out; echo err >&2; exit 7"), *ON, *options, **odd)
    assert begun.code == 0, begun.err
    run = Path(begun.out.strip())
    number = run / "attempts" / "1.job"
    deadline = time.monotonic() + 30
    while not (run / "attempts" / "1.end").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert "Comment=a 'b' \"c\"" in asked("scontrol", "-o", "show", "job", number.read_text().strip())
    number.write_text("4000000\n")  # slurmctld knows no such job any more
    end = run / "attempts" / "1.end"
    end.write_text(re.sub('"job": "[0-9]+"', '"job": "4000000"', end.read_text()))
    (line,) = json.loads(launch("runs", "list", "--json", **odd).out)["runs"]
    assert (line["state"], line["why"]) == ("failed", "exit code 7")
    assert {"out", "err"} <= set((run / "log.txt").read_text().splitlines())


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        (("--sbatch", "partition=nope"), 73, "there is no such partition"),
        (("--nodes", "5"), 73, "no nodes of this cluster are like that"),
        (("--memory", "900g"), 73, "no nodes of this cluster are like that"),
        (("--sbatch", "constraint=nope"), 73, "no node has that feature"),
        (("--sbatch", "nodes=2"), 64, "instead: --nodes"),
    ],
)
def test_what_can_never_run_is_refused_before_there_is_a_record(
    launch: Launch,
    workspace: Path,
    probe: Callable[[str], Path],
    given: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    done = launch("run", probe("true"), *ON, *given)
    assert (done.code, said in done.err) == (code, True), done.err
    assert not (workspace / "runs").exists()


def test_a_recipes_code_and_a_missing_environment(
    launch: Launch, workspace: Path, probe: Callable[[str], Path]
) -> None:
    assert launch("run", probe("exit 9"), *ON, "--nodes", 2).code == 9
    (run,) = (workspace / "runs").iterdir()
    script = (run / "attempts" / "1.sbatch").read_text()
    # As on a node that does not share the folder of environments.
    lost = re.sub(r"(?m)^python=.*", "python=/nowhere/bin/python", script).replace("1.end", "2.end")
    lost = lost.replace("1.problems", "2.problems").replace(f"-e {run}/result.json", "-e /nowhere")
    (workspace / "job.sbatch").write_text(lost)
    subprocess.run(["sbatch", "--wait", workspace / "job.sbatch"], capture_output=True)
    problems = (run / "attempts" / "2.problems").read_text().splitlines()
    assert problems == [f"launch-problem\tenvironment\tn{n}\t/nowhere/bin/python" for n in (1, 2)]


@pytest.mark.engine
def test_a_node_that_fails_ends_the_others(
    launch: Launch, workspace: Path, probe: Callable[[str], Path], engine: Any, image: str
) -> None:
    """The code is that of the node that failed; the other node's container hears of nothing, and goes."""
    waits = "trap '' TERM\nwhile :; do sleep 0.2; done"
    recipe = probe(f"((LAUNCH_NODE_RANK)) && sleep 2 && exit 9\n{waits}")
    assert launch("run", recipe, *ON, "--nodes", 2, "--slurm-runtime", "docker").code == 9
    (run,) = (workspace / "runs").iterdir()
    assert engine.containers.list(all=True, filters={"label": f"launch.run={run.name}"}) == []


@pytest.mark.engine
def test_an_image_that_a_node_lacks(
    launch: Launch, workspace: Path, probe: Callable[[str], Path], engine: Any
) -> None:
    on = ("--nodes", 2, "--slurm-runtime", "docker", "--slurm-image", "finetune:never-built")
    done = launch("run", probe("true"), *ON, *on)
    assert done.code == 74
    assert "the image finetune:never-built is not on n1, n2" in done.err
    assert "launch image save" in done.err


BODY = """
echo "it is <$HF_TOKEN>"
echo waiting
until [[ -e $OUTPUT/go ]]; do sleep 0.1; done
"""


@pytest.mark.parametrize("runtime", ["none", pytest.param("docker", marks=pytest.mark.engine)])
def test_a_token_is_in_the_recipe_and_nowhere_else(
    launch: Launch,
    workspace: Path,
    probe: Callable[[str], Path],
    runtime: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if runtime == "docker":
        request.getfixturevalue("image")
    token = secrets.token_hex(20)
    (workspace / ".env").write_text(f"HF_TOKEN={token}\n")
    monkeypatch.setenv("LAUNCH_DOTENV", ".env")
    given = ("run", probe(BODY), *ON, "--nodes", 2, "--slurm-runtime", runtime, "--env", "HF_TOKEN")
    dry = launch(*given, "--dry-run")
    launcher = start_launch(workspace, *given)
    log = wait_for_log(workspace, "waiting\n")
    run = the_run(workspace, set())
    job = (run / "attempts" / "1.job").read_text().strip()
    assert "it is <***>" in log
    assert processes(token, "cmdline") == []
    assert all(line.startswith(("bash ", "sleep ")) for line in processes(token, "environ"))
    assert len(processes(token, "environ")) > 0  # root sees the recipe's own: the search finds what there is
    shared = run.parent / f".secrets-{os.getuid()}" / f"{run.name}.1"
    assert token in shared.read_text()  # Slurm may start the run again
    assert (shared.stat().st_mode & 0o777, shared.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    said = [dry.out, asked("scontrol", "show", "job", job), (run / "log.txt").read_text()]
    (run / "output" / "go").touch()
    assert launcher.wait(60) == 0
    said.append(asked("scontrol", "show", "job", job))
    assert not any(token in text for text in said)
    assert files(token, workspace, Path("/dev/shm")) == []
    state = Path(os.environ["SLURM_CONF"]).parent
    assert files(token, state / "state", state / "spool", state / "log") == []
