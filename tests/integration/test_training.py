"""The training recipes through the launcher, in the container and in the embedded environment."""

import json
from pathlib import Path

import pytest

from launcher import process, recipe
from tests.integration.conftest import Launch, result_of

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("--passage-max-len", "128", "--query-max-len", "64", "--num-train-epochs", "1")

#: Trainer and recipe.
TRAINERS = {
    "bge-m3-unified": "FlagEmbedding.finetune.embedder.encoder_only.m3",
    "bge-dense": "FlagEmbedding.finetune.embedder.encoder_only.base",
    "bge-reranker": "FlagEmbedding.finetune.reranker.encoder_only.base",
}

#: Parameters that become arguments of another name.
SPELLED = {"precision": {"bf16", "fp16"}}


def _output(workspace: Path) -> Path:
    (output,) = (workspace / "runs").glob("*/output")
    return output


@pytest.mark.environment
@pytest.mark.shared_data
def test_dense_in_buckets_and_parts(
    launch: Launch, workspace: Path, rows: Path, tiny_model: Path, on: tuple[str, ...]
) -> None:
    done = launch(
        *("run", "bge-dense", *on, "--data", rows, "--model", tiny_model, "--nproc", 2, *SMALL),
        *("--length-bucketing", "true", "--bucket-batch-sizes", "64:3,128:2", "--sub-batch-size", 2),
        *("--gradient-checkpointing", "true", "--freeze-word-embeddings", "true"),
    )
    assert done.code == 0, done.err
    result = result_of(workspace)
    assert {patch["name"] for patch in result["runtime"]["patches"]} >= {"sub-batch", "prompts"}
    assert result["runtime"]["options"]["freeze_word_embeddings"] is True
    assert sum(bucket["rows"] for bucket in result["buckets"]) == 20
    assert {bucket["batch_size"] for bucket in result["buckets"]} <= {2, 3}
    # every row of both files is trained: no more than 2 x 2 of them at a time
    assert result["steps"] >= 5
    files = {file.name for file in _output(workspace).iterdir()}
    # the start was a BGE-M3: its heads stay beside the trained encoder
    assert {"modules.json", "1_Pooling", "model.safetensors", "sparse_linear.pt"} <= files
    assert (_output(workspace) / "model.safetensors").stat().st_mode & 0o044 == 0o044


@pytest.mark.environment
@pytest.mark.shared_data
def test_reranker_with_teacher_scores(
    launch: Launch, workspace: Path, rows: Path, tiny_model: Path, on: tuple[str, ...]
) -> None:
    done = launch(
        *("run", "bge-reranker", *on, "--data", rows / "msmarco.jsonl", "--model", tiny_model),
        *("--nproc", 2, "--per-device-train-batch-size", 3, "--knowledge-distillation", "true", *SMALL),
    )
    assert done.code == 0, done.err
    result = result_of(workspace)
    assert result["world_size"] == 2
    assert result["steps"] == 2  # 6 rows, then the last 4, which upstream would mis-group
    assert "reranker-batch" in {patch["name"] for patch in result["runtime"]["patches"]}
    config = json.loads((_output(workspace) / "config.json").read_text())
    assert config["architectures"] == ["XLMRobertaForSequenceClassification"]


@pytest.mark.environment
@pytest.mark.shared_data
def test_measured_buckets_of_all_heads(
    launch: Launch, workspace: Path, rows: Path, tiny_model: Path, environment: Path
) -> None:
    arguments = (
        *("run", "bge-m3-unified", "--target", "cpu", "--engine", "venv", "--data", rows),
        *("--model", tiny_model, "--nproc", 2, *SMALL, "--knowledge-distillation", "true"),
        *("--length-bucketing", "true", "--max-batch-size", 3, "--precision", "bf16"),
    )
    done = launch(*arguments, "--gradient-checkpointing", "true", "--patches", "all,-colbert-padding")
    assert done.code == 0, done.err
    result = result_of(workspace)
    assert result["runtime"]["off"] == ["colbert-padding"]
    assert result["buckets"]
    assert {bucket["batch_size"] for bucket in result["buckets"]} == {3}
    # what was measured, given by hand, is the same training
    sizes = ",".join(f"{bucket['passage_max_len']}:{bucket['batch_size']}" for bucket in result["buckets"])
    again = launch(
        *arguments,
        *("--gradient-checkpointing", "true", "--patches", "all,-colbert-padding"),
        *("--bucket-batch-sizes", sizes, "--json"),
    )
    assert again.code == 0, again.err
    assert json.loads(again.out)["final"]["train_loss"] == result["final"]["train_loss"]


@pytest.mark.environment
@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "words", "code", "reason"),
    [
        ("bge-m3-unified", ("--", "--use_mrl", "true"), 64, "does not implement it"),
        ("bge-reranker", ("--", "--max_len=512"), 64, "never reads it"),
        ("bge-reranker", ("--", "--sub_batch_size", "4"), 64, "--gradient-accumulation-steps"),
        ("bge-dense", ("--precision", "fp16"), 64, "fp16 has no effect on a CPU"),
        ("bge-dense", ("--per-device-train-batch-size", "8", "--nproc", "2"), 67, "16"),
    ],
)
def test_traps_are_refused_before_the_start(
    launch: Launch,
    workspace: Path,
    rows: Path,
    tiny_model: Path,
    environment: Path,
    name: str,
    words: tuple[str, ...],
    code: int,
    reason: str,
) -> None:
    done = launch(
        "run", name, "--target", "cpu", "--engine", "venv", "--data", rows, "--model", tiny_model, *words
    )
    assert done.code == code, done.err
    assert reason in done.err
    assert not (workspace / "runs").exists()


FIELDS = """
import dataclasses, importlib, json, sys
from runtime.options import Options
known = {"": [field.name for field in dataclasses.fields(Options)]}
for module in sys.argv[1:]:
    program = vars(importlib.import_module(module + ".__main__"))
    arguments = [value for name, value in program.items() if name.endswith("Arguments")]
    known[module] = sorted({field.name for one in arguments for field in dataclasses.fields(one)})
print(json.dumps(known))
"""


@pytest.mark.environment
def test_every_parameter_is_one_that_the_locked_library_knows(environment: Path) -> None:
    done = process.run(
        [str(environment / "bin" / "python"), "-W", "ignore", "-c", FIELDS, *TRAINERS.values()],
        env={"PYTHONPATH": str(ROOT / "recipes"), "PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1"},
    )
    known = json.loads(done.stdout.splitlines()[-1])
    for name, module in TRAINERS.items():
        found = recipe.load(ROOT / "recipes" / f"{name}.sh")
        assert len(found.parameters) > 25
        for parameter in found.parameters:
            spelled = SPELLED.get(parameter.name, {parameter.name})
            assert spelled <= {*known[module], *known[""]}, f"{name}: {parameter.name}"
            for text in (parameter.help.en, parameter.help.zh):
                assert len(text) > 10, f"{name}: {parameter.name}"
