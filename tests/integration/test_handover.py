"""What ``launch export`` writes is started here as its README says, without the launcher."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from launcher import demo
from tests.integration.conftest import Done, Launch
from tests.support.ports import free_ports

#: Says what it got, where it may write, and the secret, which must be masked.
BODY = """
echo "$LAUNCH_RUN_ID $LAUNCH_RESTARTS" >>"$OUTPUT/said"
[[ $WORD == "a s3cr3t \\$word" ]] && echo "the secret is $WORD"
touch "$HOME/x" "$LAUNCH_SCRATCH/x" "$LAUNCH_RUN_DIR/x"
exit "${CODE:-5}"
"""
SECRET = "a s3cr3t $word"


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No file of a secret stays, however a run has ended."""
    memory = Path(os.environ.get("XDG_RUNTIME_DIR", "/dev/shm"))
    before = {*memory.glob("launch.*")}
    yield
    assert {*memory.glob("launch.*")} == before


def run(command: list[str], folder: Path, **variables: str) -> Done:
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "WORD": SECRET, **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def exported(launch: Launch, workspace: Path, *arguments: object) -> Path:
    folder = workspace / "handed over"
    done = launch("export", *arguments, folder, "--env", "WORD", WORD=SECRET)
    assert done.code == 0, done.err
    assert SECRET not in "".join(file.read_text() for file in folder.iterdir())
    return folder


def test_a_script_starts_the_run_and_goes_on_with_it(
    launch: Launch, workspace: Path, on: tuple[str, ...], probe: Callable[[str], Path]
) -> None:
    folder = exported(launch, workspace, probe(BODY), *on, "--to", "script")
    first = run(["./run.sh"], folder, RUN_ID="first")
    assert first.code == 5, first.err
    assert "the secret is ***" in first.out
    output = workspace / "runs" / "first" / "output"
    assert (output / "said").read_text() == "first 0\n"
    assert (output / "said").stat().st_uid == os.getuid()

    again = run(["./run.sh"], folder, RUN_ID="first")
    assert again.code == 77
    assert "holds something" in again.err
    resumed = run(["./run.sh"], folder, RUN_ID="first", RESTARTS="1")
    assert resumed.code == 5, resumed.err
    assert (output / "said").read_text() == "first 0\nfirst 1\n"

    elsewhere = run(["./run.sh"], folder, RUN_ID="second", OUTPUT=str(workspace / "else where"))
    assert elsewhere.code == 5, elsewhere.err
    assert (workspace / "else where" / "said").read_text() == "second 0\n"


@pytest.mark.engine
def test_compose_starts_the_run(
    launch: Launch, workspace: Path, image: str, engine: Any, probe: Callable[[str], Path]
) -> None:
    if run(["docker", "compose", "version"], workspace).code:
        reason = "no docker compose; tests/support/engine.sh install brings it"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    folder = exported(launch, workspace, probe(BODY), "--target", image, "--to", "compose")
    (folder / ".env").write_text(f"OUTPUT={workspace / 'else where'}\n")
    config = run(["docker", "compose", "config", "--quiet"], folder)
    assert (config.code, config.err) == (0, "")
    for place in ("runs/probe/scratch", "else where"):
        (workspace / place).mkdir(parents=True)
    (folder / "secrets").touch(mode=0o600)
    (folder / "secrets").write_bytes(f"WORD={SECRET}\0".encode())
    try:
        done = run(["docker", "compose", "up", "--exit-code-from", "run"], folder)
        (container,) = engine.containers.list(all=True, filters={"name": "launch-probe"})
        assert container.attrs["HostConfig"]["ReadonlyRootfs"]
        assert container.attrs["HostConfig"]["CapDrop"] == ["ALL"]
        assert container.attrs["HostConfig"]["NetworkMode"] == "none"
    finally:
        assert run(["docker", "compose", "down"], folder).code == 0
    assert done.code == 5, done.err
    assert "the secret is ***" in done.out
    assert (workspace / "else where" / "said").read_text() == "probe 0\n"


def losses(record: Path) -> list[float]:
    """Of each step, by rank 0."""
    events = [json.loads(line) for line in (record / "metrics.jsonl").read_text().splitlines()]
    steps = [event for event in events if event["event"] == "step" and "loss" in event]
    return [event["loss"] for event in steps if event["rank"] == 0]


@pytest.mark.environment
def test_a_script_on_two_nodes_trains_as_one_on_one(
    launch: Launch, workspace: Path, tiny_model: Path
) -> None:
    data = demo.write(workspace / "data").train
    given = ("bge-m3-unified", "--target", "cpu", "--engine", "venv", "--data", data, "--model", tiny_model)
    small = (
        "--max-steps",
        "3",
        "--train-group-size",
        "2",
        "--passage-max-len",
        "32",
        "--query-max-len",
        "32",
    )
    for name, shape in (("one", ("--nproc", "2")), ("two", ("--nodes", "2", "--nproc", "1"))):
        done = launch("export", *given, *small, *shape, "--to", "script", workspace / name)
        assert done.code == 0, done.err
    one = run(["./run.sh"], workspace / "one", RUN_ID="one")
    assert one.code == 0, one.err

    meeting = f"127.0.0.1:{free_ports()}"
    with ThreadPoolExecutor() as machines:
        ranks = [
            machines.submit(
                run, ["./run.sh"], workspace / "two", RUN_ID="two", NODE_RANK=str(rank), RENDEZVOUS=meeting
            )
            for rank in range(2)
        ]
    assert [each.result().code for each in ranks] == [0, 0], ranks[0].result().err
    runs = workspace / "runs"
    assert losses(runs / "two") == losses(runs / "one")
    assert len(losses(runs / "one")) == 3
