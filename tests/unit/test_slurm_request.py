"""launcher.engines.slurm: what a plan becomes for Slurm; that bash agrees, is an integration test."""

import json
import shlex
from collections.abc import Callable
from typing import Any

import pytest

from launcher import runs
from launcher.engines.shell import Raw, line, option, text_of
from launcher.engines.slurm import SlurmEngine, SlurmRequest
from launcher.errors import UsageError
from launcher.plan import RunPlan, Slurm, Start

Golden = Callable[[str, str], None]

#: Of every runtime, what starts there.
IMAGES = {
    "none": "",
    "docker": "registry.example/finetune@sha256:" + "1a" * 32,
    "podman": "registry.example/finetune@sha256:" + "1a" * 32,
    "apptainer": "/shared/images/finetune.sif",
    "pyxis": "/shared/images/finetune.sqsh",
    "oci": "/shared/images/finetune",
}


@pytest.fixture(autouse=True)
def callers_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/opt/slurm/bin:bin:/usr/bin:/bin")
    monkeypatch.setenv("HF_TOKEN", "hf_s3cr3t")


def slurm_plan(bench: Any, *options: tuple[str, str], runtime: Any = "none", **asked: Any) -> Any:
    site = Slurm(runtime=runtime, image=IMAGES[runtime], options=options)
    return bench.plan(**{"target": "cuda", "nodes": 2, "nproc": 4, "site": site, "preflight": False, **asked})


def rendered(bench: Any, plan: RunPlan, start: Start | None = None) -> SlurmRequest:
    environment = bench.folder / "envs" / "cuda" if plan.slurm and plan.slurm.runtime == "none" else None
    start = start or Start(run="RUN_ID")
    return SlurmEngine(environment).render(plan, runs.folders("RUN_ID", plan), start)


def head(request: SlurmRequest) -> list[str]:
    return [word[8:] for word in request.text.splitlines() if word.startswith("#SBATCH ")]


@pytest.mark.parametrize("runtime", sorted(IMAGES))
def test_golden_scripts(bench: Any, golden: Golden, runtime: str) -> None:
    planned = slurm_plan(
        bench,
        ("partition", "gpu"),
        ("account", "team a"),
        runtime=runtime,
        data=(bench.data(),),
        model=str(bench.model()),
        arguments=("--seed", "7 8"),
        env={"WANDB_PROJECT": "it's"},
        secrets={"HF_TOKEN": "hf_s3cr3t"},
        memory="200g",
    )
    request = rendered(bench, planned.plan)
    for name, text in request.files().items():
        golden(f"slurm/{runtime}.{name.rpartition('.')[2]}", bench.text(text, planned))
    assert "hf_s3cr3t" not in request.printed() + "".join(request.files().values())


def test_golden_of_one_node_with_intel_gpus(bench: Any, golden: Golden) -> None:
    planned = slurm_plan(
        bench, ("gres", "gpu:2"), runtime="docker", target="xpu", nodes=1, nproc=2, network="none"
    )
    request = rendered(bench, planned.plan, Start(run="RUN_ID", attempt=2, checkpoint="checkpoint-4"))
    golden("slurm/xpu.sbatch", bench.text(request.text, planned))


def test_golden_line_to_paste(bench: Any, golden: Golden) -> None:
    planned = slurm_plan(bench, runtime="oci", secrets={"HF_TOKEN": "x"}, nodes=1)
    golden("slurm/oci.txt", bench.text(rendered(bench, planned.plan).printed(), planned))


def test_options_are_the_plans_then_those_that_were_given(bench: Any) -> None:
    plan = slurm_plan(bench, ("time", "2:00:00"), ("exclusive", ""), memory="16g").plan
    assert head(rendered(bench, plan)) == [
        "--job-name=launch-RUN_ID-1",
        "--nodes=2",
        "--ntasks-per-node=1",
        "--gpus-per-node=4",
        "--mem=16G",
        "--requeue",
        "--open-mode=append",
        f"--output={bench.folder}/runs/RUN_ID/log.txt",
        f"--chdir={bench.folder}/runs/RUN_ID",
        "--export=NONE",
        "--time=2:00:00",
        "--exclusive",
    ]


@pytest.mark.parametrize(
    ("given", "gone"),
    [
        (("gres", "gpu:h100:4"), "--gpus-per-node"),
        (("mem-per-gpu", "40G"), "--mem"),
        (("no-requeue", ""), "--requeue"),
        (("cpus-per-task", "16"), "--cpus-per-task=4"),
    ],
)
def test_what_is_given_takes_the_place_of_a_default(bench: Any, given: tuple[str, str], gone: str) -> None:
    plan = slurm_plan(bench, given, memory="16g").plan
    found = head(rendered(bench, plan))
    assert not [each for each in found[:-1] if each.startswith(gone)]
    assert found[-1] == f"--{given[0]}" + (f"={given[1]}" if given[1] else "")


@pytest.mark.parametrize(
    "key", ["nodes", "output", "job-name", "export", "array", "container-image", "chdir"]
)
def test_options_of_the_plan_are_refused_with_what_to_use_instead(bench: Any, key: str) -> None:
    with pytest.raises(UsageError, match=f"--sbatch {key}: the plan says it") as refused:
        rendered(bench, slurm_plan(bench, (key, "3")).plan)
    assert refused.value.hint.startswith("instead: ")


@pytest.mark.parametrize(
    ("key", "instead"),
    [("out", "runs logs"), ("job-nam", "own id"), ("cluster", "SLURM_CONF"), ("tasks-per-node", "--nproc")],
)
def test_abbreviations_of_the_plans_options_are_refused(bench: Any, key: str, instead: str) -> None:
    """getopt_long takes them for the whole name."""
    with pytest.raises(UsageError, match=f"--sbatch {key}: the plan says it") as refused:
        rendered(bench, slurm_plan(bench, (key, "3")).plan)
    assert instead in refused.value.hint


@pytest.mark.parametrize(("asked", "told"), [("17179869184", "16777216K"), ("1025", "2K"), ("16g", "16G")])
def test_memory_without_a_suffix_is_bytes(bench: Any, asked: str, told: str) -> None:
    assert f"--mem={told}" in head(rendered(bench, slurm_plan(bench, memory=asked).plan))


@pytest.mark.parametrize("key", ["mem", "nodelist", "nodefile", "exclude", "time", "signal-x"])
def test_other_options_that_look_like_them_are_taken(bench: Any, key: str) -> None:
    assert f"--{key}=3" in head(rendered(bench, slurm_plan(bench, (key, "3")).plan))


@pytest.mark.parametrize("key", ["-p", "p", "--partition", "part ition", "x;y", "pärt"])
def test_other_keys_are_no_options(bench: Any, key: str) -> None:
    with pytest.raises(UsageError, match="no long name"):
        rendered(bench, slurm_plan(bench, (key, "3")).plan)


def test_a_line_break_cannot_be_told(bench: Any) -> None:
    with pytest.raises(UsageError, match="line break"):
        rendered(bench, slurm_plan(bench, ("comment", "a\n#SBATCH --uid=0")).plan)
    bench.patch.setenv("LAUNCH_RUNS_DIR", f"{bench.folder}/a\nb")
    with pytest.raises(UsageError, match="line break"):
        rendered(bench, slurm_plan(bench).plan)


def test_percent_signs_and_quotes_in_the_logs_path(bench: Any) -> None:
    bench.patch.setenv("LAUNCH_RUNS_DIR", "/a\\b")
    with pytest.raises(UsageError, match="the job's output cannot be in"):
        rendered(bench, slurm_plan(bench).plan)
    bench.patch.setenv("LAUNCH_RUNS_DIR", '/a "b" c %j')
    found = [each for each in head(rendered(bench, slurm_plan(bench).plan)) if "output" in each]
    assert found == ['--output="/a \\"b\\" c %%j/RUN_ID/log.txt"']


def test_pyxis_has_no_words_for_some_paths(bench: Any) -> None:
    with pytest.raises(UsageError, match="pyxis cannot mount"):
        rendered(bench, slurm_plan(bench, runtime="pyxis", data=(bench.data("a,b.jsonl"),)).plan)


def test_a_runtime_of_files_needs_one(bench: Any) -> None:
    with pytest.raises(UsageError, match="--slurm-runtime apptainer needs --slurm-image"):
        bench.plan(target="cpu", engine="slurm", site=Slurm(runtime="apptainer"))
    plan = bench.plan(target="cpu", engine="slurm", site=Slurm(runtime="docker")).plan
    assert plan.image == "finetune:cpu-0123456789ab"


def test_devices_are_those_that_slurm_gives(bench: Any) -> None:
    docker = rendered(bench, slurm_plan(bench, runtime="docker").plan).text
    assert '--gpus "\\"device=$gpus\\""' in docker
    assert "--gpus all" not in docker
    assert "CUDA_VISIBLE_DEVICES=" not in docker
    bare = rendered(bench, slurm_plan(bench).plan).text
    assert '"CUDA_VISIBLE_DEVICES=$CUDA_VISIBLE_DEVICES"' in bare
    assert "CUDA_VISIBLE_DEVICES" not in rendered(bench, slurm_plan(bench, target="cpu").plan).text


def test_several_nodes_need_the_hosts_network(bench: Any) -> None:
    def network(nodes: int) -> str:
        words = shlex.split(
            next(
                text
                for text in rendered(bench, slurm_plan(bench, runtime="docker", nodes=nodes).plan).text.split(
                    "\n"
                )
                if text.startswith("docker run")
            )
        )
        return words[words.index("--network") + 1]

    assert (network(1), network(2)) == ("none", "host")


def test_a_docker_of_the_nodes_own_is_told(bench: Any) -> None:
    bench.patch.setenv("DOCKER_HOST", "unix:///run/user/7/docker.sock")
    assert "DOCKER_HOST=unix:///run/user/7/docker.sock" in rendered(bench, slurm_plan(bench).plan).text
    bench.patch.setenv("DOCKER_HOST", "ssh://elsewhere")
    assert "elsewhere" not in rendered(bench, slurm_plan(bench).plan).text


def test_a_bundle_holds_the_runs_own_folders(bench: Any) -> None:
    plan = slurm_plan(bench, runtime="oci", secrets={"HF_TOKEN": "x"}).plan
    text = rendered(bench, plan).text
    bundle = json.loads(text.partition("<<'TEXT'\n")[2].partition("\nTEXT\n")[0])
    assert bundle["root"] == {"path": "/shared/images/finetune/rootfs", "readonly": True}
    writable = {each["destination"] for each in bundle["mounts"] if "rw" in each.get("options", ())}
    assert writable == {"/output", "/launch/run", "/launch/home", "/launch/secrets"}
    assert bundle["process"]["user"] == {"uid": plan.uid, "gid": plan.gid}


def test_a_text_is_never_its_own_end() -> None:
    assert text_of("a", "NODE\nNODE_\n", mark="NODE").endswith("\nNODE__")
    assert line(("a b", Raw('"$x"'), "")) == "'a b' \"$x\" ''"
    assert option("a=b") == "a=b"
