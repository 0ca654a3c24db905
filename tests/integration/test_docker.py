"""Runs in containers: privileges, signals, refusals; what is left behind (nothing)."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher import plan as plans
from launcher import runs, secretfile
from launcher.app import plan as planning
from launcher.engines.docker import DockerEngine
from launcher.errors import DeviceError, DeviceRuntimeError
from launcher.plan import RunPlan, Start
from launcher.progress import Silent
from launcher.settings import load as load_settings
from tests.integration.conftest import Launch, start_launch, wait_for_log

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("image")]

ON = ("--target", "cpu", "--engine", "docker")


@pytest.fixture(autouse=True)
def nothing_left(engine: Any) -> Any:
    """No test may leave a container of a run behind."""
    yield
    deadline = time.monotonic() + 10  # it goes when its end is on the record, which a test may wait for
    while left := engine.containers.list(all=True, filters={"label": "launch.run"}, ignore_removed=True):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def _log(workspace: Path) -> str:
    (run,) = (workspace / "runs").iterdir()
    return (run / "log.txt").read_text()


def test_least_privilege(launch: Launch, workspace: Path, probe: Callable[[str], Path]) -> None:
    body = """
    echo "uid=$(id -u) gid=$(id -g)"
    grep -E 'CapEff|NoNewPrivs' /proc/self/status
    echo "interfaces=$(ls /sys/class/net | tr '\\n' ' ')"
    touch /etc/x 2>/dev/null || echo "root is read-only"
    touch "$LAUNCH_RECIPES/x" 2>/dev/null || echo "recipes are read-only"
    touch "$HOME/x" "$OUTPUT/x" /tmp/x && echo "home, output and /tmp are writable"
    python -c 'import getpass; print("user=" + getpass.getuser())'
    df -k /dev/shm | tail -n 1
    cat /proc/1/comm
    """
    done = launch("run", probe(body), *ON, "--shm-size", "128m")
    assert done.code == 0, done.err
    log = _log(workspace)
    assert f"uid={os.getuid()} gid={os.getgid()}" in log
    assert "CapEff:\t0000000000000000" in log
    assert "NoNewPrivs:\t1" in log
    assert "interfaces=lo " in log
    for line in (
        "root is read-only",
        "recipes are read-only",
        "home, output and /tmp are writable",
        "user=launch",
    ):
        assert line in log
    assert " 131072 " in log
    assert any(name in log for name in ("docker-init", "tini"))


def test_exit_code_passes_through(launch: Launch, workspace: Path, probe: Callable[[str], Path]) -> None:
    done = launch("run", probe("echo before; exit 37"), *ON)
    assert done.code == 37
    (run,) = (workspace / "runs").iterdir()
    result = json.loads((run / "result.json").read_text())
    assert (result["stage"], result["exit_code"], result["recipe_exit"]) == ("train", 37, 37)


def test_secrets_reach_the_run_and_nothing_else(
    launch: Launch, workspace: Path, probe: Callable[[str], Path]
) -> None:
    (workspace / "secrets").write_text("HF_TOKEN=hf_verysecret\n")
    body = '[[ ${#HF_TOKEN} == 13 && $PLAIN == seen ]] && echo "both arrived"'
    done = launch("run", probe(body), *ON, "--env-file", workspace / "secrets", "--env", "PLAIN=seen")
    assert done.code == 0, done.err
    assert "both arrived" in _log(workspace)
    (workspace / "secrets").unlink()
    for file in workspace.rglob("*"):
        assert not file.is_file() or b"hf_verysecret" not in file.read_bytes(), file


def test_out_of_memory_is_named(launch: Launch, probe: Callable[[str], Path]) -> None:
    done = launch(
        "run",
        probe("exec python -c 'x = bytearray(1 << 30); x[::4096] = x[::4096]'"),
        *ON,
        "--memory",
        "100m",
    )
    assert done.code == 79
    assert "ran out of memory (limit 100m)" in done.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_container(
    workspace: Path, probe: Callable[[str], Path], engine: Any, number: signal.Signals
) -> None:
    started = start_launch(workspace, "run", probe("echo ready; exec sleep 300"), *ON)
    wait_for_log(workspace, "ready")
    begun = time.monotonic()
    started.send_signal(number)
    assert started.wait(30) == 128 + number
    assert time.monotonic() - begun < 10


def test_a_second_signal_kills_at_once(workspace: Path, probe: Callable[[str], Path]) -> None:
    started = start_launch(
        workspace, "run", probe("trap '' TERM; echo ready; while true; do sleep 1; done"), *ON
    )
    wait_for_log(workspace, "ready")
    begun = time.monotonic()
    started.send_signal(signal.SIGINT)
    time.sleep(1)
    assert started.poll() is None, "the recipe ignores SIGTERM and has 20 s of grace"
    started.send_signal(signal.SIGINT)
    assert started.wait(15) == 130
    assert time.monotonic() - begun < 15


def test_detached_runs_go_on_without_the_launcher(
    launch: Launch, workspace: Path, probe: Callable[[str], Path]
) -> None:
    done = launch("run", probe("sleep 2; echo finished"), *ON, "--detach")
    assert done.code == 0, done.err
    run = Path(done.out.strip())
    deadline = time.monotonic() + 60
    while not (run / "result.json").exists():
        assert time.monotonic() < deadline, (run / "launcher.log").read_text()
        time.sleep(0.2)
    assert json.loads((run / "result.json").read_text())["stage"] == "done"
    assert "finished" in (run / "log.txt").read_text()


def test_an_output_with_a_run_in_it_is_refused(
    launch: Launch, workspace: Path, probe: Callable[[str], Path]
) -> None:
    recipe = probe("echo result > $OUTPUT/model")
    assert launch("run", recipe, *ON, "--output", workspace / "out").code == 0
    again = launch("run", recipe, *ON, "--output", workspace / "out")
    assert again.code == 77
    assert (workspace / "out" / "model").read_text() == "result\n"


def test_missing_image(launch: Launch, probe: Callable[[str], Path], workspace: Path) -> None:
    plan = replace(_plan(probe("true")).plan, image="finetune:cpu-000000000000")
    (workspace / "plan.json").write_text(plans.to_json(plan))
    done = launch("run", "--plan", workspace / "plan.json")
    assert done.code == 74, done.err
    assert "launch image build cpu" in done.err


def test_missing_model_offline(launch: Launch, rows: Path) -> None:
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": "/nonexistent"}
    done = launch("run", "bge-m3-unified", *ON, "--data", rows, "--model", "BAAI/no-such-model", **nowhere)
    assert done.code == 78, done.err
    done = launch("run", "bge-m3-unified", *ON, "--data", rows, "--model", "/nonexistent/model")
    assert done.code == 78


def _plan(probe: Path) -> planning.Planned:
    request = planning.Request(recipe=str(probe), target="cpu", engine="docker", env={"SPACED": "a b"})
    return planning.make(request, load_settings(), dry_run=False, progress=Silent())


def _with_access(plan: RunPlan, **changes: Any) -> RunPlan:
    return replace(plan, access=replace(plan.access, **changes))


def test_missing_devices_are_named_and_leave_nothing(probe: Callable[[str], Path], workspace: Path) -> None:
    planned = _plan(probe("true"))
    docker = DockerEngine()
    without_gpu = _with_access(planned.plan, gpus="all")
    with pytest.raises(DeviceRuntimeError):
        docker.check(without_gpu)
    without_dri = _with_access(planned.plan, devices=("/dev/no-such-device",))
    with pytest.raises(DeviceError):
        docker.check(without_dri)
    # and when only the engine notices: the same names, and no container in state "created"
    for plan, error in ((without_gpu, DeviceRuntimeError), (without_dri, DeviceError)):
        run_id = runs.new_id("probe")
        place = runs.folders(run_id, plan, parent=workspace)
        runs.prepare(plan, run_id, "", place)
        with pytest.raises(error):
            docker.start(docker.render(plan, place, Start(run=run_id)), {})


def test_the_printed_line_and_the_request_give_the_same_container(
    probe: Callable[[str], Path], workspace: Path, engine: Any
) -> None:
    """What a dry run prints is what a start does: both are made, and the engine is asked about both."""
    data = workspace / "some rows.jsonl"
    data.write_text('{"text": "x"}\n')
    planned = _plan(probe("true"))
    plan = replace(
        _with_access(planned.plan, memory="512m", groups=(44,), gpus="0,1"),
        inputs=(data,),
        secrets=("TOKEN",),
    )
    run_id = runs.new_id("probe")
    place = runs.folders(run_id, plan, parent=workspace)
    runs.prepare(plan, run_id, "", place)
    request = DockerEngine().render(plan, place, Start(run=run_id))
    with secretfile.handed(request.secrets, {"TOKEN": "t"}):
        made = engine.containers.create(**request.sdk())
    try:
        ours = _facts(made)
    finally:
        made.remove()
    line = request.printed().replace("docker run ", "docker create ", 1)
    created = subprocess.run(
        ["bash", "-c", line], env={**os.environ, "TOKEN": "t"}, capture_output=True, text=True, check=True
    )
    theirs_container = engine.containers.get(created.stdout.strip())
    try:
        theirs = _facts(theirs_container)
    finally:
        theirs_container.remove()
    assert ours == theirs


def _facts(container: Any) -> dict[str, Any]:
    """All that the engine says about a container but what differs between any two of them."""
    attrs = container.attrs
    config = {**attrs["Config"], "Env": sorted(attrs["Config"]["Env"])}
    for own in ("Hostname", "AttachStdout", "AttachStderr", "AttachStdin", "StdinOnce", "OpenStdin"):
        config.pop(own, None)
    host = attrs["HostConfig"]
    mounts = sorted((m["Source"], m["Destination"], m["RW"]) for m in attrs["Mounts"])
    ignored = {"Mounts", "Binds", "ConsoleSize", "ContainerIDFile"}
    normal = {key: value or None for key, value in host.items() if key not in ignored}
    return {
        "config": {k: v or None for k, v in config.items()},
        "host": normal,
        "mounts": mounts,
        "path": attrs["Path"],
    }
