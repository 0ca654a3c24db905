"""Runs in Podman, as root and without: containers as in Docker, the caller's own files, nothing left behind.

Debian's Podman, behind sockets of its own (tests/support/podman.sh), with a tiny image of this machine's own
programs, so that neither Docker nor the real image is needed.
"""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from launcher import runs, secretfile
from launcher.app import images
from launcher.app import plan as planning
from launcher.engines import podman as differences
from launcher.engines.docker import DockerEngine
from launcher.errors import DeviceError, DeviceRuntimeError
from launcher.plan import Folders, RunPlan, Start
from launcher.progress import Silent
from launcher.settings import load as load_settings
from tests.integration.conftest import PROBE, Done, result_of, wait_for_log
from tests.integration.test_docker import _facts

pytestmark = pytest.mark.engine

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "support" / "podman.sh"
PROGRAMS = ("bash", "cat", "df", "grep", "head", "id", "ls", "sleep", "tail", "touch", "tr")
BASE = "podman-test:tiny"
#: What the API and the command say differently of the same: no restart; how long a stop waits, which the
#: launcher says with each stop; the default limits of containers.conf, which it leaves alone.
SAME = ("host.RestartPolicy", "config.StopTimeout", "host.Ulimits")
PATH = "ENV PATH=/usr/bin:/bin"

#: The library of this Python.
STDLIB = Path(os.__file__).resolve().parent


@dataclass(frozen=True)
class Podman:
    """A Podman that answers, and who uses it."""

    client: Any
    variables: dict[str, str]
    prefix: tuple[str, ...]
    python: str
    uid: int
    gid: int
    rootless: bool
    folder: Path

    def command(self, *words: object) -> list[str]:
        return [*self.prefix, *map(str, words)]

    def launch(self, *words: object) -> Done:
        done = subprocess.run(
            self.command(self.python, "-m", "launcher", *words),
            cwd=self.folder,
            env={**os.environ, **self.variables},
            capture_output=True,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def begin(self, *words: object) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            self.command(self.python, "-m", "launcher", *words),
            cwd=self.folder,
            env={**os.environ, **self.variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def probe(self, body: str) -> Path:
        file = self.folder / "probe.sh"
        file.write_text(PROBE.format(body=body), encoding="utf-8")
        return file

    def log(self) -> str:
        (run,) = (self.folder / "runs").iterdir()
        return (run / "log.txt").read_text()


def _missing(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def _programs() -> bytes:
    """A root file system of a few of this machine's programs, with the libraries that they load."""
    wanted = {Path(found) for name in PROGRAMS if (found := shutil.which(name))}
    for program in (*wanted, Path(sys.executable).resolve()):
        wanted |= _libraries(program)
    wanted |= {library for module in _modules() if module.suffix == ".so" for library in _libraries(module)}
    python = Path(sys.executable).resolve()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for folder in ("output", "tmp", "launch", "proc", "dev", "sys", "etc"):
            made = tarfile.TarInfo(folder)
            made.type, made.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            archive.addfile(made)
        for file in sorted(wanted):
            archive.add(file.resolve(), arcname=str(file).lstrip("/"))
        archive.add(python, arcname="opt/venv/bin/python")
        for file in sorted(_modules()):
            archive.add(file, arcname=f"opt/venv/lib/{STDLIB.name}/{file.relative_to(STDLIB)}")
    return packed.getvalue()


def _libraries(file: Path) -> set[Path]:
    said = subprocess.run(["ldd", file], capture_output=True, text=True, check=True).stdout
    return {Path(word) for word in said.split() if word.startswith("/")}


@cache
def _modules() -> set[Path]:
    """What this Python's library has of the modules that the entry of runs with secrets imports."""
    program = (
        "import runpy, sys\n"
        "sys.argv[1:] = ['mask', '/nowhere', 'true']\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit: print(*(m.__file__ for m in sys.modules.values() if getattr(m, '__file__', 0)))\n"
    ).replace("sys.argv[0]", repr(str(ROOT / "recipes" / "runtime" / "entry.py")))
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True
    )
    found = {Path(word).resolve() for word in done.stdout.split()}
    return {file for file in found | {STDLIB / "os.py"} if file.is_relative_to(STDLIB)}


def _interpreter(prefix: tuple[str, ...]) -> str:
    """This Python, or the system's of the same version where another user may not reach into root's home."""
    version = "{}.{}".format(*sys.version_info)
    for python in (sys.executable, f"/usr/bin/python{version}"):
        asked = subprocess.run([*prefix, "env", python, "-c", "import ssl"], capture_output=True)
        if asked.returncode == 0:
            return python
    _missing(f"the user of the rootless Podman can start no Python {version}")
    raise AssertionError


@pytest.fixture(scope="session", params=["root", "rootless"])
def served(request: pytest.FixtureRequest) -> Iterator[Podman]:
    """A Podman with the tiny image under the name that the launcher looks for."""
    import docker

    if request.param == "root" and os.getuid() != 0:
        pytest.skip("root's Podman is root's")
    done = subprocess.run([SCRIPT, "env", request.param], capture_output=True, text=True)
    if done.returncode != 0:
        _missing(f"no Podman answers ({request.param}): {SCRIPT} install, then start {request.param}")
    lines = (line.removeprefix("export ").partition("=") for line in done.stdout.splitlines())
    variables = {**{name: value for name, _, value in lines}, "LAUNCH_BASE": BASE, "LAUNCH_LANG": "en"}
    rootless = request.param == "rootless"
    other = rootless and os.getuid() == 0
    prefix = (str(SCRIPT), "as-user") if other else ()
    owner = subprocess.run(
        [*prefix, "bash", "-c", "id -u; id -g"], capture_output=True, text=True, check=True
    )
    uid, gid = map(int, owner.stdout.split())
    python = _interpreter(prefix)
    variables["PYTHONPATH"] = ":".join([str(ROOT), *(path for path in sys.path if "site-packages" in path)])
    what = images.sources("cpu", BASE, ())
    labels = {"launch.lock-digest": f"sha256:{what.lock.digest}", "launch.target": "cpu"}
    changes = [part for item in labels.items() for part in ("--change", "LABEL {}={}".format(*item))]
    subprocess.run(
        [*prefix, "podman", "import", "--quiet", *changes, "--change", PATH, "-", what.reference],
        input=_programs(),
        env={**os.environ, **variables},
        capture_output=True,
        check=True,
    )
    client = docker.DockerClient(base_url=variables["DOCKER_HOST"], version="auto", timeout=60)
    folder = Path(tempfile.mkdtemp(prefix="podman-"))  # pytest's own folders are closed to other users
    yield Podman(client, variables, prefix, python, uid, gid, rootless, folder)
    shutil.rmtree(folder)
    client.images.remove(what.reference, force=True)
    client.close()


@pytest.fixture
def podman(served: Podman, monkeypatch: pytest.MonkeyPatch) -> Iterator[Podman]:
    """An empty working folder; no test may leave a container behind."""
    monkeypatch.delenv("LAUNCH_RUNS_DIR", raising=False)
    for name in ("DOCKER_HOST", "LAUNCH_BASE"):
        monkeypatch.setenv(name, served.variables[name])
    folder = Path(tempfile.mkdtemp(dir=served.folder))
    served.folder.chmod(0o755)
    os.chown(folder, served.uid, served.gid)
    # Before a run is prepared by this process, whoever it is: the containers' HOME must be the user's.
    monkeypatch.setenv("LAUNCH_CACHE_DIR", str(folder / "cache"))
    yield replace(served, folder=folder)
    assert served.client.containers.list(all=True, filters={"label": "launch.run"}, ignore_removed=True) == []


ON = ("--target", "cpu", "--engine", "docker")


def test_least_privilege_and_the_callers_own_files(podman: Podman) -> None:
    body = """
    echo "uid=$(id -u) gid=$(id -g)"
    grep -E 'CapEff|NoNewPrivs' /proc/self/status
    echo "interfaces=$(ls /sys/class/net | tr '\\n' ' ')"
    touch /usr/x 2>/dev/null || echo "root is read-only"
    touch "$LAUNCH_RECIPES/x" 2>/dev/null || echo "recipes are read-only"
    touch "$HOME/x" "$OUTPUT/x" /tmp/x && echo "home, output and /tmp are writable"
    df -k /dev/shm | tail -n 1
    cat /proc/1/comm
    echo "processes=$(cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null || true)"
    [[ ${#HF_TOKEN} == 13 && $PLAIN == seen ]] && echo "both arrived"
    printf 'no newline'
    """
    secrets = podman.folder / "secrets"
    secrets.write_text("HF_TOKEN=hf_verysecret\n")
    words = ("--shm-size", "128m", "--env-file", secrets, "--env", "PLAIN=seen")
    done = podman.launch("run", podman.probe(body), *ON, *words)
    assert done.code == 0, done.err
    log = podman.log()
    for line in (
        f"uid={podman.uid} gid={podman.gid}",
        "CapEff:\t0000000000000000",
        "NoNewPrivs:\t1",
        "interfaces=lo ",
        "root is read-only",
        "recipes are read-only",
        "home, output and /tmp are writable",
        " 131072 ",
        "podman-init",
        "both arrived",
        "no newline",
    ):
        assert line in log
    assert "processes=2048" not in log  # Podman's own limit is too small for a training
    secrets.unlink()
    assert podman.client.containers.list(all=True, filters={"label": "launch.run"}, ignore_removed=True) == []
    assert list(Path("/dev/shm").glob(f"finetune-launch-{podman.uid}/*")) == []
    (run,) = (podman.folder / "runs").iterdir()
    assert {(file.stat().st_uid, file.stat().st_gid) for file in run.rglob("*")} == {(podman.uid, podman.gid)}
    for file in podman.folder.rglob("*"):
        assert not file.is_file() or b"hf_verysecret" not in file.read_bytes(), file
    assert result_of(podman.folder)["versions"]["docker"].startswith("Podman ")


def test_its_own_socket_is_found(podman: Podman, tmp_path: Path) -> None:
    variables = {name: value for name, value in podman.variables.items() if name != "DOCKER_HOST"}
    if not podman.rootless:  # whose runtime folder nobody names: the one place that is left
        variables["CONTAINER_HOST"] = podman.variables["DOCKER_HOST"]
    away = ("env", "-u", "DOCKER_HOST", *(f"{name}={value}" for name, value in variables.items()))
    there = replace(podman, prefix=(*podman.prefix, *away))
    done = there.launch("run", podman.probe("exit 37"), "--target", "cpu", "--engine", "podman")
    assert done.code == 37, done.err
    result = result_of(podman.folder)
    assert (result["engine"], result["recipe_exit"]) == ("podman", 37)
    assert result["versions"].keys() == {"launcher", "python", "podman"}
    silent = there.launch(
        "run", podman.probe("true"), *("--target", "cpu", "--engine", "auto", "--dry-run", "--json")
    )
    if "running in Podman, which has the image" not in silent.err:
        # Docker's default socket answers on this machine, and comes first.
        assert json.loads(silent.out)["plan"]["engine"] == "docker"


def test_memory(podman: Podman) -> None:
    done = podman.launch("run", podman.probe("exec tail /dev/zero"), *ON, "--memory", "100m")
    if differences.found(podman.client).limits:  # type: ignore[union-attr]
        assert done.code == 79, done.err
        assert "ran out of memory (limit 100m)" in done.err
    else:
        assert done.code == 73, done.err
        assert "cannot limit a container's memory" in done.err


def test_a_signal_stops_the_container(podman: Podman) -> None:
    started = podman.begin("run", podman.probe("echo ready; exec sleep 300"), *ON)
    wait_for_log(podman.folder, "ready")
    begun = time.monotonic()
    started.send_signal(signal.SIGTERM)
    assert started.wait(30) == 128 + signal.SIGTERM
    assert time.monotonic() - begun < 10


def test_a_second_signal_kills_at_once(podman: Podman) -> None:
    body = "trap '' TERM; echo ready; while true; do sleep 1; done"
    started = podman.begin("run", podman.probe(body), *ON)
    wait_for_log(podman.folder, "ready")
    begun = time.monotonic()
    started.send_signal(signal.SIGINT)
    time.sleep(1)
    assert started.poll() is None, "the recipe ignores SIGTERM and has 20 s of grace"
    started.send_signal(signal.SIGINT)
    assert started.wait(15) == 130
    assert time.monotonic() - begun < 15


def test_detached_runs_go_on_without_the_launcher(podman: Podman) -> None:
    done = podman.launch("run", podman.probe("sleep 2; echo finished"), *ON, "--detach")
    assert done.code == 0, done.err
    run = Path(done.out.strip())
    deadline = time.monotonic() + 60
    while not (run / "result.json").exists():
        assert time.monotonic() < deadline, (run / "launcher.log").read_text()
        time.sleep(0.2)
    assert json.loads((run / "result.json").read_text())["stage"] == "done"
    assert "finished" in (run / "log.txt").read_text()


def test_the_doctor_tells_it_from_docker(podman: Podman) -> None:
    for _ in range(5):  # it gives an engine two seconds, which a busy machine may not have
        done = podman.launch("doctor", "--target", "cpu", "--json")
        lines = {line["name"]: line for line in json.loads(done.out)["lines"]}
        found = lines["engine"]["found"]
        if "no answer" not in found:
            break
    else:  # Debian's Podman asks dpkg for each of its parts: a second for each question, idle
        pytest.skip("the machine is too busy for the doctor's two seconds")
    assert found.startswith("Podman ")
    assert found.endswith(" without root") == podman.rootless
    assert ("without root" in lines["engine.rootless"]["found"]) == podman.rootless
    assert "own builder" in lines["engine.builder"]["found"]
    assert lines["image"]["status"] == "ok"


def _prepared(podman: Podman, plan: RunPlan) -> tuple[str, Folders]:
    """A run's folders, as its own user would have made them."""
    run_id = runs.new_id("probe")
    place = runs.folders(run_id, plan, parent=podman.folder)
    runs.prepare(plan, run_id, "", place)
    for path in (podman.folder, *podman.folder.rglob("*")):
        os.chown(path, podman.uid, podman.gid)
    return run_id, place


def _planned(podman: Podman, probe: Path) -> planning.Planned:
    request = planning.Request(recipe=str(probe), target="cpu", engine="docker", env={"SPACED": "a b"})
    found = planning.make(request, load_settings(), dry_run=False, progress=Silent())
    return replace(found, plan=replace(found.plan, uid=podman.uid, gid=podman.gid))


def test_what_is_missing_is_named_and_leaves_nothing(podman: Podman) -> None:
    plan = _planned(podman, podman.probe("true")).plan
    without = replace(plan, access=replace(plan.access, devices=("/dev/no-such-device",)))
    engine = DockerEngine()
    with pytest.raises(DeviceRuntimeError, match="Podman"):
        engine.check(replace(plan, access=replace(plan.access, gpus="all")))
    run_id, place = _prepared(podman, without)
    with pytest.raises(DeviceError, match="/dev/no-such-device"):  # when only the engine notices
        engine.start(engine.render(without, place, Start(run=run_id)), {})


def test_the_printed_line_and_the_request_give_the_same_container(
    podman: Podman, monkeypatch: pytest.MonkeyPatch
) -> None:
    # This process may be root, and make the file for another user's Podman.
    monkeypatch.setenv("LAUNCH_SECRETS_DIR", str(podman.folder))
    monkeypatch.setattr(secretfile, "_own", lambda found: True)
    data = podman.folder / "some rows.jsonl"
    data.write_text('{"text": "x"}\n')
    plan = _planned(podman, podman.probe("true")).plan
    plan = replace(plan, inputs=(data,), secrets=("TOKEN",))
    if not podman.rootless:
        plan = replace(plan, access=replace(plan.access, memory="512m", groups=(44,)))
    run_id, place = _prepared(podman, plan)
    engine = DockerEngine()
    engine.check(plan)
    request = engine.render(plan, place, Start(run=run_id))
    assert request.secrets is not None
    with secretfile.handed(request.secrets, {"TOKEN": "t"}):
        os.chown(request.secrets.path.parent, podman.uid, podman.gid)
        made = engine.create(request)
    try:
        ours = _normal(_facts(made))
    finally:
        made.remove()
    line = request.printed()
    assert "; podman run " in line
    created = subprocess.run(
        podman.command("bash", "-c", line.replace("podman run ", "podman create ", 1)),
        env={**os.environ, **podman.variables, "TOKEN": "t"},
        capture_output=True,
        text=True,
    )
    assert created.returncode == 0, created.stderr
    container = podman.client.containers.get(created.stdout.strip())
    try:
        theirs = _normal(_facts(container))
    finally:
        container.remove()
    assert {name: (ours.get(name), theirs.get(name)) for name in ours | theirs} == {
        name: (value, value) for name, value in ours.items()
    }


def _normal(facts: dict[str, Any]) -> dict[str, Any]:
    """In one level, without what Podman says in two ways of the same."""
    found = {
        **{f"host.{name}": value for name, value in facts["host"].items()},
        **{f"config.{name}": value for name, value in facts["config"].items()},
        **{name: facts[name] for name in ("mounts", "path")},
    }
    if found["host.PidsLimit"] == -1:  # no limit, which the command says by nothing
        found["host.PidsLimit"] = None
    return {name: value for name, value in found.items() if name not in SAME}
