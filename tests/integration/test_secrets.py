"""A secret is in the recipe's process and nowhere else: a random token, looked for in everything there is."""

import json
import os
import resource
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from launcher import paths
from tests.integration.conftest import Launch, start_launch, wait_for_log

ENTRY = Path(__file__).resolve().parents[2] / "recipes" / "runtime" / "entry.py"

BODY = """
[[ $KEY == $'one line of it\\n"another" \\'line\\' $of =it\\n' ]] && echo "the key is what it was"
echo "length ${#HF_TOKEN}"
echo "it is <$HF_TOKEN>"
echo "$KEY" >&2
printf '%s' "in two ${HF_TOKEN:0:11}"; sleep 0.3; echo "${HF_TOKEN:11} pieces"
PYTHONPATH="$LAUNCH_RECIPES" python -c '
import os
from runtime import events
events.report_failure(ValueError("https://me:" + os.environ["HF_TOKEN"] + "@host refused"))'
echo waiting
until [[ -e $OUTPUT/go ]]; do sleep 0.1; done
echo "at last $HF_TOKEN"
"""


@pytest.fixture
def token(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A random one, which nothing but a .env knows; beside it a key of several lines."""
    made = secrets.token_hex(20)
    key = "one line of it\\n\\\"another\\\" 'line' $of =it\\n"
    (workspace / ".env").write_text(f'export HF_TOKEN="{made}" # mine\nKEY="{key}"\n')
    monkeypatch.setenv("LAUNCH_DOTENV", ".env")
    return made


WITH = ("--env", "HF_TOKEN", "--env", "KEY")


def processes(token: str, file: str) -> list[str]:
    """The command lines of the processes in one of whose files in /proc it is."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int(entry.name) != os.getpid() and token.encode() in (entry / file).read_bytes():
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def files(token: str, *folders: Path) -> list[Path]:
    """The files in which it is, or in whose name."""
    return [
        file
        for folder in folders
        for file in folder.rglob("*")
        if token in file.name
        or (file.is_file() and file.name != ".env" and token.encode() in file.read_bytes())
    ]


def left() -> list[Path]:
    """Files of secrets that are still there."""
    return [file for folder in paths.secrets() if folder.is_dir() for file in folder.iterdir()]


def test_a_token_is_in_the_recipe_and_nowhere_else(
    on: tuple[str, ...],
    launch: Launch,
    workspace: Path,
    probe: Callable[[str], Path],
    token: str,
    request: pytest.FixtureRequest,
) -> None:
    recipe = probe(BODY)
    dry = launch("run", recipe, *on, *WITH, "--dry-run")
    verbose = launch("--verbose", "run", recipe, *on, *WITH, "--dry-run", "--json")
    child = start_launch(workspace, "--verbose", "run", recipe, *on, *WITH)
    wait_for_log(workspace, "waiting")
    (run,) = (workspace / "runs").iterdir()
    assert processes(token, "cmdline") == []
    assert all(line.startswith(("bash ", "sleep ")) for line in processes(token, "environ"))
    assert len(processes(token, "environ")) > 0  # root sees the recipe's own: the search finds what there is
    assert left() == []
    said = [dry.out, dry.err, verbose.out, verbose.err]
    if "docker" in on:
        engine = request.getfixturevalue("engine")
        (container,) = engine.containers.list(filters={"label": f"launch.run={run.name}"})
        said += [
            json.dumps(container.attrs),
            container.logs().decode(),
            json.dumps(container.image.history()),
        ]
        said += [Path(container.attrs["LogPath"]).read_text()]
        assert json.dumps("waiting\n")[1:-1] in said[-1]
    (run / "output" / "go").touch()
    assert child.wait(60) == 0
    for words in (("list", "--json"), ("show", run.name), ("show", run.name, "--json"), ("logs", run.name)):
        done = launch("runs", *words)
        assert done.code == 0, done.err
        said += [done.out, done.err]
    assert launch("runs", "export", run.name, "--output", workspace / "run.tar.gz").code == 0
    subprocess.run(["tar", "-xzf", "run.tar.gz", "--one-top-level=exported"], cwd=workspace, check=True)
    assert launch("runs", "report", run.name, "--output", workspace / "report.html").code == 0
    assert [text for text in said if token in text] == []
    assert files(token, workspace) == []
    log = (run / "log.txt").read_text()
    for line in ("the key is what it was", "length 40", "it is <***>", "in two *** pieces", "at last ***"):
        assert line in log.splitlines(), log
    assert "another" not in log
    assert "https://me:***@host refused" in (run / "metrics.jsonl").read_text()
    assert "HF_TOKEN, KEY: from .env" in dry.err


def test_a_killed_launcher_leaves_none_and_the_rest_is_masked(
    on: tuple[str, ...], launch: Launch, workspace: Path, probe: Callable[[str], Path], token: str
) -> None:
    """Whoever concludes the run does not know the values, and brings the end of its log."""
    assert launch("run", probe(BODY), *on, *WITH, "--detach").code == 0
    wait_for_log(workspace, "waiting")
    (run,) = (workspace / "runs").iterdir()
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if f"--begun\0{run}\0".encode() in entry.read_bytes():
                os.kill(int(entry.parent.name), signal.SIGKILL)
    forgotten = paths.secrets()[-2] if "XDG_RUNTIME_DIR" not in os.environ else paths.secrets()[0]
    (forgotten / f"{run.name}.1").write_text(f"HF_TOKEN={token}\0")  # as if in the moment of the start
    (run / "output" / "go").touch()
    deadline = time.monotonic() + 60
    while not (run / "result.json").exists():
        assert time.monotonic() < deadline
        launch("runs", "list")
        time.sleep(0.2)
    assert json.loads((run / "result.json").read_text())["exit_code"] == 0
    assert "at last ***" in (run / "log.txt").read_text()
    assert files(token, workspace) == []
    assert left() == []


def test_the_printed_line_gives_a_person_the_same(
    on: tuple[str, ...], launch: Launch, workspace: Path, probe: Callable[[str], Path]
) -> None:
    token = secrets.token_hex(20)
    recipe = probe('echo "length ${#HF_TOKEN} $HF_TOKEN"; exit 5')
    dry = launch("run", recipe, *on, "--env", "HF_TOKEN", "--dry-run", "--json", HF_TOKEN=token)
    found = json.loads(dry.out)
    assert token not in dry.out
    line = f"{found['folders']} && {found['command']}"
    without = {name: value for name, value in os.environ.items() if name != "HF_TOKEN"}
    for variables, code in (({**without, "HF_TOKEN": token}, 5), (without, 1)):
        done = subprocess.run(
            ["bash", "-c", line], env=variables, cwd=workspace, capture_output=True, text=True
        )
        assert done.returncode == code, done.stderr
        assert ("length 40 ***" in done.stdout) == (code == 5)
        assert left() == []
        with suppress(OSError):
            (workspace / "runs" / "RUN_ID" / "output").rmdir()
        if "docker" in on:
            subprocess.run(["docker", "rm", "--force", "launch-RUN_ID"], capture_output=True, check=False)


RESTARTED = """
PYTHONPATH="$LAUNCH_RECIPES" python -c 'from runtime import events; events.report("begin", world_size=1)'
echo "start ${LAUNCH_ATTEMPT:-1}: ${#HF_TOKEN} $HF_TOKEN"
[[ ${LAUNCH_ATTEMPT:-1} == 2 ]]
"""


def test_each_start_has_its_own(
    on: tuple[str, ...], launch: Launch, workspace: Path, probe: Callable[[str], Path], token: str
) -> None:
    done = launch("run", probe(RESTARTED), *on, "--env", "HF_TOKEN", "--max-restarts", 1)
    assert done.code == 0, done.err
    (run,) = (workspace / "runs").iterdir()
    assert (run / "log.txt").read_text() == "start 1: 40 ***\nstart 2: 40 ***\n"
    assert files(token, workspace) == []
    assert left() == []
    plan = launch("run", "--plan", run / "plan.json")
    assert plan.code == 64
    assert "the plan needs HF_TOKEN" in plan.err
    assert launch("run", "--plan", run / "plan.json", "--env", "HF_TOKEN").code == 1  # it is not restarted


# --------------------------------------------------------------------------------------- the entry
@pytest.fixture
def enter(tmp_path: Path) -> Callable[..., "subprocess.Popen[bytes]"]:
    """A bash program, started by the entry with a secret."""

    def start(program: str, **secrets: str) -> "subprocess.Popen[bytes]":
        file = tmp_path / "handed"
        given = {"TOKEN": "0123456789", **secrets}
        file.write_bytes(b"".join(f"{name}={value}\0".encode() for name, value in given.items()))
        command = [sys.executable, "-I", "-S", str(ENTRY), "mask", str(file), "bash", "-c", program]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    return start


@pytest.fixture(autouse=True)
def nothing_runs() -> Iterator[None]:
    """No test may leave a program behind."""
    yield
    for pid in (line.split()[0] for line in processes("0123456789", "environ")):
        raise AssertionError(pid)


def said(child: "subprocess.Popen[bytes]") -> tuple[int, bytes]:
    out, _ = child.communicate(timeout=30)
    return child.returncode, out


def test_codes_pass_through(enter: Callable[..., Any]) -> None:
    assert said(enter('echo "$TOKEN"; exit 37')) == (37, b"***\n")
    assert said(enter("kill -KILL $$")) == (137, b"")
    assert said(enter("exec nowhere-to-be-found 2>/dev/null"))[0] == 127
    assert said(enter('printf "no end %s" "${TOKEN:0:5}"')) == (0, b"no end 01234")


def test_names_that_bash_keeps_for_itself_hurt_nobody(enter: Callable[..., Any]) -> None:
    code, out = said(enter('echo "$PLAIN"', UID="12345678", IFS="x", PLAIN="a b", BASH_ENV="/nowhere"))
    assert (code, out) == (0, b"a b\n")


def test_no_core_file_holds_the_values_unless_the_recipe_wants_one(enter: Callable[..., Any]) -> None:
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    wanted = "unlimited" if hard == resource.RLIM_INFINITY else str(hard // 1024)
    code, out = said(enter("ulimit -Sc; ulimit -Sc hard; ulimit -Sc"))
    assert (code, out.split()) == (0, [b"0", wanted.encode()])


def test_signals_reach_the_program(enter: Callable[..., Any]) -> None:
    child = enter("trap 'echo asked; exit 9' TERM; echo ready; while :; do sleep 0.1; done")
    assert child.stdout.readline() == b"ready\n"
    child.terminate()
    code, out = said(child)
    assert (code, out.splitlines()[-1]) == (9, b"asked")


def test_a_child_left_behind_does_not_keep_the_end_back(enter: Callable[..., Any]) -> None:
    began = time.monotonic()
    child = enter("sleep 5 & echo done")
    assert child.wait(30) == 0
    assert time.monotonic() - began < 4
    assert child.stdout.read(5) == b"done\n"
    time.sleep(5 - (time.monotonic() - began) + 0.5)


def test_nobody_outlives_a_killed_entry(enter: Callable[..., Any]) -> None:
    child = enter("echo $$; exec sleep 60")
    pid = int(child.stdout.readline())
    child.kill()
    child.wait()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_reader_that_is_gone_ends_nothing(enter: Callable[..., Any], tmp_path: Path) -> None:
    child = enter(f'for i in {{1..300}}; do echo "$i"; done; sleep 0.3; echo more; touch {tmp_path}/whole')
    child.stdout.close()
    assert child.wait(30) == 0
    assert (tmp_path / "whole").exists()
