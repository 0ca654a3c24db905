"""launcher.recipe.translate: real commands of every FlagEmbedding generation, and any text at all.

The commands are facts of upstream's READMEs, scripts and issues, named beside each.
"""

import json
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import example, given, settings
from hypothesis import strategies as st

from launcher import cli, paths, recipe
from launcher.app import plan as planning
from launcher.cli import ui
from launcher.errors import LaunchError, RecipeError, UsageError
from launcher.recipe import translate
from launcher.recipe.translate import Translation, arguments, programs, shell, tables

_TYPES = {"b": "bool", "i": "int", "f": "float", "s": "str", "c": "choice"}

#: Small recipes with the names of those that ship: ``name:type:default[:choices]``.
_EMBEDDER = """train_group_size:i:8 query_max_len:i:512 passage_max_len:i:512 learning_rate:f:1e-5
    weight_decay:f:0 warmup_ratio:f:0.1 num_train_epochs:f:2 per_device_train_batch_size:i:2
    knowledge_distillation:b:false same_dataset_within_batch:b:true temperature:f:0.02
    normalize_embeddings:b:true negatives_cross_device:b:true query_instruction_for_retrieval:s:
    precision:c:bf16:fp32,bf16,fp16 deepspeed:c:none:none,stage0,stage1,stage2,stage3,stage3-offload
    gradient_checkpointing:b:true optim:c:adamw_torch:adamw_torch,adamw_bnb_8bit sub_batch_size:i:0
    small_threshold:i:0 drop_threshold:i:0 kd_loss_type:c:m3_kd_loss:kl_div,m3_kd_loss
    sentence_pooling_method:c:cls:cls,mean,last_token dataloader_drop_last:b:true logging_steps:i:1
    save_steps:i:1000 report_to:c:none:none,tensorboard,wandb,mlflow"""
_RECIPES = {
    "bge-m3-unified": f"{_EMBEDDER} unified_finetuning:b:true use_self_distill:b:true"
    " self_distill_start_step:i:0 fix_encoder:b:false",
    "bge-dense": _EMBEDDER,
    "bge-reranker": """train_group_size:i:8 query_max_len:i:512 passage_max_len:i:512 learning_rate:f:6e-5
        weight_decay:f:0.01 warmup_ratio:f:0.1 num_train_epochs:f:2 per_device_train_batch_size:i:2
        gradient_accumulation_steps:i:1 knowledge_distillation:b:false dataloader_drop_last:b:true
        precision:c:bf16:fp32,bf16,fp16 deepspeed:c:none:none,stage0,stage1 logging_steps:i:1
        gradient_checkpointing:b:true save_steps:i:1000""",
    "mine-hard-negatives": """negative_number:i:15 range_for_sampling:s:10-210 sampling:c:top:top,random
        query_instruction_for_retrieval:s: max_length:i:512 batch_size:i:64
        precision:c:bf16:fp32,bf16,fp16""",
    "score-with-teacher": "batch_size:i:64 max_length:i:512 precision:c:bf16:fp32,bf16,fp16",
    "split-by-length": "boundaries:s:512,1024,2048,4096",
    "evaluate": """reranker:s: rerank_top:i:100 k:s:10,100 batch_size:i:32 max_length:i:512
        precision:c:bf16:fp32,bf16,fp16 query_instruction_for_retrieval:s:""",
}


def _header(name: str, parameters: str) -> str:
    trains = name.startswith("bge-")
    text = [
        'summary = { en = "x", zh = "x" }',
        'targets = ["cpu", "cuda"]',
        f'launch = "{"torchrun" if trains else "python"}"',
        '[inputs.data]\nformat = "embedder"\nhelp = { en = "x", zh = "x" }',
        '[inputs.model]\ndefault = "BAAI/bge-m3"\nhelp = { en = "x", zh = "x" }',
        '[outputs]\nhelp = { en = "x", zh = "x" }',
    ]
    for item in parameters.split():
        key, kind, default, *choices = item.split(":")
        value = default if kind in "bif" else json.dumps(default)
        text.append(f'[parameters.{key}]\ntype = "{_TYPES[kind]}"\ndefault = {value}')
        if choices:
            text.append(f"choices = {json.dumps(choices[0].split(','))}")
        text.append('help = { en = "x", zh = "x" }')
    lines = "\n".join(text).split("\n")
    return "#!/usr/bin/env bash\n# /// recipe\n" + "".join(f"# {line}\n" for line in lines) + "# ///\n"


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue of small recipes."""
    made = tmp_path_factory.mktemp("recipes")
    for name, parameters in _RECIPES.items():
        (made / f"{name}.sh").write_text(_header(name, parameters))
    return made


def one(text: str, folder: Path, **variables: str) -> Translation:
    (found,) = translate.translate(text, folder, variables)
    return found


def words(found: Translation) -> list[str]:
    """The command without ``launch run RECIPE``, and without what the old program did unasked."""
    unasked = {change.new for change in found.changes if change.kind == "default"}
    kept, argv = [], list(found.argv[3:])
    while argv:
        pair = " ".join(argv[:2])
        if pair in unasked:
            argv = argv[2:]
            continue
        kept.append(argv.pop(0))
    return kept


def pasted(found: Translation) -> list[str]:
    """The printed command as a shell splits it."""
    return shlex.split(found.printed().replace("\\\n", ""))


# ------------------------------------------------------------------------------------- real commands
REAL: dict[str, tuple[str, str, str]] = {
    "README of the first embedders (2023)": (
        """torchrun --nproc_per_node 2 \\
-m FlagEmbedding.baai_general_embedding.finetune.run \\
--output_dir out \\
--model_name_or_path BAAI/bge-large-zh-v1.5 \\
--train_data ./toy_finetune_data.jsonl \\
--learning_rate 1e-5 \\
--fp16 \\
--num_train_epochs 5 \\
--per_device_train_batch_size 1 \\
--dataloader_drop_last True \\
--normlized True \\
--temperature 0.02 \\
--query_max_len 64 \\
--passage_max_len 256 \\
--train_group_size 2 \\
--negatives_cross_device \\
--logging_steps 10 \\
--save_steps 1000 \\
--query_instruction_for_retrieval "" """,
        "bge-dense",
        "--data ./toy_finetune_data.jsonl --model BAAI/bge-large-zh-v1.5 --output out --nproc 2"
        " --learning-rate 1e-5 --precision fp16 --num-train-epochs 5 --per-device-train-batch-size 1"
        " --dataloader-drop-last true --normalize-embeddings true --temperature 0.02 --query-max-len 64"
        " --passage-max-len 256 --train-group-size 2 --negatives-cross-device true --logging-steps 10"
        " --save-steps 1000 --query-instruction-for-retrieval ''",
    ),
    "research folder (2024), finetune.run": (
        "torchrun --nproc_per_node 4 -m finetune.run --output_dir out --model_name_or_path BAAI/bge-base-en"
        " --train_data a.jsonl --use_inbatch_neg False --max_example_num_per_dataset 100",
        "bge-dense",
        "--data a.jsonl --model BAAI/bge-base-en --output out --nproc 4 --same-dataset-within-batch true"
        " -- --max_example_num_per_dataset 100",
    ),
    "README of BGE-M3 (2024)": (
        "torchrun --nproc_per_node 2 -m FlagEmbedding.BGE_M3.run --output_dir out --model_name_or_path"
        " BAAI/bge-m3 --train_data ./toy_train_data --learning_rate 1e-5 --fp16 --num_train_epochs 5"
        " --per_device_train_batch_size 1 --dataloader_drop_last True --normlized True --temperature 0.02"
        " --query_max_len 64 --passage_max_len 256 --train_group_size 2 --negatives_cross_device"
        " --logging_steps 10 --same_task_within_batch True --unified_finetuning True --use_self_distill True",
        "bge-m3-unified",
        "--data ./toy_train_data --model BAAI/bge-m3 --output out --nproc 2 --learning-rate 1e-5"
        " --precision fp16 --num-train-epochs 5 --per-device-train-batch-size 1 --dataloader-drop-last true"
        " --normalize-embeddings true --temperature 0.02 --query-max-len 64 --passage-max-len 256"
        " --train-group-size 2 --negatives-cross-device true --logging-steps 10"
        " --same-dataset-within-batch true --unified-finetuning true --use-self-distill true",
    ),
    "issue 701: output in the middle, eight devices": (
        "CUDA_VISIBLE_DEVICES=0,1,2,3,4,5,6,7 nohup torchrun --nproc_per_node 8 > './logs/1.out' \\\n"
        "-m FlagEmbedding.BGE_M3.run --deepspeed '/w/deepspeed/ds_config.json' --knowledge_distillation"
        " False --output_dir './result/240415/' --model_name_or_path 'BAAI/bge-m3' --do_train"
        " --train_data '/w/split' --cache_path './cache' --overwrite_output_dir True"
        " --save_strategy 'steps' --sentence_pooling_method cls --enable_sub_batch True 2>&1 &",
        "bge-m3-unified",
        "--data /w/split --model BAAI/bge-m3 --output ./result/240415/ --nproc 8"
        " --env CUDA_VISIBLE_DEVICES=0,1,2,3,4,5,6,7 --deepspeed stage0 --knowledge-distillation false"
        " --sentence-pooling-method cls -- --save_strategy steps",
    ),
    "issue 1064: exported devices": (
        "export CUDA_VISIBLE_DEVICES=0,1\n\ntorchrun --nproc_per_node 2 \\\n-m FlagEmbedding.BGE_M3.run \\\n"
        "--output_dir /output \\\n--train_data /test_1k.jsonl\n",
        "bge-m3-unified",
        "--data /test_1k.jsonl --output /output --nproc 2 --env CUDA_VISIBLE_DEVICES=0,1",
    ),
    "issue 914: a notebook's cell, with an option glued to the backslash": (
        "!torchrun --nproc_per_node 1\\\n-m FlagEmbedding.BGE_M3.run \\\n--output_dir /m \\\n"
        "--train_data ./toy_train_data \\\n--negatives_cross_device False\\\n--logging_steps 30",
        "bge-m3-unified",
        "--data ./toy_train_data --output /m --nproc 1 --negatives-cross-device false --logging-steps 30",
    ),
    "README of the first rerankers (2023)": (
        "torchrun --nproc_per_node 2 -m FlagEmbedding.reranker.run --output_dir out --model_name_or_path"
        " BAAI/bge-reranker-base --train_data ./toy_finetune_data.jsonl --learning_rate 6e-5 --fp16"
        " --num_train_epochs 5 --per_device_train_batch_size 1 --gradient_accumulation_steps 4"
        " --dataloader_drop_last True --train_group_size 16 --max_len 512 --weight_decay 0.01"
        " --logging_steps 10",
        "bge-reranker",
        "--data ./toy_finetune_data.jsonl --model BAAI/bge-reranker-base --output out --nproc 2"
        " --learning-rate 6e-5 --precision fp16 --num-train-epochs 5 --per-device-train-batch-size 1"
        " --gradient-accumulation-steps 4 --dataloader-drop-last true --train-group-size 16"
        " --query-max-len 128 --passage-max-len 384 --weight-decay 0.01 --logging-steps 10",
    ),
    "issue 238: DeepSpeed on one device": (
        "torchrun --nproc_per_node 1 -m FlagEmbedding.reranker.run --deepspeed ds_config.json"
        " --gradient_checkpointing --output_dir xxx --train_data t.jsonl --max_len 512",
        "bge-reranker",
        "--data t.jsonl --output xxx --nproc 1 --deepspeed none --gradient-checkpointing true"
        " --query-max-len 128 --passage-max-len 384",
    ),
    "issue 1178: FlagEmbedding 1.3": (
        "source /opt/conda/bin/activate /opt/conda/envs/bge\nCUDA_VISIBLE_DEVICES=0,1\n"
        "torchrun --nproc_per_node 2 \\\n\t-m FlagEmbedding.finetune.embedder.encoder_only.m3 \\\n"
        "  --train_data /mnt/train_data/20241024 --output_dir /mnt/out --overwrite_output_dir"
        " --pad_to_multiple_of 8 --kd_loss_type m3_kd_loss --self_distill_start_step 0 --report_to none",
        "bge-m3-unified",
        "--data /mnt/train_data/20241024 --output /mnt/out --nproc 2 --kd-loss-type m3_kd_loss"
        " --self-distill-start-step 0 --report-to none -- --pad_to_multiple_of 8",
    ),
    "loggers: one is an option, what the recipe does not offer is left out": (
        "torchrun --nproc_per_node 2 -m FlagEmbedding.finetune.embedder.encoder_only.base"
        " --train_data t.jsonl --output_dir out --report_to WANDB --run_name mine",
        "bge-dense",
        "--data t.jsonl --output out --nproc 2 --report-to wandb",
    ),
    "README of 1.4: several data, an instruction": (
        "torchrun --nproc_per_node 2 -m FlagEmbedding.finetune.embedder.encoder_only.base"
        " --cache_dir ./cache/model --train_data ./example_data/retrieval \\\n"
        "    			 ./example_data/sts/sts.jsonl \\\n ./example_data/classification-no_in_batch_neg \\\n"
        " --query_instruction_for_retrieval 'Represent this sentence: ' --query_instruction_format '{}{}'"
        " --deepspeed ../ds_stage0.json --output_dir ./test",
        "bge-dense",
        "--data ./example_data/retrieval --data ./example_data/sts/sts.jsonl"
        " --data ./example_data/classification-no_in_batch_neg --output ./test --nproc 2"
        " --query-instruction-for-retrieval 'Represent this sentence: ' --deepspeed stage0"
        " -- --query_instruction_format '{}{}'",
    ),
    "README of 1.4: reranker": (
        "torchrun --nproc_per_node 2 -m FlagEmbedding.finetune.reranker.encoder_only.base"
        " --model_name_or_path BAAI/bge-reranker-v2-m3 --train_data ./example_data/normal/examples.jsonl"
        " --query_max_len 512 --passage_max_len 512 --knowledge_distillation False --output_dir ./t"
        " --max_len 9",
        "bge-reranker",
        "--data ./example_data/normal/examples.jsonl --model BAAI/bge-reranker-v2-m3 --output ./t --nproc 2"
        " --query-max-len 512 --passage-max-len 512 --knowledge-distillation false",
    ),
    "hn_mine (2023)": (
        "python -m FlagEmbedding.baai_general_embedding.finetune.hn_mine --model_name_or_path"
        " BAAI/bge-base-en-v1.5 --input_file toy.jsonl --output_file toy_minedHN.jsonl"
        " --range_for_sampling 2-200 --negative_number 15 --use_gpu_for_searching ",
        "mine-hard-negatives",
        "--data toy.jsonl --model BAAI/bge-base-en-v1.5 --output toy_minedHN --range-for-sampling 2-200"
        " --negative-number 15",
    ),
    "scripts/hn_mine.py (1.4)": (
        "python hn_mine.py --input_file toy.jsonl --output_file o.jsonl --candidate_pool pool.jsonl"
        " --use_gpu_for_searching --embedder_name_or_path BAAI/bge-base-en-v1.5 --devices cuda:0 cuda:1"
        " --embedder_query_max_length 64 --embedder_passage_max_length 256 --use_fp16 False",
        "mine-hard-negatives",
        "--data toy.jsonl --data pool.jsonl --model BAAI/bge-base-en-v1.5 --output o --max-length 256"
        " --precision fp32",
    ),
    "add_reranker_score.py": (
        "python add_reranker_score.py --input_file a.jsonl --output_file b.jsonl --reranker_name_or_path"
        " BAAI/bge-reranker-v2-m3 --devices cuda:0 cuda:1 --cache_dir ./cache/model"
        " --reranker_query_max_length 512 --reranker_max_length 1024",
        "score-with-teacher",
        "--data a.jsonl --model BAAI/bge-reranker-v2-m3 --output b --max-length 1024",
    ),
    "split_data_by_length.py": (
        "python split_data_by_length.py --input_path train_data --output_dir train_data_split --cache_dir"
        " .cache --log_name .split_log --length_list 0 500 1000 2000 --model_name_or_path BAAI/bge-m3"
        " --num_proc 16 --overwrite",
        "split-by-length",
        "--data train_data --model BAAI/bge-m3 --output train_data_split --boundaries 500,1000,2000",
    ),
    "evaluation.custom": (
        "python -m FlagEmbedding.evaluation.custom --eval_name x --dataset_dir ./data --splits test"
        " --k_values 10 100 --embedder_name_or_path BAAI/bge-m3 --reranker_name_or_path"
        " BAAI/bge-reranker-v2-m3 --rerank_top_k 50 --output_dir ./search_results",
        "evaluate",
        "--data ./data --model BAAI/bge-m3 --output ./search_results --k 10,100"
        " --reranker BAAI/bge-reranker-v2-m3 --rerank-top 50",
    ),
}


@pytest.mark.parametrize(("command", "name", "expected"), REAL.values(), ids=REAL.keys())
def test_real_commands(folder: Path, command: str, name: str, expected: str) -> None:
    found = one(command, folder)
    assert found.recipe == name
    assert found.argv[:3] == ("launch", "run", name)
    assert words(found) == shlex.split(expected)
    assert not [change for change in found.dropped if change.kind == "unknown"]
    for change in (*found.changes, *found.dropped):
        assert change.why.en
        assert change.why.zh
    assert pasted(found) == list(found.argv)


SCRIPT = """export WANDB_MODE=disabled

train_data="\\
    ../example_data/retrieval \\
    ../example_data/sts/sts.jsonl "

# set num_gpus to 2 for testing
num_gpus=2

if [ -z "$HF_HUB_CACHE" ]; then
    export HF_HUB_CACHE="$HOME/.cache/huggingface/hub"
fi

model_args="\\
    --model_name_or_path BAAI/bge-m3 \\
    --cache_dir $HF_HUB_CACHE \\
"
data_args="--train_data $train_data \\
    --cache_path ~/.cache \\
    --train_group_size ${group:-8}"

cmd="torchrun --nproc_per_node $num_gpus \\
    -m FlagEmbedding.finetune.embedder.encoder_only.m3 \\
    $model_args \\
    $data_args --output_dir ./out
"

echo $cmd
eval $cmd
"""


def test_upstreams_own_scripts(folder: Path) -> None:
    found = one(SCRIPT, folder, HOME="/home/me")
    assert words(found) == shlex.split(
        "--data ../example_data/retrieval --data ../example_data/sts/sts.jsonl --model BAAI/bge-m3"
        " --output ./out --nproc 2 --train-group-size 8"
    )
    assert {change.old for change in found.dropped} == {
        "WANDB_MODE",
        "--cache_dir /home/me/.cache/huggingface/hub",
        "--cache_path /home/me/.cache",
    }


M3 = "torchrun --nproc_per_node 1 -m FlagEmbedding.BGE_M3.run --output_dir o --train_data t.jsonl "


def test_what_the_old_trainer_did_unasked(folder: Path) -> None:
    """Left out, BGE_M3.run trained the dense head alone, with 32 tokens per query and fp32."""
    found = one(M3, folder)
    unasked = {change.new for change in found.changes if change.kind == "default"}
    assert unasked >= {
        "--unified-finetuning false",
        "--query-max-len 32",
        "--passage-max-len 128",
        "--learning-rate 5e-5",
        "--precision fp32",
        "--same-dataset-within-batch false",
    }
    assert "--temperature" not in found.argv  # the recipe's default is the trainer's
    assert "--self-distill-start-step" not in found.argv
    assert "--self-distill-start-step" in one(M3 + "--use_self_distill True", folder).argv
    distilled = one(M3.replace("BGE_M3.run", "finetune.embedder.encoder_only.m3"), folder)
    assert "--kd-loss-type" not in distilled.argv


@pytest.mark.parametrize(
    ("spelling", "expected"),
    [
        ("--fp16", "--precision fp16"),
        ("--fp16 True", "--precision fp16"),
        ("--fp16=true", "--precision fp16"),
        ("--bf16 --fp16", "--precision bf16"),
        ("--fp16 --bf16", "--precision bf16"),
        ("--fp16 False", "--precision fp32"),
        ("--learning-rate=2e-5", "--learning-rate 2e-5"),
        ("--learning_rate 1 --learning_rate 2e-5", "--learning-rate 2e-5"),
        ("--no_normalize_embeddings", "--normalize-embeddings false"),
        ("--no-normalize-embeddings", "--normalize-embeddings false"),
        ("--normlized f", "--normalize-embeddings false"),
        ("--unified_finetuning", "--unified-finetuning true"),
        ("--optim adafactor", "-- --optim adafactor"),
        ("--optim adamw_bnb_8bit", "--optim adamw_bnb_8bit"),
        ("--max_grad_norm 2", "-- --max_grad_norm 2"),
        ("--ddp_find_unused_parameters", "-- --ddp_find_unused_parameters true"),
        ("--deepspeed zero3_offload.json", "--deepspeed stage3-offload"),
        ("--no_cuda", "--target cpu"),
        ("--query_instruction_for_retrieval='--x'", "--query-instruction-for-retrieval=--x"),
    ],
)
def test_spellings(folder: Path, spelling: str, expected: str) -> None:
    found = one(M3 + spelling, folder)
    assert f" {expected} " in f" {shlex.join(found.argv)} "
    assert not [change for change in found.dropped if change.kind == "unknown"]


@pytest.mark.parametrize(
    ("given_", "kind", "why"),
    [
        ("--overwrite_output_dir", "gone", "nothing is ever overwritten"),
        ("--group_by_length", "gone", "length_bucketing"),
        ("--logging_dir x", "gone", "metrics.jsonl"),
        ("--save_safetensors False", "gone", "safetensors"),
        ("--enable_sub_batch True", "gone", "--sub-batch-size 8"),
        ("--resume_from_checkpoint x", "gone", "--model"),
        ("--token hf_s3cr3t", "gone", "HF_TOKEN"),
        ("--deepspeed own.json", "gone", "does not tell the stage"),
        ("--use_mrl True", "gone", "M3 raises"),
        ("--learning_rat 1", "unknown", "did you mean --learning_rate?"),
        ("--frobnicate 1", "unknown", "nobody knows it"),
        ("--query_instruction_for_retrieval Represent this", "unknown", "needs quotes"),
        ("--seed_ 1 --temperature 1 --temperature 0.02", "repeated", "the last one counts"),
    ],
)
def test_what_is_left_out_is_named(folder: Path, given_: str, kind: str, why: str) -> None:
    found = one(M3 + given_, folder)
    (change,) = (item for item in found.dropped if item.kind == kind)
    assert why in change.why.en
    assert "s3cr3t" not in json.dumps(found.as_data("en"))


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("python -m torch.distributed.launch --nproc_per_node=4 --use_env {}", "4"),
        ("python3 -u -m torch.distributed.run --nproc-per-node 3 --standalone {}", "3"),
        ("accelerate launch --num_processes 2 --mixed_precision no {}", "2"),
        ("accelerate launch --multi_gpu --gpu_ids 0,1,2 {}", "3"),
        ("deepspeed --num_gpus 2 --master_port 29501 {}", "2"),
        ("deepspeed --include localhost:1,3 {}", "2"),
        ("deepspeed {}", "auto"),
        ("python {}", "1"),
        ("torchrun --nproc_per_node gpu {}", "auto"),
        ("uv run torchrun --nproc_per_node 2 {}", "2"),
        ("/opt/bin/torchrun --nproc_per_node 2 {}", "2"),
    ],
)
@pytest.mark.parametrize(
    "program", ["-m FlagEmbedding.BGE_M3.run", "FlagEmbedding/BGE_M3/run.py", "-m run --fix_encoder False"]
)
def test_launchers(folder: Path, command: str, expected: str, program: str) -> None:
    found = one(command.format(program) + " --train_data t.jsonl", folder)
    assert found.recipe == "bge-m3-unified"
    assert found.argv[found.argv.index("--nproc") + 1] == expected


def test_several_machines_and_precision_of_accelerate(folder: Path) -> None:
    found = one(
        "accelerate launch --mixed_precision bf16 --num_machines 2 -m finetune.run --train_data t", folder
    )
    assert "Slurm" in found.notes[0].en
    assert "Slurm" in found.notes[0].zh
    assert "--precision bf16" in shlex.join(found.argv)


def test_variables_before_the_command(folder: Path) -> None:
    found = one(
        f"A_KEY=k HTTPS_PROXY=http://u:p@h NCCL_DEBUG=INFO HF_ENDPOINT=x OMP_NUM_THREADS=1 {M3}", folder
    )
    given_ = [found.argv[i + 1] for i, word in enumerate(found.argv) if word == "--env"]
    assert given_ == ["A_KEY", "HTTPS_PROXY", "NCCL_DEBUG=INFO"]
    assert {change.old for change in found.dropped} == {"HF_ENDPOINT", "OMP_NUM_THREADS"}


def test_what_only_the_reader_knows(folder: Path) -> None:
    found = one(
        "torchrun --nproc_per_node {number of gpus} -m FlagEmbedding.BGE_M3.run --output_dir <path to model>"
        ' --train_data "$nobody/a b.jsonl" --cache_dir $not_used --learning_rate $lr',
        folder,
    )
    assert found.unknown == ("${lr}", "${nobody}", "<path to model>", "{number of gpus}")
    assert '"${nobody}/a b.jsonl"' in found.printed()
    assert pasted(found) == list(found.argv)


@pytest.mark.parametrize(
    ("program", "what"),
    [
        ("FlagEmbedding.finetune.embedder.decoder_only.icl", "large language model"),
        ("FlagEmbedding.llm_reranker.finetune_for_layerwise.run", "large language model"),
        ("FlagEmbedding.llm_dense_retriever.finetune.run", "large language model"),
        ("finetune.run --use_lora True", "large language model"),
        ("hn_mine --embedder_model_class decoder-only-icl", "large language model"),
        ("FlagEmbedding.visual.run", "images"),
        ("FlagEmbedding.baai_general_embedding.retromae_pretrain.run", "RetroMAE"),
        ("FlagEmbedding.evaluation.mteb", "benchmark"),
        ("FlagEmbedding.something.new", "no recipe knows"),
    ],
)
def test_programs_that_no_recipe_covers(folder: Path, program: str, what: str) -> None:
    with pytest.raises(RecipeError, match="no recipe covers") as caught:
        translate.translate(f"torchrun --nproc_per_node 2 -m {program} --train_data x", folder, {})
    assert what in caught.value.problems[0]
    assert "bge-dense" in caught.value.hint


def test_one_covered_and_one_not(folder: Path) -> None:
    found = one(f"{M3}\npython -m FlagEmbedding.evaluation.mteb --eval_name x", folder)
    assert "benchmark" in found.notes[-1].en


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "ls -l",
        "echo torchrun -m FlagEmbedding.BGE_M3.run",
        "torchrun train.py --epochs 2",
        "torchrun -m FlagEmbedding.BGE_M3.run --output_dir 'x",
        'torchrun -m FlagEmbedding.BGE_M3.run "',
        "args=(--a",
        "torchrun $(x",
        '{"cells": 1}',
        '{"cells": [{"cell_type": "code"}]}',
        f"{M3} --learning_rate fast",
        f"{M3} --output_dir",
        "torchrun --nproc_per_node many -m FlagEmbedding.BGE_M3.run",
        "torchrun -m FlagEmbedding.reranker.run --max_len long",
        "x=aaaaaaaa;" + "x=$x$x;" * 30,
    ],
)
def test_texts_that_are_no_command(folder: Path, wrong: str) -> None:
    with pytest.raises(UsageError) as caught:
        translate.translate(wrong, folder, {})
    assert caught.value.hint or caught.value.why


# ------------------------------------------------------------------------------------------- shell text
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b  'c d' \"e f\" g\\ h", ["a", "b", "c d", "e f", "g h"]),
        ("a # b\nc", ["a"]),
        ("a b#c '#d'", ["a", "b#c", "#d"]),
        ("a \\\n  b", ["a", "b"]),
        ("a \\ # why\n --b", ["a", "--b"]),
        ("a \\\n# --old 1 \\\n --b", ["a", "--b"]),
        ("a False\\\n--b", ["a", "False", "--b"]),
        ("a\\\nb", ["ab"]),
        ("$ a b \\\n> c", ["a", "b", "c"]),
        ("x=1; a $x ${x}2 '$x' \"$x y\" \\$x", ["a", "1", "12", "$x", "1 y", "$x"]),
        ("x='1 2'; a $x \"$x\"", ["a", "1", "2", "1 2"]),
        ('x=; a $x "$x" ${y:-d} ${y}', ["a", "", "d", "${y}"]),
        ("args=(--a 'b c' # d\n --e); a \"${args[@]}\"", ["a", "--a", "b c", "--e"]),
        ("a ~/b ~ '~/c'", ["a", "/h/b", "/h", "~/c"]),
        ("a > b 2>&1 c", ["a", "c"]),
        ("a &> b c", ["a", "c"]),
        ("a $(b c) `d e`", ["a", "$(b c)", "`d e`"]),
        ("cat <<EOF\nit's\nEOF\na b", ["cat"]),
        ("eval 'a \"b c\"'", ["a", "b c"]),
        ("a '{}{}' {} $1 $", ["a", "{}{}", "{}", "${1}", "$"]),
        ("a\r\nb", ["a"]),
        ("%%bash\na b", ["a", "b"]),
        ("import x\n!a b \\\n c # d\nprint(1)", ["a", "b", "c"]),
    ],
)
def test_shell_text(text: str, expected: list[str]) -> None:
    assert list(shell.commands(text, {"HOME": "/h"})[0].words) == expected


def test_notebooks(folder: Path) -> None:
    cells = [
        {"cell_type": "markdown", "source": [M3]},
        {"cell_type": "code", "source": ["import torch\n", "x = it's"]},
        {"cell_type": "code", "source": ["%env CUDA_VISIBLE_DEVICES=1\n", f"!{M3}"]},
        {"cell_type": "code", "source": ["%%bash\n", "python hn_mine.py --input_file a.jsonl\n"]},
    ]
    found = translate.translate(json.dumps({"cells": cells}), folder, {})
    assert [item.recipe for item in found] == ["bge-m3-unified", "mine-hard-negatives"]
    assert "CUDA_VISIBLE_DEVICES=1" in found[0].argv


# ------------------------------------------------------------------------------------------ properties
pieces = st.sampled_from(
    [
        *("torchrun", "python", "-m", "FlagEmbedding.BGE_M3.run", "FlagEmbedding.reranker.run", "hn_mine.py"),
        *("--fp16", "--max_len", "--deepspeed", "--train_data", "--k", "--no_", "--=", "--", "-", "'", '"'),
        *("\\\n", "$", "${", "$(", "x=(", "x=$x", "eval", "{a b}", "<<E", "!", "%%bash\n", "\0", "²", "🦄"),
    ]
)


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=80) | st.lists(pieces | st.text(max_size=6), max_size=20).map(" ".join))
@example(text="%env A")
@example(text="eval eval eval eval eval eval $x")
@example(text="torchrun -m FlagEmbedding.reranker.run --max_len 9" + "9" * 5000)
def test_any_text_gives_a_result_or_a_named_error(folder: Path, text: str) -> None:
    try:
        found = translate.translate(text, folder, {})
    except LaunchError:
        return
    for item in found:
        assert pasted(item) == list(item.argv)


plain_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\n\r"), max_size=20)


@settings(deadline=None)
@given(path=plain_text.filter(bool), instruction=plain_text)
@example(path="a b'c", instruction='$x "\\ `')
def test_quoting_round_trips(folder: Path, path: str, instruction: str) -> None:
    """Any text in quotes comes out as the same text, and the printed command is split as it was meant."""
    given_ = ["torchrun", "-m", "FlagEmbedding.BGE_M3.run", f"--train_data={path}"]
    given_ += [f"--query_instruction_for_retrieval={instruction}"]
    found = one(shlex.join(given_), folder)
    assert pasted(found) == list(found.argv)
    assert path in found.argv or f"--data={path}" in found.argv
    assert any(word.endswith(instruction) for word in found.argv)
    (again,) = shell.commands(found.printed(), {})
    assert again.words == found.argv


# ---------------------------------------------------------------------------------------------- tables
def test_every_argument_has_one_fate() -> None:
    for kind, known in tables.KNOWN.items():
        assert not known & set(tables.GONE), kind
        assert not known & set(tables.GONE_FOR[kind]), kind
        assert not set(tables.RENAMED[kind]) & set(tables.GONE), kind
    assert {program.kind for program in programs.PROGRAMS.values()} == set(tables.KNOWN)
    assert arguments.read(["--a-b=1", "--c", "x", "y"]) == ([("a_b", ["1"]), ("c", ["x"])], ["y"])


SHIPPED = {path.stem for path in recipe.catalogue(paths.recipes())}


@pytest.mark.parametrize("name", sorted({program.recipe for program in programs.PROGRAMS.values()}))
def test_every_program_has_a_recipe_that_ships(name: str) -> None:
    assert name in SHIPPED


# ------------------------------------------------------------------------------------------------- verb
def invoke(*words: str, text: str = "") -> str:
    result = CliRunner().invoke(cli.root, ["recipe", "from-command", *words], input=text)
    if isinstance(result.exception, LaunchError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


class _PlannedError(LaunchError):
    """The click command was parsed."""


@pytest.mark.parametrize(("command", "name", "expected"), REAL.values(), ids=REAL.keys())
def test_the_translation_is_a_command_of_launch(
    monkeypatch: pytest.MonkeyPatch, command: str, name: str, expected: str
) -> None:
    """The recipes that ship take it: every option parses, and every value is of its type."""
    if name not in SHIPPED:
        pytest.skip(f"{name} does not ship")
    asked = []

    def make(request: object, *args: object, **kwargs: object) -> None:
        asked.append(request)
        raise _PlannedError("planned")

    monkeypatch.setattr(planning, "make", make)
    argv = list(one(command, paths.recipes()).argv)
    argv.insert(3, "--dry-run")
    result = CliRunner().invoke(cli.root, argv[1:], env={"HF_TOKEN": "x"})
    assert isinstance(result.exception, _PlannedError), result.output
    loaded = recipe.load(recipe.find(name, paths.recipes()))
    (request,) = asked
    loaded.values("cpu", request.parameters)  # type: ignore[attr-defined]


def test_the_verb_prints_a_command_and_what_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ui, "language", lambda: "en")
    result = CliRunner().invoke(cli.root, ["recipe", "from-command", M3 + "--normlized True"])
    assert result.stdout.startswith("launch run bge-m3-unified \\\n    --data t.jsonl \\\n")
    assert "--normlized True" not in result.stdout


def test_the_verb_as_json(tmp_path: Path) -> None:
    file = tmp_path / "train.sh"
    file.write_text(f"# mine\nlr=3e-5\n{M3} --learning_rate $lr --fp16\n")
    found = json.loads(invoke("--file", str(file), "--json", "--lang", "zh"))
    assert found["schema"] == 1
    (command,) = found["commands"]
    assert command["recipe"] == "bge-m3-unified"
    assert command["argv"][command["argv"].index("--learning-rate") + 1] == "3e-5"
    assert re.search("更好", json.dumps(command["changes"], ensure_ascii=False))
    assert json.loads(invoke("-", "--json", text=M3))["commands"][0]["argv"][:3] == [
        "launch",
        "run",
        "bge-m3-unified",
    ]


def test_the_verb_needs_one_text(tmp_path: Path) -> None:
    file = tmp_path / "x.sh"
    file.write_bytes(b"\xff")
    for given_ in ([], ["a", "--file", str(file)], ["--file", str(file)]):
        with pytest.raises(UsageError):
            invoke(*given_)
