"""Shells and notebooks for real: what they see of the machine, who reaches them, what stays (nothing)."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from launcher.process import with_variables
from tests.integration.conftest import Launch

#: Run by the environment's Python, which has a client of WebSockets: one cell, and what it printed.
CELL = r"""
import json, sys, uuid
import websocket
address, token, code = sys.argv[1:]
say = [f"Authorization: token {token}"]
channel = websocket.create_connection(address, header=say, timeout=60)
header = {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "version": "5.3"}
header |= {"session": "s", "username": "u"}
content = {"code": code, "silent": False, "store_history": False, "user_expressions": {}}
message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
channel.send(json.dumps(message))
while True:
    message = json.loads(channel.recv())
    if message["parent_header"].get("msg_id") != header["msg_id"]:
        continue
    if message["msg_type"] == "stream":
        print(message["content"]["text"], end="")
    if message["msg_type"] == "error":
        print(message["content"]["evalue"])
    if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
        break
"""


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """No container and no folder of a session may stay."""
    before = set(Path("/tmp").glob("launch-????????"))
    yield
    assert set(Path("/tmp").glob("launch-????????")) <= before
    if "docker" in request.node.name:
        engine = request.getfixturevalue("engine")
        assert (
            engine.containers.list(all=True, filters={"label": "launch.session"}, ignore_removed=True) == []
        )


SEEN = """
grep -E 'CapEff|NoNewPrivs' /proc/self/status
echo "id=$(id -u):$(id -g) $(id -G)"
echo "interfaces=$(ls /sys/class/net | tr '\\n' ' ')"
touch /etc/x 2>/dev/null || echo "root is read-only"
for place in "$DATA" "$LAUNCH_RECIPES" "$OUTPUT" "$HOME" "$LAUNCH_RUN_DIR"; do
  echo "$place $(cut -d' ' -f2,4 /proc/mounts | grep -F "$place " | cut -d' ' -f2 | cut -d, -f1)"
done
df -k /dev/shm | tail -n 1
"""


@pytest.mark.engine
@pytest.mark.usefixtures("image")
def test_a_command_in_docker_sees_what_a_run_sees(
    launch: Launch, workspace: Path, probe: Callable[[str], Path]
) -> None:
    (workspace / "rows.jsonl").write_text('{"text": "a"}\n')
    recipe = probe(SEEN)
    recipe.write_text(
        recipe.read_text().replace(
            "# [outputs]",
            '# [inputs.data]\n# format = "plain"\n# help = { en = "rows", zh = "行" }\n# [outputs]',
        )
    )
    options = ("--engine", "docker", "--data", "rows.jsonl", "--shm-size", "128m")
    run = launch("run", recipe, "--target", "cpu", *options)
    assert run.code == 0, run.err
    (log,) = (workspace / "runs").glob("*/log.txt")
    done = launch("shell", "cpu", *options, "--", "bash", "-c", SEEN)
    assert done.code == 0, done.err
    assert done.out == log.read_text()
    assert "CapEff:\t0000000000000000" in done.out
    assert "/data/0/rows.jsonl ro" in done.out


def test_a_commands_code_streams_and_output(on: tuple[str, ...], workspace: Path) -> None:
    command = ("bash", "-c", 'cat; echo said >&2; echo kept >"$OUTPUT/file"; exit 5')
    done = subprocess.run(
        [sys.executable, "-m", "launcher", "shell", "cpu", *on[2:], *("--output", "out", "--"), *command],
        cwd=workspace, input="typed\n", capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (5, "typed\n")
    assert done.stderr.splitlines()[-1] == "said"
    assert (workspace / "out" / "file").read_text() == "kept\n"


def test_a_secret_is_passed_on_and_not_printed(on: tuple[str, ...], launch: Launch) -> None:
    given = ("--env", "HF_TOKEN=hf_s3cr3t", "--", "bash", "-c", "echo ${#HF_TOKEN}")
    assert launch("shell", "cpu", *on[2:], *given).out == "9\n"
    assert "hf_s3cr3t" not in launch("shell", "cpu", *on[2:], "--dry-run", *given).out


def test_a_reader_that_is_gone_ends_a_command(on: tuple[str, ...], workspace: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "launcher", "shell", "cpu", *on[2:], "--", "yes"],
        cwd=workspace, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
    ) as child:  # fmt: skip
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline() == "y\n"
        child.stdout.close()
        assert child.wait(60) == 141
        assert "lost" not in child.stderr.read()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_launcher_that_is_told_to_end_leaves_nothing(
    on: tuple[str, ...], workspace: Path, number: signal.Signals
) -> None:
    command = ("bash", "-c", "echo on; exec sleep 100")
    with subprocess.Popen(
        [sys.executable, "-m", "launcher", "shell", "cpu", *on[2:], "--", *command],
        cwd=workspace, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
    ) as child:  # fmt: skip
        assert child.stdout is not None
        assert child.stdout.readline() == "on\n"
        child.send_signal(number)
        assert child.wait(60) == 128 + number


def test_the_next_session_ends_a_killed_one(on: tuple[str, ...], workspace: Path, launch: Launch) -> None:
    with served(workspace, on) as (address, token, child):
        (note,) = (
            file for file in Path("/tmp").glob("launch-*/launcher") if f" {child.pid} " in file.read_text()
        )
        session = note.read_text().split()[-1]
        child.kill()
        child.wait()
        assert note.exists()
        assert launch("shell", "cpu", *on[2:], "--", "true").code == 0
        assert not note.parent.exists()
        assert with_variables({"LAUNCH_RUN_ID": session}) == []
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"{address}/api/status?token={token}", trust_env=False)


def test_a_real_terminal(on: tuple[str, ...], workspace: Path) -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(workspace)
        argv = [sys.executable, "-m", "launcher", "shell", "cpu", *on[2:]]
        os.execv(sys.executable, argv)  # noqa: S606

    def until(text: str) -> str:
        said, deadline = "", time.monotonic() + 60
        while not re.search(text, said) and time.monotonic() < deadline:
            if select.select([terminal], [], [], 0.2)[0]:
                said += os.read(terminal, 4096).decode(errors="replace")
        assert re.search(text, said), said
        return said

    until(r"\(cpu\) .*[#$] ")
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 41, 123, 0, 0))
    # The launcher hears of it by a signal, and tells the engine.
    os.write(terminal, b"until [ \"$(stty size)\" = '41 123' ]; do sleep 0.1; done; tty; echo it''fits\n")
    until(r"/dev/pts/\d\s+itfits")
    os.write(terminal, b"sleep 100\n")
    time.sleep(1)
    os.write(terminal, b"\x03")  # Ctrl-C is for the program in the shell
    until(r"\^C")
    os.write(terminal, b"exit 9\n")
    until("exit")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@contextmanager
def served(workspace: Path, on: tuple[str, ...]) -> Iterator[tuple[str, str, "subprocess.Popen[str]"]]:
    """A notebook server: its address, its token, its launcher."""
    (workspace / "rows.jsonl").write_text('{"text": "a"}\n')
    (workspace / "books").mkdir()
    options = ("--folder", "books", "--data", "rows.jsonl", *on[2:])
    with subprocess.Popen(
        [sys.executable, "-m", "launcher", "--verbose", "notebook", "cpu", *options],
        cwd=workspace, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
    ) as child:  # fmt: skip
        try:
            assert child.stdout is not None
            line = child.stdout.readline()
            found = re.fullmatch(r"(http://127\.0\.0\.1:\d+)/lab\?token=([0-9a-f]{48})\n", line)
            assert found, (line, child.stderr.read() if child.stderr else "")
            yield found[1], found[2], child
        finally:
            if child.poll() is None:
                child.kill()


def _everything_said_by(child: "subprocess.Popen[str]") -> str:
    out, err = child.communicate(timeout=60)
    return out + err


@pytest.mark.environment
def test_a_notebook_for_this_machine_alone(
    on: tuple[str, ...], workspace: Path, environment: Path, request: pytest.FixtureRequest
) -> None:
    with served(workspace, on) as (address, token, child):
        port = int(address.rsplit(":", 1)[1])
        headers = {"Authorization": f"token {token}"}
        assert httpx.get(f"{address}/api/status").status_code == 403
        assert httpx.get(f"{address}/api/status", headers={"Authorization": "token x"}).status_code == 403
        assert "JupyterLab" in httpx.get(f"{address}/lab", headers=headers, follow_redirects=True).text
        for other in _addresses_of_this_machine():
            with pytest.raises(OSError, match="refused"):
                socket.create_connection((other, port), timeout=5)

        kernel = httpx.post(f"{address}/api/kernels", headers=headers, json={}, timeout=60).json()
        assert kernel["name"] == "finetune-cpu"
        spec = httpx.get(f"{address}/api/kernelspecs/finetune-cpu", headers=headers).json()
        assert spec["spec"]["display_name"] == "Fine-tuning (cpu)"
        code = (
            "import os, pathlib, torch; pathlib.Path('made').write_text('here');"
            "print(torch.ones(2).sum().item(), pathlib.Path(os.environ['DATA']).read_text().strip())"
        )
        channel = f"ws{address.removeprefix('http')}/api/kernels/{kernel['id']}/channels"
        said = subprocess.run(
            [str(environment / "bin" / "python"), "-c", CELL, channel, token, code],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert said.stdout == '2.0 {"text": "a"}\n', said.stderr
        assert (workspace / "books" / "made").read_text() == "here"

        _nowhere_else(token, request)
        child.send_signal(signal.SIGINT)
        said_at_last = _everything_said_by(child)
        assert child.returncode == 0
    assert token not in said_at_last
    assert not (workspace / "runs").exists()


def _addresses_of_this_machine() -> set[str]:
    found = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=False).stdout.split()
    return {address for address in found if ":" not in address}


def _nowhere_else(token: str, request: pytest.FixtureRequest) -> None:
    """No process has the token among its arguments; no engine knows it; the container has no network."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = file.read_bytes()
        except OSError:
            continue
        assert token.encode() not in arguments
    if "docker" not in request.node.name:
        return
    (container,) = request.getfixturevalue("engine").containers.list(
        filters={"label": "launch.role=notebook"}
    )
    assert token not in json.dumps(container.attrs)
    assert token not in container.logs().decode()
    assert container.attrs["HostConfig"]["NetworkMode"] == "none"
    assert not container.attrs["HostConfig"]["PortBindings"]
    assert not container.attrs["NetworkSettings"]["Ports"]


def test_a_taken_port_is_refused_before_anything_starts(on: tuple[str, ...], launch: Launch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = launch("notebook", "cpu", *on[2:], "--port", taken.getsockname()[1])
    assert done.code == 64
    assert "--port auto" in done.err


@pytest.mark.environment
def test_the_environment_as_a_kernel(launch: Launch, environment: Path, tmp_path: Path) -> None:
    home: dict[str, Any] = {"JUPYTER_DATA_DIR": str(tmp_path / "jupyter")}
    done = launch("env", "cpu", "--json", **home)
    assert done.code == 0, done.err
    said = json.loads(done.out)
    assert Path(said["folder"]) == environment
    listed = subprocess.run(
        [str(environment / "bin" / "jupyter"), "kernelspec", "list", "--json"],
        env={**os.environ, **home}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    spec = json.loads(listed.stdout)["kernelspecs"]["finetune-cpu"]
    assert spec["resource_dir"] == said["kernel"]
    started = (
        "from jupyter_client.manager import start_new_kernel as start;"
        "m, c = start(kernel_name='finetune-cpu');"
        "c.execute_interactive('import sys; print(sys.prefix)', timeout=60); m.shutdown_kernel(now=True)"
    )
    answer = subprocess.run(
        [str(environment / "bin" / "python"), "-c", started],
        env={**os.environ, **home, "HOME": str(tmp_path)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert answer.stdout.strip() == str(environment), answer.stderr
    assert launch("env", "cpu", "--unregister", **home).code == 0
    assert not Path(said["kernel"]).exists()
