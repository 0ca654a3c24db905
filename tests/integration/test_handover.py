"""What ``launch export`` writes is started here as its README says, without the launcher."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Done, Launch

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
