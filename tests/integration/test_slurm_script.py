"""The sbatch script under a real bash, with a Slurm and a docker that only say what they were asked."""

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launcher import process, runs
from launcher.engines.slurm.request import render
from launcher.plan import Access, Folders, RunPlan, Slurm, Start

#: What people put into paths, variables and arguments.
TEXT = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12
) | st.sampled_from(["a b", "it's", '"', "$HOME", "`id`", "\\", "a,b", "\nNODE\n", "*", "-x", "é", "{}", "#"])
NAME = st.from_regex(r"[a-z ,'\"$#é%]{1,6}[a-z]", fullmatch=True)

PROGRAMS = {
    # Every node of two, one after the other; the step's own options are dropped.
    "srun": """
while [[ $1 != bash && $1 != true ]]; do shift; done
for id in 0 1; do SLURM_NODEID=$id SLURMD_NODENAME=n$((id + 1)) "$@" || exit; done""",
    "scontrol": """
case "$*" in
  "-o show node n[1-2]") echo "NodeName=n2 Arch=x NodeAddr=10.0.0.2"; echo "NodeName=n1 NodeAddr=fe80::1" ;;
  "show hostnames n[1-2]") echo n1; echo n2 ;;
  "show config") echo "KillWait                = 30 sec" ;;
esac""",
    "docker": """
case "$1 $2" in
  "image inspect") echo "sha256:10cc" ;;
  run*) exec "$PYTHON" -c 'import json, os, sys
with open(os.environ["SAID"], "a") as file: file.write(json.dumps(sys.argv[1:]) + "\\n")' "$@" ;;
esac""",
}

RECIPE = """
exec "$PYTHON" -c 'import json, os, sys
said = json.dumps([sys.argv[1:], dict(os.environ)])
with open(os.environ["SAID"], "a") as file: file.write(said + "\\n")' "$@"
"""


def plan_of(folder: Path, runtime: Any, arguments: tuple[str, ...], env: dict[str, str]) -> RunPlan:
    recipes = folder / "recipes"
    recipes.mkdir(parents=True, exist_ok=True)
    (recipes / "it.sh").write_text(RECIPE)
    given_ = {**env, "PYTHON": sys.executable, "SAID": str(folder / "said")}
    return RunPlan(
        launcher="1", recipe="it", recipe_path=recipes / "it.sh", recipe_sha256="", runtime_sha256="",
        recipes=recipes, target="cpu", engine="slurm", image="an image:1", lock_digest="10cc", world_size=4,
        nproc=2, inputs=(), data=(), model=None, output=None, parameters=(), arguments=arguments,
        env=tuple(given_.items()), secrets=(), uid=1, gid=1, access=Access(), nodes=2,
        slurm=Slurm(runtime=runtime),
    )  # fmt: skip


def ran(plan: RunPlan, folder: Path) -> tuple[list[Any], Folders]:
    """What the script's programs were given, and the run's folders."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    for name, text in PROGRAMS.items():
        (programs / name).write_text("#!/bin/bash\n" + text)
        (programs / name).chmod(0o755)
    python = folder / "envs" / "bin" / "python"
    python.parent.mkdir(parents=True, exist_ok=True)
    python.touch(mode=0o755)
    place = runs.folders("it's a run", plan, folder / "runs")
    for made in (place.run / "attempts", place.output):
        made.mkdir(parents=True, exist_ok=True)
    path = f"{programs}:{os.environ['PATH']}"
    text = render(plan, place, Start(run="it's a run"), folder / "envs", (("PATH", path),)).text
    slurm = {"SLURM_JOB_ID": "6001", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_JOB_NUM_NODES": "2"}
    variables = {"PATH": "/usr/bin:/bin", "PYTHON": sys.executable, "SAID": str(folder / "said"), **slurm}
    done = subprocess.run(["bash"], input=text.encode(), env=variables, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b""), (done, text)
    said = [json.loads(line) for line in (folder / "said").read_text().splitlines()]
    assert json.loads((place.run / "attempts" / "1.end").read_text())["code"] == 0
    return said, place


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=15)
@given(
    name=NAME,
    arguments=st.lists(TEXT, max_size=4),
    env=st.dictionaries(st.sampled_from(["A", "B_2"]), TEXT),
    runtime=st.sampled_from(["none", "docker"]),
)
def test_bash_gives_back_every_argument_and_variable(
    name: str, arguments: list[str], env: dict[str, str], runtime: str
) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / name.replace("/", "_")
        plan = plan_of(folder, runtime, tuple(arguments), env)
        said, place = ran(plan, folder)
        assert len(said) == 2
        for rank, found in enumerate(said):
            own = {
                "LAUNCH_NODES": "2",
                "LAUNCH_NODE_RANK": str(rank),
                "LAUNCH_NODE_ADDRESS": ("fe80::1", "10.0.0.2")[rank],
                "LAUNCH_RENDEZVOUS": "[fe80::1]:20002",
                "LAUNCH_RESTARTS": "0",
                **env,
            }
            if runtime == "none":
                assert found[0] == arguments
                assert own.items() <= found[1].items()
                assert (found[1]["OUTPUT"], found[1]["PATH"].split(":")[0]) == (
                    str(place.output),
                    str(folder / "envs" / "bin"),
                )
                assert not [each for each in found[1] if each.startswith("SLURM")]
            else:
                given_ = dict(word.split("=", 1) for flag, word in pairwise(found) if flag == "--env")
                assert own.items() <= given_.items()
                recipe = ["an image:1", "bash", "/launch/recipes/it.sh", *arguments]
                assert found[len(found) - len(recipe) :] == recipe
                assert found[found.index("--name") + 1] == f"launch-it's a run-1-{rank}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A script to be run, and what it finds."""

    name: str
    place: Folders
    text: str
    programs: Path

    def bin(self, name: str, text: str) -> None:
        (self.programs / name).write_text("#!/bin/bash\n" + text)
        (self.programs / name).chmod(0o755)


def with_a_secret(tmp_path: Path, runtime: str) -> tuple[Rendered, list[str]]:
    """A script of a run with a secret, and the job's variables."""
    plan = replace(
        plan_of(tmp_path, runtime, (), {}),
        secrets=("HF_TOKEN",),
        image="/" if runtime in ("pyxis", "oci", "apptainer") else "an image:1",
    )
    name = f"secret-{os.getpid()}-{runtime}"
    place = runs.folders(name, plan, tmp_path / "runs")
    for made in (
        place.run / "attempts",
        place.output,
        place.run.parent / f".secrets-{os.getuid()}",
        tmp_path / "bin",
    ):
        made.mkdir(parents=True, exist_ok=True)
    python = tmp_path / "envs" / "bin" / "python"
    python.parent.mkdir(parents=True, exist_ok=True)
    python.touch(mode=0o755)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    request = render(plan, place, Start(run=name), tmp_path / "envs", (("PATH", path),))
    assert request.secrets is not None
    request.secrets.path.write_bytes(b"HF_TOKEN=hf_s3cr3t\0")
    found = Rendered(name=name, place=place, text=request.text, programs=tmp_path / "bin")
    for program, text in PROGRAMS.items():
        found.bin(program, text)
    job = {"SLURM_JOB_ID": "1", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_JOB_NUM_NODES": "2"}
    given_ = {**job, "TMPDIR": str(tmp_path), "PYTHON": sys.executable, "SAID": str(tmp_path / "said")}
    return found, [f"{key}={value}" for key, value in given_.items()]


def test_a_node_that_lacks_something_is_named(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "none", (), {})
    ran(plan, tmp_path)
    place = runs.folders("it's a run", plan, tmp_path / "runs")
    (tmp_path / "envs" / "bin" / "python").chmod(stat.S_IRUSR)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    text = render(plan, place, Start(run="it's a run"), tmp_path / "envs", (("PATH", path),)).text
    slurm = {"SLURM_JOB_ID": "1", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_JOB_NUM_NODES": "2"}
    done = process.run(
        ["env", *[f"{key}={value}" for key, value in slurm.items()], "bash"], stdin=text, check=False
    )
    assert done.returncode == 78
    found = (place.run / "attempts" / "1.problems").read_text().splitlines()
    assert [line.split("\t")[1:3] for line in found] == [["environment", "n1"], ["environment", "n2"]]
    assert json.loads((place.run / "attempts" / "1.end").read_text())["code"] == 78
    assert len((tmp_path / "said").read_text().splitlines()) == 2  # of the start before


@pytest.mark.parametrize("runtime", ["pyxis", "oci"])
def test_a_node_that_lacks_something_keeps_no_secrets(tmp_path: Path, runtime: str) -> None:
    """The check gives a node its copy, for srun mounts it before the node's shell begins."""
    run, slurm = with_a_secret(tmp_path, runtime)
    run.bin("srun", PROGRAMS["srun"])
    shutil.rmtree(run.place.output)
    done = process.run(["env", *slurm, "bash"], stdin=run.text, check=False)
    assert done.returncode == 78, done
    assert list(Path("/dev/shm").glob(f"launch-{run.name}*")) == []


def test_a_second_signal_kills_while_the_engine_still_waits(tmp_path: Path) -> None:
    run, slurm = with_a_secret(tmp_path, "docker")
    run.bin(
        "docker",
        f"""case "$1 $2" in
  "image inspect") echo sha256:10cc ;;
  run*) echo $$ >{tmp_path}/pid
    (sleep 0.5; kill -TERM $PPID; sleep 0.5; kill -USR1 $PPID) &
    exec sleep 20 ;;
  stop*) sleep 8 ;;
  kill*) kill -9 "$(<{tmp_path}/pid)" ;;
esac""",
    )
    began = time.monotonic()
    done = subprocess.run(
        ["env", *slurm, "bash"], input=run.text, text=True, stdout=subprocess.DEVNULL, check=False
    )
    assert (done.returncode, time.monotonic() - began < 7) == (137, True)


@pytest.mark.parametrize("lost", [True, False])
def test_the_next_start_has_its_secrets_when_a_node_was_lost(tmp_path: Path, lost: bool) -> None:
    """The step's end may come before the signal by which Slurm says why."""
    run, slurm = with_a_secret(tmp_path, "none")
    tells = "(sleep 1; kill -TERM $PPID) &>/dev/null &" if lost else ""
    run.bin("srun", f'[[ $* == *"LAUNCH_RESTARTS"* ]] || exit 0\n{tells}\nexit 137\n')
    done = process.run(["env", *slurm, "bash"], stdin=run.text, check=False)
    assert done.returncode == 137, done
    assert (run.place.run.parent / f".secrets-{os.getuid()}" / f"{run.name}.1").exists() == lost


@pytest.mark.parametrize("runtime", ["none", "docker", "apptainer"])
def test_a_shell_that_was_killed_leaves_no_secrets(tmp_path: Path, runtime: str) -> None:
    """--kill-on-bad-exit kills the other nodes' shells before they can clear up."""
    run, slurm = with_a_secret(tmp_path, runtime)
    for name in ("docker", "apptainer"):
        run.bin(name, '[[ $1 != run && $1 != exec ]] || kill -9 "$PPID"\n' + PROGRAMS["docker"])
    # Without a container it is the recipe's own environment that ends the shell above it.
    python = tmp_path / "envs" / "bin" / "python"
    python.write_text('#!/bin/bash\nkill -9 "$PPID"\n')
    python.chmod(0o755)
    done = process.run(["env", *slurm, "bash"], stdin=run.text, check=False)
    assert done.returncode == 137, done
    assert list(Path("/dev/shm").glob(f"launch-{run.name}*")) == []
    assert list(tmp_path.glob("launch-*")) == []  # TMPDIR


@pytest.mark.parametrize(("signal", "code"), [("TERM", 143)])
def test_a_terminated_script_waits_for_its_step(tmp_path: Path, signal: str, code: int) -> None:
    """What Slurm's signal ends it is told, too: the script's own end is not before it."""
    plan = plan_of(tmp_path, "none", (), {})
    ran(plan, tmp_path)
    slow = (
        '#!/bin/bash\n[[ $* != *"LAUNCH_RESTARTS"* ]] || { kill -%s $PPID; sleep 0.5; echo over; exit %d; }\n'
    )
    (tmp_path / "bin" / "srun").write_text(slow % (signal, code))
    place = runs.folders("it's a run", plan, tmp_path / "runs")
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    text = render(plan, place, Start(run="it's a run"), tmp_path / "envs", (("PATH", path),)).text
    slurm = {"SLURM_JOB_ID": "1", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_JOB_NUM_NODES": "2"}
    done = process.run(
        ["env", *[f"{key}={value}" for key, value in slurm.items()], "bash"], stdin=text, check=False
    )
    assert (done.returncode, done.stdout) == (code, "over\n")
    end = json.loads((place.run / "attempts" / "1.end").read_text())
    assert (end["code"], end["terminated"]) == (code, 1)
