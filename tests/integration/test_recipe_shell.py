"""Recipes under a real bash, with a torchrun that prints its arguments: plain bash and the launcher agree."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from launcher import process, recipe
from launcher.app import recipes as use_cases
from launcher.recipe import Recipe

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = recipe.catalogue(ROOT / "recipes")
UNIFIED = ROOT / "recipes" / "bge-m3-unified.sh"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """What a recipe needs at least, and a torchrun that prints one argument per line."""
    programs = tmp_path / "bin"
    programs.mkdir()
    torchrun = programs / "torchrun"
    torchrun.write_text('#!/bin/bash\nprintf "%s\\n" "OMP=$OMP_NUM_THREADS" "PYTHONPATH=$PYTHONPATH" "$@"\n')
    torchrun.chmod(0o755)
    return {
        "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "DATA": "/data/a b.jsonl:/data/c",
        "OUTPUT": str(tmp_path / "out put"),
        "TMPDIR": str(tmp_path),
    }


def arguments(environment: dict[str, str], *more: str, script: Path = UNIFIED) -> list[str]:
    child = process.Child(["bash", str(script), *more], env=environment)
    lines = list(child.lines())
    assert child.wait() == 0, lines
    return lines


def value(found: list[str], name: str) -> str:
    assert found.count(name) == 1, name
    return found[found.index(name) + 1]


@pytest.mark.parametrize("name", ["bge-dense", "bge-m3-unified", "bge-reranker", "llm-sft"])
def test_loggers_write_into_the_record(environment: dict[str, str], tmp_path: Path, name: str) -> None:
    torchrun = Path(environment["PATH"].split(":")[0]) / "torchrun"
    names = "WANDB_DIR WANDB_MODE WANDB_PROJECT MLFLOW_TRACKING_URI".split()
    torchrun.write_text(
        "#!/bin/bash\n" + "".join(f'echo "{name}=${name}"\n' for name in names) + 'printf "%s\\n" "$@"\n'
    )
    record = str(tmp_path / "the record")
    run = {**environment, "LAUNCH_RUN_DIR": record, "LAUNCH_RUN_ID": "x-1", "REPORT_TO": "tensorboard"}
    script = ROOT / "recipes" / f"{name}.sh"
    found = arguments(run, script=script)
    assert found[:4] == [
        f"WANDB_DIR={record}",
        "WANDB_MODE=offline",
        f"WANDB_PROJECT={name}",
        f"MLFLOW_TRACKING_URI={record}/mlruns",
    ]
    assert value(found, "--report_to") == "tensorboard"
    assert value(found, "--logging_dir") == f"{record}/tensorboard"
    assert value(found, "--run_name") == "x-1"
    own = {"WANDB_MODE": "online", "MLFLOW_TRACKING_URI": "http://tracking:5000", "REPORT_TO": "mlflow"}
    found = arguments({**run, **own}, script=script)
    assert {"WANDB_MODE=online", "MLFLOW_TRACKING_URI=http://tracking:5000"} < set(found)
    assert "--logging_dir" not in found
    relative = arguments({**run, "MLFLOW_TRACKING_URI": "mlruns"}, script=script)  # as an image may say
    assert f"MLFLOW_TRACKING_URI={record}/mlruns" in relative


def test_plain_bash_takes_the_headers_defaults(environment: dict[str, str], tmp_path: Path) -> None:
    found = arguments(environment, "--lr_scheduler_type", "cosine")
    defaults = dict(recipe.load(UNIFIED).values("cpu", {}))
    for name in (
        "learning_rate",
        "train_group_size",
        "temperature",
        "warmup_ratio",
        "num_train_epochs",
        "seed",
    ):
        assert value(found, f"--{name}") == defaults[name]
    assert value(found, "--model_name_or_path") == "BAAI/bge-m3"
    assert found[found.index("--train_data") + 1 :][:2] == ["/data/a b.jsonl", "/data/c"]
    assert value(found, "--output_dir") == str(tmp_path / "out put")
    assert value(found, "--query_instruction_for_retrieval") == ""
    assert value(found, "--use_cpu") == "true"
    assert value(found, "--ddp_backend") == "gloo"
    assert "--deepspeed" not in found
    assert not {"--bf16", "--fp16", "--fp32"} & set(found)
    assert found[-2:] == ["--lr_scheduler_type", "cosine"]
    assert value(found, "--rdzv_endpoint") == "127.0.0.1:0"
    assert f"PYTHONPATH={ROOT / 'recipes'}" in found


def test_trl_is_told_what_it_would_choose_otherwise(environment: dict[str, str]) -> None:
    script = ROOT / "recipes" / "llm-sft.sh"
    found = arguments(environment, script=script)
    assert [value(found, f"--{name}") for name in ("bf16", "fp16", "gradient_checkpointing")] == ["false"] * 3
    assert found.count("--unsloth") == 2  # the runtime's, to import it first, and the trainer's
    assert value(found, "--lora_r") == "16"
    assert value(found, "--chat_template") == ""
    assert value(found, "--cache_path").endswith("/data")
    found = arguments({**environment, "TARGET": "cuda", "R": "8"}, script=script)
    assert [value(found, f"--{name}") for name in ("bf16", "fp16", "gradient_checkpointing")] == [
        *("true", "false", "true")
    ]
    assert value(found, "--gradient_checkpointing_kwargs") == '{"use_reentrant": false}'
    assert value(found, "--use_gradient_checkpointing") == "unsloth"
    assert value(found, "--lora_r") == "8"
    assert "--use_cpu" not in found


def test_variables_win_and_empty_ones_are_kept(environment: dict[str, str]) -> None:
    given = {"TARGET": "cuda", "NPROC": "2", "LEARNING_RATE": "2e-5"}
    given["QUERY_INSTRUCTION_FOR_RETRIEVAL"] = 'find: "$x" `y`'
    found = arguments({**environment, **given, "DEEPSPEED": "stage2", "MODEL": "my model"})
    assert value(found, "--learning_rate") == "2e-5"
    assert value(found, "--query_instruction_for_retrieval") == 'find: "$x" `y`'
    assert value(found, "--model_name_or_path") == "my model"
    assert value(found, "--nproc_per_node") == "2"
    assert value(found, "--bf16") == "true"
    config = Path(value(found, "--deepspeed"))
    assert config.resolve() == ROOT / "ds_configs" / "stage2.json"
    assert "--use_cpu" not in found
    # transformers 4 knows no xccl: the argument would stop every run at the parser
    assert "--ddp_backend" not in arguments({**environment, "TARGET": "xpu"})


def test_threads_are_shared_out(environment: dict[str, str]) -> None:
    cores = len(os.sched_getaffinity(0))
    assert f"OMP={max(1, cores // 2)}" in arguments({**environment, "NPROC": "2"})
    assert "OMP=1" in arguments({**environment, "NPROC": "1000"})
    assert "OMP=3" in arguments({**environment, "OMP_NUM_THREADS": "3"})


def on_nodes(environment: dict[str, str], node: int, *, meeting: str = "exit 0", **more: str) -> list[str]:
    """A torchrun's arguments on one of several nodes, behind a meeting of which only the end is played."""
    python = Path(environment["PATH"].split(":")[0]) / "python"
    python.write_text(
        f'#!/bin/bash\n[[ "$*" != *runtime.meeting* ]] || {{ {meeting}; }}\nexec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    given = {"LAUNCH_NODES": "12", "LAUNCH_NODE_RANK": f"{node}", "LAUNCH_RENDEZVOUS": "10.0.0.10:29500"}
    return arguments({**environment, **given, **more})


def test_ranks_follow_the_nodes(environment: dict[str, str], tmp_path: Path) -> None:
    """torchrun numbers its agents by the alphabet of their addresses; the first one's is a real one."""
    found = {node: on_nodes(environment, node, NPROC="4") for node in (0, 1, 2, 10, 11)}
    names = {node: value(each, "--local_addr") for node, each in found.items()}
    assert sorted(names, key=lambda node: names[node]) == sorted(names)
    assert names[0] == "10.0.0.10"
    assert value(on_nodes(environment, 0, LAUNCH_NODE_ADDRESS="n0"), "--local_addr") == "n0"
    assert value(on_nodes(environment, 0, LAUNCH_RENDEZVOUS="[fd00::9]:1"), "--local_addr") == "fd00::9"
    assert (value(found[2], "--nnodes"), value(found[2], "--nproc_per_node")) == ("12", "4")
    assert value(found[2], "--rdzv_endpoint") == "10.0.0.10:29500"
    assert value(found[2], "--cache_path").endswith("/node-2/data")
    assert value(found[2], "--tee") == "3"


def test_who_holds_the_store_is_said_and_every_wait_ends(environment: dict[str, str]) -> None:
    first = on_nodes(environment, 0, LAUNCH_RUN_ID="r", LAUNCH_RESTARTS="3")
    assert value(first, "--rdzv_conf") == "is_host=1,join_timeout=60,read_timeout=60"
    assert value(first, "--rdzv_id") == "r-3"
    second = on_nodes(environment, 1, LAUNCH_RENDEZVOUS_TIMEOUT="9")
    assert value(second, "--rdzv_conf") == "is_host=0,join_timeout=9,read_timeout=9"
    assert value(second, "--rdzv_id") == "launch-0"


def test_a_meeting_that_fails_starts_nothing(environment: dict[str, str]) -> None:
    with pytest.raises(AssertionError, match="nobody came"):
        on_nodes(environment, 1, meeting="echo nobody came >&2; exit 84")
    given = {"LAUNCH_NODES": "12", "LAUNCH_NODE_RANK": "1", "LAUNCH_RENDEZVOUS": "10.0.0.10:29500"}
    child = process.Child(["bash", str(UNIFIED)], env={**environment, **given})
    lines = list(child.lines())
    assert (child.wait(), lines) == (84, ["nobody came"])


def test_what_the_meeting_says_reaches_the_trainer(environment: dict[str, str]) -> None:
    torchrun = Path(environment["PATH"].split(":")[0]) / "torchrun"
    torchrun.write_text(
        '#!/bin/bash\nprintf "%s\\n" "$LAUNCH_RESUME" "$TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE"\n'
    )
    said = """echo "export LAUNCH_RESUME='/a b/checkpoint-7'"; exit 0"""
    assert on_nodes(environment, 1, meeting=said) == ["/a b/checkpoint-7", "[rank${rank}]: "]
    alone = on_nodes(environment, 0, meeting=said, LAUNCH_NODES="1", LAUNCH_RESTARTS="1")
    assert alone == ["/a b/checkpoint-7", ""]
    assert on_nodes(environment, 0, meeting=said, LAUNCH_NODES="1") == ["", ""]


def test_a_recipe_outside_the_catalogue_finds_the_runtime(
    environment: dict[str, str], tmp_path: Path
) -> None:
    mine = tmp_path / "mine.sh"
    shutil.copy(UNIFIED, mine)
    found = arguments({**environment, "LAUNCH_RECIPES": str(ROOT / "recipes")}, script=mine)
    assert value(found, "--seed") == "42"


@pytest.mark.parametrize(
    ("missing", "message"),
    [("OUTPUT", "set OUTPUT to the folder of the result"), ("TARGET", "no default for")],
)
def test_what_is_missing_is_said(environment: dict[str, str], missing: str, message: str) -> None:
    wrong = {**environment, "TARGET": "tpu"} if missing == "TARGET" else {**environment, "OUTPUT": ""}
    child = process.Child(["bash", str(UNIFIED)], env=wrong)
    lines = list(child.lines())
    assert child.wait() != 0
    assert any(message in line for line in lines), lines
    assert not any("--model_name_or_path" in line for line in lines)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_recipe_is_a_good_one(path: Path) -> None:
    assert use_cases.check(path) == []


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_bash_sees_the_launchers_values(environment: dict[str, str], path: Path, tmp_path: Path) -> None:
    """The assignments, evaluated by a bash in which nothing is set, are Recipe.values for each target."""
    found: Recipe = recipe.load(path)
    header = ROOT / "recipes" / "runtime" / "header.py"
    for target in found.targets:
        expected = {name.upper(): text for name, text in found.values(target, {})}
        script = 'eval "$(python "$1" "$2" "$3")"; shift 3; for name; do printf "%s\\0" "${!name}"; done'
        done = process.run(["bash", "-c", script, "bash", str(header), str(path), target, *expected])
        assert dict(zip(expected, done.stdout.split("\0"), strict=False)) == expected
