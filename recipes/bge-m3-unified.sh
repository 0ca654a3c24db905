#!/usr/bin/env bash
# /// recipe
# summary = { en = "Fine-tune BGE-M3: dense, sparse and ColBERT heads together", zh = "微调 BGE-M3：稠密、稀疏与 ColBERT 三个头一起训练" }
# targets = ["cpu", "cuda", "cuda-vllm", "xpu"]
# launch = "torchrun"
#
# [inputs.data]
# format = "embedder"
# help = { en = "rows with query, pos, neg (and pos_scores, neg_scores for distillation); files or folders", zh = "每行含 query、pos、neg（蒸馏时另有 pos_scores、neg_scores）；文件或文件夹" }
# [inputs.model]
# default = "BAAI/bge-m3"
# help = { en = "an XLM-RoBERTa embedder: a folder, or an id on the hub", zh = "XLM-RoBERTa 类向量模型：本地文件夹或模型库名称" }
# [outputs]
# help = { en = "the model with sparse_linear.pt and colbert_linear.pt, and its checkpoints", zh = "模型及 sparse_linear.pt、colbert_linear.pt，以及各检查点" }
#
# [parameters.train_group_size]
# type = "int"
# default = 8
# help = { en = "passages per query: one positive and group size - 1 negatives", zh = "每个查询的段落数：1 个正例加若干负例" }
# [parameters.query_max_len]
# type = "int"
# default = 512
# help = { en = "longest query, in tokens", zh = "查询的最大长度（词元）" }
# [parameters.passage_max_len]
# type = "int"
# default = 512
# help = { en = "longest passage, in tokens", zh = "段落的最大长度（词元）" }
# [parameters.pad_to_multiple_of]
# type = "int"
# default = 8
# help = { en = "pad lengths to a multiple of this", zh = "长度补齐到该数的倍数" }
# [parameters.query_instruction]
# type = "str"
# default = ""
# help = { en = "text put before every query; BGE-M3 needs none", zh = "加在每个查询前的指令；BGE-M3 不需要" }
# [parameters.knowledge_distillation]
# type = "bool"
# default = false
# help = { en = "learn from the teacher scores of the rows (every row must have them)", zh = "用数据中的教师分数做蒸馏（每行都必须有分数）" }
# [parameters.same_dataset_within_batch]
# type = "bool"
# default = true
# help = { en = "each batch comes from one file", zh = "同一批次的数据来自同一文件" }
# [parameters.small_threshold]
# type = "int"
# default = 0
# help = { en = "files with fewer rows are merged", zh = "行数低于该值的文件会被合并" }
# [parameters.drop_threshold]
# type = "int"
# default = 0
# help = { en = "merged files with fewer rows are dropped", zh = "合并后行数低于该值的会被丢弃" }
# [parameters.learning_rate]
# type = "float"
# default = 1e-5
# help = { en = "peak learning rate", zh = "峰值学习率" }
# [parameters.precision]
# type = "choice"
# choices = ["fp32", "bf16", "fp16"]
# default = { cpu = "fp32", cuda = "bf16", cuda-vllm = "bf16", xpu = "bf16" }
# help = { en = "bf16 where the device has it; fp16 overflows easily and does nothing on CPU", zh = "设备支持时用 bf16；fp16 易溢出，在 CPU 上无效" }
# [parameters.num_train_epochs]
# type = "float"
# default = 2
# help = { en = "passes over the data", zh = "训练轮数" }
# [parameters.max_steps]
# type = "int"
# default = -1
# help = { en = "stop after this many steps; -1: by epochs", zh = "最多训练步数；-1 表示按轮数" }
# [parameters.per_device_train_batch_size]
# type = "int"
# default = 2
# help = { en = "queries per device and step", zh = "每设备每步的查询数" }
# [parameters.dataloader_drop_last]
# type = "bool"
# default = true
# help = { en = "leave out the last, smaller batch", zh = "丢弃最后不满的批次" }
# [parameters.warmup_ratio]
# type = "float"
# default = 0.1
# help = { en = "share of the steps in which the learning rate rises", zh = "学习率预热步数占比" }
# [parameters.gradient_checkpointing]
# type = "bool"
# default = { cpu = false, cuda = true, cuda-vllm = true, xpu = true }
# help = { en = "recompute activations instead of keeping them: less memory, more time", zh = "重算激活以节省显存，训练变慢" }
# [parameters.deepspeed]
# type = "choice"
# choices = ["none", "stage0", "stage1", "stage2", "stage3", "stage3-offload"]
# default = { cpu = "none", cuda = "stage0", cuda-vllm = "stage0", xpu = "none" }
# help = { en = "a configuration of ds_configs/ (only in images that have DeepSpeed)", zh = "ds_configs/ 中的配置（仅限带 DeepSpeed 的镜像）" }
# [parameters.negatives_cross_device]
# type = "bool"
# default = true
# help = { en = "share in-batch negatives between devices", zh = "跨设备共享批内负例" }
# [parameters.temperature]
# type = "float"
# default = 0.02
# help = { en = "temperature of the contrastive loss", zh = "对比损失的温度" }
# [parameters.sentence_pooling_method]
# type = "choice"
# choices = ["cls", "mean", "last_token"]
# default = "cls"
# help = { en = "how token states become one vector", zh = "句向量的池化方式" }
# [parameters.normalize_embeddings]
# type = "bool"
# default = true
# help = { en = "vectors of length one", zh = "向量归一化" }
# [parameters.kd_loss_type]
# type = "choice"
# choices = ["kl_div", "m3_kd_loss"]
# default = "m3_kd_loss"
# help = { en = "loss of the distillation", zh = "蒸馏损失" }
# [parameters.unified_finetuning]
# type = "bool"
# default = true
# help = { en = "train all three heads", zh = "三个头一起训练" }
# [parameters.use_self_distill]
# type = "bool"
# default = true
# help = { en = "let the sum of the heads teach each head", zh = "用三个头之和做自蒸馏" }
# [parameters.self_distill_start_step]
# type = "int"
# default = 0
# help = { en = "step from which self-distillation is on", zh = "自蒸馏开始的步数" }
# [parameters.fix_encoder]
# type = "bool"
# default = false
# help = { en = "train the sparse and ColBERT heads alone", zh = "只训练稀疏与 ColBERT 头" }
# [parameters.logging_steps]
# type = "int"
# default = 1
# help = { en = "steps between two lines of progress", zh = "每隔多少步记录一次" }
# [parameters.save_steps]
# type = "int"
# default = 1000
# help = { en = "steps between two checkpoints", zh = "每隔多少步保存检查点" }
# [parameters.seed]
# type = "int"
# default = 42
# help = { en = "seed of shuffling, dropout and new heads", zh = "随机种子" }
# ///
#
# Runs by itself too, inside an environment that has the libraries:
#   DATA=train.jsonl MODEL=BAAI/bge-m3 OUTPUT=out TARGET=cuda NPROC=2 LEARNING_RATE=2e-5 bash bge-m3-unified.sh
set -euo pipefail
here="${LAUNCH_RECIPES:-$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)}"
# shellcheck source-path=SCRIPTDIR source=runtime/recipe.sh
source "$here/runtime/recipe.sh" # the header's defaults, the process count, the rendezvous

args=(
    --model_name_or_path "$MODEL"
    --train_data "${data[@]}"
    --cache_path "$scratch/data"
    --output_dir "$OUTPUT"
    --train_group_size "$TRAIN_GROUP_SIZE"
    --query_max_len "$QUERY_MAX_LEN"
    --passage_max_len "$PASSAGE_MAX_LEN"
    --pad_to_multiple_of "$PAD_TO_MULTIPLE_OF"
    # Always given: without it, same_dataset_within_batch trains every query as "None" + query.
    --query_instruction_for_retrieval "$QUERY_INSTRUCTION"
    --query_instruction_format "{}{}"
    --knowledge_distillation "$KNOWLEDGE_DISTILLATION"
    --same_dataset_within_batch "$SAME_DATASET_WITHIN_BATCH"
    --small_threshold "$SMALL_THRESHOLD"
    --drop_threshold "$DROP_THRESHOLD"
    --learning_rate "$LEARNING_RATE"
    --num_train_epochs "$NUM_TRAIN_EPOCHS"
    --max_steps "$MAX_STEPS"
    --per_device_train_batch_size "$PER_DEVICE_TRAIN_BATCH_SIZE"
    --dataloader_drop_last "$DATALOADER_DROP_LAST"
    --warmup_ratio "$WARMUP_RATIO"
    --gradient_checkpointing "$GRADIENT_CHECKPOINTING"
    --negatives_cross_device "$NEGATIVES_CROSS_DEVICE"
    --temperature "$TEMPERATURE"
    --sentence_pooling_method "$SENTENCE_POOLING_METHOD"
    --normalize_embeddings "$NORMALIZE_EMBEDDINGS"
    --kd_loss_type "$KD_LOSS_TYPE"
    --unified_finetuning "$UNIFIED_FINETUNING"
    --use_self_distill "$USE_SELF_DISTILL"
    --self_distill_start_step "$SELF_DISTILL_START_STEP"
    --fix_encoder "$FIX_ENCODER"
    --logging_steps "$LOGGING_STEPS"
    --save_steps "$SAVE_STEPS"
    --seed "$SEED"
    --report_to none
    --disable_tqdm true # progress goes through metrics.jsonl
)
if [[ $TARGET == cpu && $PRECISION == fp16 ]]; then
    echo "fp16 has no effect on a CPU: use --precision fp32 or bf16" >&2
    exit 64
fi
[[ $PRECISION == fp32 ]] || args+=("--$PRECISION" true)
[[ $DEEPSPEED == none ]] || args+=(--deepspeed "$here/../ds_configs/$DEEPSPEED.json")
# Two processes on a CPU that are not told so train alone as two rank 0, and exit with code 0.
# Elsewhere accelerate chooses: nccl, or xccl, which transformers below 5 refuses as an argument.
[[ $TARGET != cpu ]] || args+=(--use_cpu true --ddp_backend gloo)

exec torchrun "${rendezvous[@]}" -m runtime \
    -m FlagEmbedding.finetune.embedder.encoder_only.m3 "${args[@]}" "$@"
