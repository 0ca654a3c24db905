"""launcher.app.session, shell and notebook: a run's request without a recipe; nothing of the token in it."""

import json
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from launcher import jupyter, paths, settings
from launcher.app import leftovers, notebook, session, shell
from launcher.app.plan import Request
from launcher.app.session import Session
from launcher.cli import root
from launcher.engines import interactive, venv
from launcher.engines.container import ContainerRequest
from launcher.engines.docker import DockerEngine
from launcher.engines.interactive import InteractiveRequest
from launcher.engines.podman import Podman
from launcher.errors import OutputError, UsageError
from launcher.plan import Access, Start
from launcher.progress import Silent

Golden = Callable[[str, str], None]


@pytest.fixture(autouse=True)
def callers_environment(bench: Any) -> None:
    for name in (*venv._INHERITED, "COLORTERM"):
        bench.patch.delenv(name, raising=False)
    bench.patch.setenv("PATH", "/usr/bin:/bin")
    bench.patch.setenv("TERM", "xterm-256color")
    bench.patch.setattr(session.runs, "new_id", lambda kind: f"ID-{kind}")
    (bench.folder / "tmp").mkdir()
    bench.patch.setattr(session, "PARENT", bench.folder / "tmp")


def made(kind: str, bench: Any, **asked: Any) -> Session:
    request = Request(**{"recipe": kind, "target": "cpu", "engine": "docker", **asked})
    return session.make(kind, request, settings.load(), dry_run=True, progress=Silent())


def text(bench: Any, line: str) -> str:
    line = line.replace(str(bench.folder), "/fake").replace(str(paths.assets()), "/checkout")
    return line.replace(" --", " \\\n    --") + "\n"


def request_of(kind: Session, bench: Any, command: tuple[str, ...] = ()) -> InteractiveRequest:
    found = shell.request(kind, session.folders(kind, bench.folder / "SESSION"), command, terminal=True)
    assert isinstance(found, InteractiveRequest)
    return found


@pytest.mark.parametrize("target", ["cpu", "cuda", "xpu"])
def test_golden_shell(bench: Any, golden: Golden, target: str) -> None:
    gpus = {"gpus": "0"} if target != "cpu" else {}
    opened = made("shell", bench, target=target, data=(bench.data(),), model=str(bench.model()), **gpus)
    golden(f"session/shell-{target}.txt", text(bench, request_of(opened, bench).printed()))


def test_golden_shell_without_a_container(bench: Any, golden: Golden) -> None:
    opened = made("shell", bench, engine="venv", data=(bench.data(),), output=bench.folder / "out")
    line = shell.printed(opened, ("python", "-V"), bench.folder / "SESSION")
    golden("session/shell-venv.txt", text(bench, line).replace(" ", " \\\n    "))


@pytest.mark.parametrize("engine", ["docker", "venv"])
def test_golden_notebook(bench: Any, golden: Golden, engine: str) -> None:
    opened = made("notebook", bench, engine=engine, data=(bench.data(),), output=bench.folder / "notebooks")
    line = notebook.printed(opened, bench.folder / "SESSION")
    separator = " \\\n    " if engine == "venv" else " "
    golden(f"session/notebook-{engine}.txt", text(bench, line).replace(" ", separator))


def test_a_shell_sees_what_a_run_sees(bench: Any) -> None:
    given = {"target": "cuda", "data": (bench.data(),), "model": str(bench.model()), "gpus": "1"}
    run = bench.plan(**given, shm_size="3g", memory="4g")
    opened = made("shell", bench, **given, shm_size="3g", memory="4g")
    folders = session.folders(opened, bench.folder / "SESSION")
    one = run.engine.render(run.plan, folders, Start(run=opened.id))
    other = request_of(opened, bench).container
    for name in ("mounts", "user", "groups", "devices", "gpus", "shm_size", "memory", "network", "image"):
        assert getattr(one, name) == getattr(other, name), name
    said, here = dict(one.environment), dict(other.environment)
    assert {name: here[name] for name in said.keys() & here.keys()} == {
        **{name: said[name] for name in said.keys() & here.keys()},
        "NPROC": here["NPROC"],
    }
    assert {"DATA", "MODEL", "OUTPUT", "HOME", "NVIDIA_VISIBLE_DEVICES"} <= here.keys()


class Engine:
    """An engine's client: what it was asked to make."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.containers = SimpleNamespace(create=self._create, get=lambda id: id)
        self.api = SimpleNamespace(create_host_config=lambda **given: given, create_container=self._create)

    def _create(self, **given: Any) -> dict[str, str]:
        self.asked.append(given)
        return {"Id": "c0ffee"}


@pytest.mark.parametrize("terminal", [True, False])
def test_the_engine_gets_what_is_printed_and_the_streams(bench: Any, terminal: bool) -> None:
    request = replace(request_of(made("shell", bench), bench, ("nvidia-smi",)), terminal=terminal)
    engine, client = DockerEngine(), Engine()
    bench.patch.setattr(DockerEngine, "connect", lambda self: client)
    request.create(engine)
    assert client.asked == [{**request.container.sdk(), "stdin_open": True, "tty": terminal}]
    words = shlex.split(request.printed())
    assert words[:3] == ["docker", "run", "--interactive"]
    assert words[3:5] == (["--tty", "--rm"] if terminal else ["--rm", "--name"])
    assert words[-1] == "nvidia-smi"


def test_podman_gets_its_own_words_for_a_request_from_before_it_answered(bench: Any) -> None:
    request = request_of(made("shell", bench), bench)
    engine, client = DockerEngine(), Engine()

    def connect(self: DockerEngine) -> Engine:
        self._podman = Podman(version="5.4.0", rootless=True)
        return client

    bench.patch.setattr(DockerEngine, "connect", connect)
    request.create(engine)
    (asked,) = client.asked
    assert asked["host_config"]["UsernsMode"] == "keep-id"
    assert (asked["stdin_open"], asked["tty"]) == (True, True)
    assert not {"stdin_open", "tty"} & asked["host_config"].keys()


def test_podmans_line(bench: Any) -> None:
    words = shlex.split(request_of(made("shell", bench, engine="podman"), bench).printed())
    assert words[:6] == ["podman", "run", "--interactive", "--tty", "--rm", "--name"]
    assert words.count("run") == 1
    assert words[words.index("--userns") + 1] == "keep-id"


@pytest.mark.parametrize("verb", ["shell", "notebook"])
def test_podman_can_be_asked_for(bench: Any, verb: str) -> None:
    found = CliRunner().invoke(root, [verb, "cpu", "--engine", "podman", "--dry-run"])
    assert found.exit_code == 0, found.output
    assert "podman run " in found.output


@pytest.mark.parametrize("number", [1, 2])
def test_a_reader_that_is_gone_ends_it_like_any_pipe(bench: Any, number: int) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        bench.patch.setattr(sys, "stdout" if number == 1 else "stderr", stream)
        with pytest.raises(SystemExit) as end:
            interactive._say(stream, b"y\n")
        assert end.value.code == 141
        stream.write("Python's own last words")
        stream.flush()


def test_an_output_that_cannot_be_written_is_not_a_lost_container() -> None:
    with Path("/dev/full").open("w") as stream, pytest.raises(OutputError, match="cannot be passed on"):
        interactive._say(stream, b"y\n")


def test_no_session_is_taken_for_a_run(bench: Any) -> None:
    labels = dict(request_of(made("shell", bench), bench).container.labels)
    assert labels == {"launch.role": "shell", "launch.session": "ID-shell", "launch.target": "cpu"}


def test_a_container_says_whose_it_is(bench: Any) -> None:
    opened = replace(made("shell", bench), launcher=leftovers.own().text())
    labels = dict(request_of(opened, bench).container.labels)
    assert leftovers.read(labels[leftovers.LABEL]) == leftovers.own()


def test_the_network_is_off_until_it_is_asked_for(bench: Any) -> None:
    opened = made("notebook", bench)
    assert opened.planned.plan.access.network == Access().network == "none"
    on = made("notebook", bench, network="bridge")
    request = notebook.request(on, session.folders(on, bench.folder))
    assert isinstance(request, ContainerRequest)
    assert request.network == "bridge"
    assert dict(request.environment)["HF_HUB_OFFLINE"] == "0"
    assert "--publish" not in shlex.split(request.printed())


def test_data_that_is_not_there_is_refused(bench: Any) -> None:
    with pytest.raises(UsageError, match=r"none\.jsonl"):
        made("shell", bench, data=(bench.folder / "none.jsonl",))


def test_the_launchers_variables_cannot_be_set(bench: Any) -> None:
    with pytest.raises(UsageError, match="OUTPUT"):
        made("shell", bench, env={"OUTPUT": "/etc"})


def test_a_shell_needs_a_terminal(bench: Any) -> None:
    bench.patch.setattr(shell, "has_terminal", lambda: False)
    with pytest.raises(UsageError, match="terminal"):
        shell.run(made("shell", bench), ())


def test_the_sessions_folder_goes_with_it_and_the_output_stays(bench: Any) -> None:
    output = bench.folder / "kept"
    opened = made("shell", bench, engine="venv", output=output)
    with session.opened(opened) as folders:
        (folders.run / "scratch" / "x").write_text("")
        (folders.output / "y").write_text("")
        assert folders.run.parent.stat().st_mode & 0o777 == 0o700
    assert not folders.run.parent.exists()
    assert [path.name for path in output.iterdir()] == ["y"]


def test_the_token_is_in_one_file_of_the_user_alone(bench: Any) -> None:
    opened = made("notebook", bench, engine="venv", output=bench.folder)
    with session.opened(opened) as folders:
        request = notebook.request(opened, folders)
        notebook._configure(opened, folders, request, "t0k3n")
        holding = [path for path in folders.run.rglob("*") if path.is_file() and "t0k3n" in path.read_text()]
        assert [path.name for path in holding] == ["jupyter_server_config.json"]
        assert holding[0].stat().st_mode & 0o777 == 0o600
        said = json.loads(holding[0].read_text())
        assert said["IdentityProvider"]["token"] == "t0k3n"
        assert said["ServerApp"]["root_dir"] == str(bench.folder)
        assert Path(said["ServerApp"]["sock"]) == folders.run / jupyter.SOCKET
        assert "t0k3n" not in request.printed()
