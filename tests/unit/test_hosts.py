"""launcher.engines.hosts: what a plan becomes for hosts over ssh; that it works is an integration test."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from launcher import plan as plans
from launcher import process, runs
from launcher.cli import root, sites
from launcher.engines import supervised
from launcher.engines.base import Exit
from launcher.engines.hosts import HostsEngine, HostsHandle, HostsRequest, script
from launcher.errors import EngineError, ImageMissingError, UsageError
from launcher.plan import Hosts, HostsRuntime, RunPlan, Start, hostfile
from launcher.process import Completed

Golden = Callable[[str, str], None]

NAMES = ("worker-1", "ada@worker-2.cluster")


@pytest.fixture(autouse=True)
def callers_shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PDSH_SSH_ARGS_APPEND", "SSH_AUTH_SOCK", "DOCKER_HOST", "TZ"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path / 'programs'}:/usr/bin:bin")
    monkeypatch.setenv("HF_TOKEN", "hf_s3cr3t")


def planned(bench: Any, runtime: HostsRuntime, names: tuple[str, ...] = NAMES, **asked: Any) -> Any:
    site = Hosts(runtime=runtime, names=names)
    return bench.plan(
        **{"target": "cuda", "nodes": len(names), "nproc": 4, "site": site, "preflight": False, **asked}
    )


def rendered(bench: Any, plan: RunPlan, start: Start | None = None) -> HostsRequest:
    environment = None if plan.container else bench.folder / "envs" / "cuda"
    return HostsEngine(environment).render(plan, runs.folders("RUN_ID", plan), start or Start(run="RUN_ID"))


@pytest.mark.parametrize("runtime", ["docker", "podman", "venv"])
def test_golden_scripts(bench: Any, golden: Golden, runtime: HostsRuntime) -> None:
    found = planned(
        bench,
        runtime,
        data=(bench.data(),),
        model=str(bench.model()),
        arguments=("--seed", "7 8"),
        env={"WANDB_PROJECT": "it's"},
        secrets={"HF_TOKEN": "hf_s3cr3t"},
    )
    request = rendered(bench, found.plan)
    golden(f"hosts/{runtime}.sh", bench.text(request.text, found))
    assert request.hostfile == "worker-1 slots=4\nada@worker-2.cluster slots=4\n"
    assert "hf_s3cr3t" not in request.printed() + request.text + repr(request)


def test_golden_of_intel_gpus_and_a_second_start(bench: Any, golden: Golden) -> None:
    found = planned(bench, "docker", target="xpu", nproc=2)
    request = rendered(bench, found.plan, Start(run="RUN_ID", attempt=2, checkpoint="checkpoint-4"))
    golden("hosts/xpu.sh", bench.text(request.text, found))


def test_golden_lines_to_paste(bench: Any, golden: Golden) -> None:
    found = planned(bench, "venv", names=("10.0.0.7", "10.0.0.8"), secrets={"HF_TOKEN": "x"})
    golden("hosts/venv.txt", bench.text(rendered(bench, found.plan).printed(), found))


def test_every_start_has_ports_of_its_own(bench: Any) -> None:
    plan = planned(bench, "venv").plan

    def port(attempt: int) -> int:
        command = rendered(bench, plan, Start(run="RUN_ID", attempt=attempt)).command
        return int(command[command.index("--master_port") + 1])

    ports = [port(attempt) for attempt in range(1, 9)]
    assert len(set(ports)) == len(ports)
    assert all(20000 <= each < 32000 and each % 2 == 0 for each in ports)


def test_an_address_is_the_rendezvous_and_a_name_is_asked(bench: Any) -> None:
    named = rendered(bench, planned(bench, "venv").plan).command
    assert "--master_addr" not in named
    by_address = rendered(bench, planned(bench, "venv", names=("ada@10.0.0.7", "b")).plan).command
    assert by_address[by_address.index("--master_addr") + 1] == "10.0.0.7"


def test_what_the_shell_says_to_ssh_is_kept(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PDSH_SSH_ARGS_APPEND", "-F mine")
    said = dict(rendered(bench, planned(bench, "venv").plan).environment)
    assert said["PDSH_SSH_ARGS_APPEND"].startswith("-F mine -tt -o BatchMode=yes ")
    assert said["LAUNCH_RUN_ID"] == "RUN_ID"
    assert not {"HF_TOKEN", "PYTHONPATH"} & set(said)  # PYTHON… is exported to the hosts


def test_a_path_that_a_shell_would_split_is_refused(bench: Any) -> None:
    plan = planned(bench, "venv").plan
    folders = runs.folders("RUN_ID", plan, bench.folder / "my runs")
    with pytest.raises(UsageError, match=r"cannot start what lies below .*my runs"):
        HostsEngine(bench.folder).render(plan, folders, Start(run="RUN_ID"))


def test_the_plan_comes_back(bench: Any) -> None:
    for runtime in ("docker", "venv"):
        plan = planned(bench, runtime).plan
        assert plans.from_json(plans.to_json(plan)) == plan
        assert (plan.engine, plan.nodes, plan.world_size, plan.elsewhere) == ("hosts", 2, 8, True)
        assert plan.container == (runtime == "docker")


# --- the file -----------------------------------------------------------------------------------


def test_hosts_in_their_order() -> None:
    text = "# mine\nb slots=8\n\n  ada@a.cluster\tslots=8 # the other\n"
    assert hostfile(text, "hf") == (("b", "ada@a.cluster"), 8)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no host"),
        ("a slots=2", "names one host"),
        ("a slots=2\nb slots=1", r"the same number of slots, at least 1 \(a 2, b 1\)"),
        ("a slots=0\nb slots=0", "at least 1"),
        ("a slots=2\na slots=2", "line 2: a is there twice"),
        ("a slots=2\nb", "line 2: 'b' names no host"),
        ("a\nb", "line 1"),
        ("node[1-3] slots=2\nb slots=2", "line 1"),
        ("a,c slots=2\nb slots=2", "line 1"),
        ("-oProxyCommand=x slots=2\nb slots=2", "line 1"),
        ("$(id) slots=2\nb slots=2", "line 1"),
        ("a slots=2 gpu=1\nb slots=2", "line 1"),
    ],
)
def test_what_is_no_hostfile(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        hostfile(text, "hf")


@given(st.text(alphabet=st.sampled_from("ab1 =slots\n#@-.[,$\t"), max_size=60))
def test_a_hostfile_is_read_or_refused(text: str) -> None:
    try:
        names, slots = hostfile(text, "hf")
    except UsageError:
        return
    assert len(set(names)) == len(names) >= 2
    assert slots > 0
    assert not any(sign in name for name in names for sign in " ,[$#\t")


# --- the command line -----------------------------------------------------------------------------


def given_options(file: Path, **more: object) -> dict[str, object]:
    options = {str(option.name): None for option in sites.options()}
    return {**options, "hostfile": file, "engine": "venv", "nodes": 1, "nproc": None, **more}


def test_the_file_says_how_many(tmp_path: Path) -> None:
    (tmp_path / "hf").write_text("a slots=4\nb slots=4\n")
    found = sites.machines(given_options(tmp_path / "hf"))
    assert found == (Hosts(runtime="venv", names=("a", "b")), 2, 4)
    assert found == sites.machines(given_options(tmp_path / "hf", nodes=2, nproc="4"))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"nodes": 3}, "--nodes 3, but .* names 2 hosts"),
        ({"nproc": "2"}, "--nproc 2, but .* says slots=4"),
        ({"engine": "slurm"}, "--hostfile needs --engine docker, podman or venv"),
        ({"engine": None}, "--hostfile needs --engine docker, podman or venv"),
        ({"hostfile": Path("/nowhere")}, "--hostfile /nowhere cannot be read"),
    ],
)
def test_options_that_contradict_the_file(tmp_path: Path, more: dict[str, object], said: str) -> None:
    (tmp_path / "hf").write_text("a slots=4\nb slots=4\n")
    with pytest.raises(UsageError, match=said):
        sites.machines(given_options(tmp_path / "hf", **more))


def test_files_to_keep_are_not_for_it(bench: Any, tmp_path: Path) -> None:
    given = ["export", "bge-m3-unified", "--to", "script", str(tmp_path / "kept"), "--hostfile", "hf"]
    done = CliRunner().invoke(root, [*given, "--data", str(bench.data())])
    assert isinstance(done.exception, UsageError)
    assert "--hostfile goes with launch run" in done.exception.message


# --- hosts that lack something --------------------------------------------------------------------


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with programs that are never started."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in ("deepspeed", "pdsh"):
        (folder / name).write_text("#!/shared/env/bin/python\n")
        (folder / name).chmod(0o755)
    return folder


def answering(monkeypatch: pytest.MonkeyPatch, stdout: str = "", stderr: str = "") -> list[list[str]]:
    asked: list[list[str]] = []

    def run(argv: Any, **_: Any) -> Completed:
        asked.append(list(argv))
        return Completed(argv=tuple(argv), returncode=0, stdout=stdout, stderr=stderr)

    monkeypatch.setattr(process, "run", run)
    return asked


def checked(bench: Any, runtime: HostsRuntime) -> None:
    plan = replace(planned(bench, runtime).plan, secrets=())
    HostsEngine(None if plan.container else bench.folder / "envs" / "cuda").check(plan)


def test_all_hosts_are_asked_at_once(bench: Any, programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (asked,) = (answering(monkeypatch), checked(bench, "docker"))[:1]
    ((*pdsh, question),) = asked
    assert pdsh == ["pdsh", "-R", "ssh", "-N", "-w", ",".join(NAMES)]
    assert "/shared/env/bin/python" in question
    assert "docker" in question


@pytest.mark.parametrize("missing", ["deepspeed", "pdsh"])
def test_a_program_that_is_not_here(bench: Any, programs: Path, missing: str) -> None:
    (programs / missing).unlink()
    with pytest.raises(EngineError) as caught:
        checked(bench, "venv")
    assert missing in str(caught.value).lower()
    assert missing in caught.value.hint


@pytest.mark.parametrize(
    ("kind", "error", "said"),
    [
        ("image", ImageMissingError, "is not on worker-1, worker-2"),
        ("other-image", ImageMissingError, "holds other packages than the plan's on worker-1, worker-2"),
        ("path", EngineError, "worker-1, worker-2: THING is not there"),
        ("launcher", EngineError, "worker-1, worker-2: THING is not there"),
        ("engine", EngineError, "worker-1, worker-2: THING does not answer"),
    ],
)
def test_what_hosts_lack_is_named(
    bench: Any, programs: Path, monkeypatch: pytest.MonkeyPatch, kind: str, error: type[Exception], said: str
) -> None:
    answering(
        monkeypatch,
        "".join(f"{script.PROBLEM}\t{kind}\t{host}\tTHING\n" for host in ("worker-2", "worker-1")),
    )
    with pytest.raises(error, match=said):
        checked(bench, "docker")


def test_a_host_out_of_reach_is_named(bench: Any, programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(
        monkeypatch,
        stderr="worker-1: ssh: connect to host worker-1 port 22: Connection refused\n"
        "pdsh@here: worker-1: ssh exited with exit code 255\n",
    )
    with pytest.raises(EngineError, match=r"^worker-1 cannot be reached by ssh") as caught:
        checked(bench, "docker")
    assert "Connection refused" in caught.value.why


# --- the end --------------------------------------------------------------------------------------


def handle(folder: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> HostsHandle:
    monkeypatch.setattr(supervised.ProcessHandle, "wait", lambda _: Exit(code=code))
    left = script.Traces(folder=folder, attempt=1)
    return HostsHandle(folder / "1.process", left, Start(run="RUN_ID"), folder)


def test_the_end_is_that_of_the_last_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    going = tmp_path / "1.going.1"
    going.touch()
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            going.unlink()

    monkeypatch.setattr("launcher.engines.hosts.engine.time.sleep", sleep)
    assert handle(tmp_path, monkeypatch, 143).wait().code == 143
    assert len(waits) == 3


def test_a_connection_that_ended_is_no_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineError, match="a host was lost"):
        handle(tmp_path, monkeypatch, 255).wait()


def test_a_recipe_that_ends_as_ssh_does_has_lost_no_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """sys.exit(-1); the host itself has said so."""
    (tmp_path / "1.own").touch()
    assert handle(tmp_path, monkeypatch, 255).wait().code == 255
