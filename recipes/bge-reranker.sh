#!/usr/bin/env bash
# /// recipe
# summary = { en = "Fine-tune a reranker: a cross-encoder that scores query and passage together", zh = "微调重排模型：同时读取查询与段落并打分的交叉编码器" }
# targets = ["cpu", "cuda", "cuda-vllm", "xpu"]
# launch = "torchrun"
#
# [inputs.data]
# format = "reranker"
# help = { en = "rows with query, pos, neg (and pos_scores, neg_scores for distillation); files or folders", zh = "每行含 query、pos、neg（蒸馏时另有 pos_scores、neg_scores）；文件或文件夹" }
# [inputs.model]
# default = "BAAI/bge-reranker-v2-m3"
# help = { en = "a cross-encoder, or an encoder that becomes one: a folder, or an id on the hub", zh = "交叉编码器，或将成为交叉编码器的编码器：本地文件夹或模型库名称" }
# [outputs]
# help = { en = "the reranker, and its checkpoints", zh = "重排模型，以及各检查点" }
#
# [[refusals]]
# when = { target = "cpu", precision = "fp16" }
# why = { en = "fp16 has no effect on a CPU: use fp32 or bf16", zh = "fp16 在 CPU 上无效：请用 fp32 或 bf16" }
# [[refusals]]
# when = { target = "cpu", optim = "adamw_bnb_8bit" }
# why = { en = "8-bit Adam needs a GPU", zh = "8 位 Adam 需要 GPU" }
# [[refusals]]
# when = { target = ["cpu", "xpu"], deepspeed = ["stage0", "stage1", "stage2", "stage3", "stage3-offload"] }
# why = { en = "this image has no DeepSpeed", zh = "该镜像没有 DeepSpeed" }
# [[refusals]]
# when = { deepspeed = ["stage3", "stage3-offload"] }
# why = { en = "FlagEmbedding's trainers throw the gathered weights away when they save: the result would be empty tensors; use stage1 or stage2", zh = "FlagEmbedding 的训练器保存时丢弃已汇集的权重，结果将是空张量；请用 stage1 或 stage2" }
# [[refusals]]
# when = { deepspeed = ["stage0", "stage1", "stage2"], optim = ["adamw_bnb_8bit", "adamw_torch_fused"] }
# why = { en = "DeepSpeed's configuration brings its own optimiser, and --optim would be ignored", zh = "DeepSpeed 配置自带优化器，--optim 会被忽略" }
# [[refusals]]
# when = { group_by_length = "given" }
# why = { en = "transformers' sampler cannot read these rows", zh = "transformers 的采样器读不了这种数据" }
# [[refusals]]
# when = { tokenizer_name = "given" }
# why = { en = "the trainer parses it and never reads it; the tokenizer comes from --model", zh = "训练器只解析、从不读取；分词器取自 --model" }
# [[refusals]]
# when = { use_slow_tokenizer = "given" }
# why = { en = "only the trainers of large language models parse it, and they never read it", zh = "只有大语言模型的训练器解析该参数，且从不读取" }
# [[refusals]]
# when = { peft_model_path = "given" }
# why = { en = "only the trainers of large language models parse it, and they never read it", zh = "只有大语言模型的训练器解析该参数，且从不读取" }
# [[refusals]]
# when = { overwrite_output_dir = "given" }
# why = { en = "an output folder is never overwritten; give another --output", zh = "输出文件夹不会被覆盖；请另给 --output" }
# [[refusals]]
# when = { sub_batch_size = "given" }
# why = { en = "the reranker's trainer never reads it; use --gradient-accumulation-steps", zh = "重排训练器从不读取；请用 --gradient-accumulation-steps" }
# [[refusals]]
# when = { max_len = "given" }
# why = { en = "the trainer never reads it; the length is query_max_len + passage_max_len", zh = "训练器从不读取；长度为 query_max_len + passage_max_len" }
# [[refusals]]
# when = { target = ["cpu"], unsloth = "on" }
# why = { en = "on a CPU Unsloth trains language models alone", zh = "在 CPU 上 Unsloth 只训练语言模型" }
# [[refusals]]
# when = { patches = "none", dataloader_drop_last = false }
# why = { en = "without the patch reranker-batch the last, smaller batch is mis-grouped; use --dataloader-drop-last true", zh = "没有 reranker-batch 补丁时最后不满的批次会被错误分组；请用 --dataloader-drop-last true" }
#
# [parameters.train_group_size]
# type = "int"
# default = 8
# help = { en = "passages per query in a step: 1 positive and this minus 1 negatives, drawn anew each time from neg. Memory and time grow with it; more negatives teach finer distinctions", zh = "每步中每个查询的段落数：1 个正例加（该值减 1）个负例，每次从 neg 中重新抽取。显存与时间随之增长；负例越多，区分越细" }
# [parameters.query_max_len]
# type = "int"
# default = 512
# help = { en = "longest query in tokens; the rest is cut off. Only the batch's longest text counts for memory, so a generous limit costs nothing on short texts", zh = "查询的最大长度（词元），超出部分截断。显存只取决于批内最长文本，短文本用较大上限并不多占" }
# [parameters.passage_max_len]
# type = "int"
# default = 512
# help = { en = "longest passage in tokens; the rest is cut off and is not learned from. Memory grows in proportion to the longest passage of a batch (BGE-M3: up to 8192)", zh = "段落的最大长度（词元），超出部分截断、不参与学习。显存与批内最长段落成正比（BGE-M3 最长 8192）" }
# [parameters.pad_to_multiple_of]
# type = "int"
# default = 8
# help = { en = "pad lengths to a multiple of this many tokens; 8 suits the matrix units of GPUs and wastes at most 7 tokens a text", zh = "长度补齐到该数（词元）的倍数；8 适合 GPU 的矩阵单元，每条文本最多浪费 7 个词元" }
# [parameters.query_instruction_for_rerank]
# type = "str"
# default = ""
# help = { en = "text put before every query; use the same one at inference. BGE rerankers need none", zh = "加在每个查询前的指令，推理时须用同一条；BGE 重排模型不需要" }
# [parameters.query_instruction_format]
# type = "str"
# default = "{}{}"
# help = { en = "how instruction and query are joined: the first {} is the instruction, the second the query; \\n is a line break", zh = "指令与查询的拼接方式：第一个 {} 为指令，第二个为查询；\\n 表示换行" }
# [parameters.passage_instruction_for_rerank]
# type = "str"
# default = ""
# help = { en = "text put before every passage; BGE rerankers need none", zh = "加在每个段落前的指令；BGE 重排模型不需要" }
# [parameters.passage_instruction_format]
# type = "str"
# default = "{}{}"
# help = { en = "how instruction and passage are joined: the first {} is the instruction, the second the passage", zh = "指令与段落的拼接方式：第一个 {} 为指令，第二个为段落" }
# [parameters.knowledge_distillation]
# type = "bool"
# default = false
# help = { en = "learn from the teacher scores pos_scores and neg_scores, which every row must have then (recipe score-with-teacher makes them); costs no memory and usually raises quality", zh = "用教师分数 pos_scores 与 neg_scores 做蒸馏，每行都必须有（可用 score-with-teacher 生成）；不占显存，通常提升质量" }
# [parameters.learning_rate]
# type = "float"
# default = 6e-5
# help = { en = "peak learning rate; 6e-5 suits base models that become rerankers, 1e-5 trained rerankers", zh = "峰值学习率；从基础模型训练重排用 6e-5，已训练的重排模型用 1e-5" }
# [parameters.weight_decay]
# type = "float"
# default = 0.01
# help = { en = "AdamW's weight decay per step, times the learning rate; keeps weights small, 0 turns it off", zh = "AdamW 的权重衰减系数（每步乘以学习率）；抑制权重变大，0 为关闭" }
# [parameters.warmup_ratio]
# type = "float"
# default = 0.1
# help = { en = "share of the steps in which the learning rate rises from 0; guards the trained weights from the first, noisy steps", zh = "学习率从 0 升到峰值所占的步数比例；保护已训练的权重不被最初的噪声破坏" }
# [parameters.num_train_epochs]
# type = "float"
# default = 2
# help = { en = "passes over the data; more than 3 overfits small data", zh = "训练轮数；小数据超过 3 轮容易过拟合" }
# [parameters.max_steps]
# type = "int"
# default = -1
# help = { en = "stop after this many optimiser steps; -1: as many as the epochs have", zh = "最多优化步数；-1 表示按轮数" }
# [parameters.per_device_train_batch_size]
# type = "int"
# default = 2
# help = { en = "queries per device and step, each with its whole group. Memory grows in proportion; a reranker has no in-batch negatives, so gradient_accumulation_steps is as good", zh = "每设备每步的查询数（各带整组段落）。显存成正比增长；重排没有批内负例，用梯度累积效果相同" }
# [parameters.gradient_accumulation_steps]
# type = "int"
# default = 1
# help = { en = "batches per optimiser step: a larger batch at no memory", zh = "每次优化前累积的批次数：不占显存地增大批次" }
# [parameters.dataloader_drop_last]
# type = "bool"
# default = false
# help = { en = "leave out the last, smaller batch of an epoch; it may be trained, the runtime groups it rightly", zh = "丢弃每轮最后不满的批次；运行时会正确分组，可以放心训练" }
# [parameters.precision]
# type = "choice"
# choices = ["fp32", "bf16", "fp16"]
# default = { cpu = "fp32", cuda = "bf16", cuda-vllm = "bf16", xpu = "bf16" }
# help = { en = "number format of the activations: bf16 halves memory and time where the device has it; fp16 overflows easily (loss 0 or NaN) and is only taken when asked for; fp32 is exact", zh = "激活的数值格式：设备支持时 bf16 显存与时间减半；fp16 易溢出（损失为 0 或 NaN），仅在明确指定时使用；fp32 最精确" }
# [parameters.gradient_checkpointing]
# type = "bool"
# default = { cpu = false, cuda = true, cuda-vllm = true, xpu = true }
# help = { en = "recompute activations instead of keeping them: about a tenth of the activation memory for a third more time, the same gradients", zh = "重算激活而不保存：激活显存约降至十分之一，时间约多三分之一，梯度不变" }
# [parameters.deepspeed]
# type = "choice"
# choices = ["none", "stage0", "stage1", "stage2", "stage3", "stage3-offload"]
# default = "none"
# help = { en = "a configuration of ds_configs/, only in images that have DeepSpeed. On one device it saves nothing; stage1 and stage2 share optimiser states and gradients between devices", zh = "ds_configs/ 中的配置，仅限带 DeepSpeed 的镜像。单卡上不省显存；stage1 与 stage2 在多卡间分摊优化器状态与梯度" }
# [parameters.optim]
# type = "choice"
# choices = ["adamw_torch", "adamw_torch_fused", "adamw_bnb_8bit"]
# default = "adamw_torch"
# help = { en = "optimiser: adamw_bnb_8bit keeps its states in 8 bit and saves 6 bytes a parameter, but for embeddings, which transformers leaves in 32 bit (bge-m3: 1.8 GB, GPUs only); adamw_torch_fused is the fastest on GPUs", zh = "优化器：adamw_bnb_8bit 以 8 位保存状态，每参数省 6 字节，嵌入层除外（transformers 对其保留 32 位；bge-m3 省 1.8 GB，仅 GPU）；adamw_torch_fused 在 GPU 上最快" }
# [parameters.freeze_word_embeddings]
# type = "bool"
# default = false
# help = { en = "leave the token embeddings as they are: saves gradient and optimiser states of them (bge-m3: 3.1 GB) at little loss of quality; false when the data has new words", zh = "冻结词嵌入：省去其梯度与优化器状态（bge-m3 省 3.1 GB），质量损失很小；数据含新词时用 false" }
# [parameters.attention_dropout]
# type = "float"
# default = { cpu = 0, cuda = -1, cuda-vllm = -1, xpu = 0 }
# help = { en = "dropout probability of the attention weights; negative: the model's own. 0 keeps attention fused on CPU and Intel GPUs, at a third of the activation memory; models with attention of another kind are left as they are", zh = "注意力权重的 dropout 概率；负数表示沿用模型自身。0 使 CPU 与 Intel 显卡保持融合注意力，激活内存约为三分之一" }
# [parameters.unsloth]
# type = "choice"
# choices = ["on", "off"]
# default = "off"
# help = { en = "load the model through Unsloth (only images that have it): compiled layers, less memory. off: plain transformers", zh = "通过 Unsloth 载入模型（仅限带 Unsloth 的镜像）：编译层、省显存。off 为普通 transformers" }
# [parameters.logging_steps]
# type = "int"
# default = 1
# help = { en = "optimiser steps between two lines of progress", zh = "每隔多少优化步记录一次进度" }
# [parameters.report_to]
# type = "choice"
# choices = ["none", "tensorboard", "wandb", "mlflow"]
# default = "none"
# help = { en = "show the curves in a logger too; its files lie in the run's record (tensorboard/, wandb/, mlruns/). wandb stays offline unless --env WANDB_MODE=online --env WANDB_API_KEY and --network bridge say otherwise. metrics.jsonl always has the numbers", zh = "同时写入日志工具，文件在运行记录中（tensorboard/、wandb/、mlruns/）。wandb 默认离线，联机需 --env WANDB_MODE=online --env WANDB_API_KEY 和 --network bridge。metrics.jsonl 总有全部数值" }
# [parameters.save_steps]
# type = "int"
# default = 1000
# help = { en = "optimiser steps between two checkpoints; each holds weights and optimiser states (bge-m3: 6.8 GB of disk)", zh = "每隔多少优化步保存检查点；每个含权重与优化器状态（bge-m3 占磁盘 6.8 GB）" }
# [parameters.save_total_limit]
# type = "int"
# default = 2
# help = { en = "checkpoints that are kept, the newest ones; the result itself is always kept", zh = "最多保留的检查点数（最新的）；最终结果总会保留" }
# [parameters.seed]
# type = "int"
# default = 42
# help = { en = "seed of shuffling, negatives, dropout and new heads: the same seed and plan repeat a run", zh = "打乱、负例抽样、dropout 与新建头的随机种子：相同种子与计划可重复训练" }
# [parameters.patches]
# type = "str"
# default = "all"
# help = { en = "changes to the libraries that are on: all, none, or names; -NAME leaves one out. docs/patches.md says what each does", zh = "启用的库补丁：all、none 或名称列表；-名称 表示排除。各补丁说明见 docs/patches.md" }
# ///
#
# Runs by itself too, inside an environment that has the libraries:
#   DATA=train.jsonl MODEL=BAAI/bge-reranker-v2-m3 OUTPUT=out TARGET=cuda NPROC=2 LEARNING_RATE=2e-5 bash bge-reranker.sh
set -euo pipefail
here="${LAUNCH_RECIPES:-$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)}"
# shellcheck source-path=SCRIPTDIR source=runtime/recipe.sh
source "$here/runtime/recipe.sh" # the header's defaults and refusals, the process count, the rendezvous
: "${DATA:?set DATA to files or folders of rows}"

runtime=(
    --patches "$PATCHES"
    --attention-dropout "$ATTENTION_DROPOUT"
    --freeze-word-embeddings "$FREEZE_WORD_EMBEDDINGS"
    --unsloth "$UNSLOTH"
)
args=(
    --model_name_or_path "$MODEL"
    --train_data "${data[@]}"
    --cache_path "$scratch/data"
    --output_dir "$OUTPUT"
    --train_group_size "$TRAIN_GROUP_SIZE"
    --query_max_len "$QUERY_MAX_LEN"
    --passage_max_len "$PASSAGE_MAX_LEN"
    --pad_to_multiple_of "$PAD_TO_MULTIPLE_OF"
    --query_instruction_for_rerank "$QUERY_INSTRUCTION_FOR_RERANK"
    --query_instruction_format "$QUERY_INSTRUCTION_FORMAT"
    --knowledge_distillation "$KNOWLEDGE_DISTILLATION"
    --learning_rate "$LEARNING_RATE"
    --weight_decay "$WEIGHT_DECAY"
    --warmup_ratio "$WARMUP_RATIO"
    --num_train_epochs "$NUM_TRAIN_EPOCHS"
    --max_steps "$MAX_STEPS"
    --per_device_train_batch_size "$PER_DEVICE_TRAIN_BATCH_SIZE"
    --gradient_accumulation_steps "$GRADIENT_ACCUMULATION_STEPS"
    --dataloader_drop_last "$DATALOADER_DROP_LAST"
    --optim "$OPTIM"
    --logging_steps "$LOGGING_STEPS"
    --save_steps "$SAVE_STEPS"
    --save_total_limit "$SAVE_TOTAL_LIMIT"
    --seed "$SEED"
    --report_to "$REPORT_TO"
    --run_name "${LAUNCH_RUN_ID:-$OUTPUT}"
    --disable_tqdm true # progress goes through metrics.jsonl
)
if [[ -n $PASSAGE_INSTRUCTION_FOR_RERANK ]]; then
    args+=(--passage_instruction_for_rerank "$PASSAGE_INSTRUCTION_FOR_RERANK")
    args+=(--passage_instruction_format "$PASSAGE_INSTRUCTION_FORMAT")
fi
[[ $PRECISION == fp32 ]] || args+=("--$PRECISION" true)
# Re-entrant checkpointing, the libraries' default, breaks under DDP; that was what DeepSpeed was there for.
[[ $GRADIENT_CHECKPOINTING != true ]] ||
    args+=(--gradient_checkpointing true --gradient_checkpointing_kwargs '{"use_reentrant": false}')
[[ $REPORT_TO != tensorboard ]] || args+=(--logging_dir "$record/tensorboard")
[[ $DEEPSPEED == none ]] || args+=(--deepspeed "$here/../ds_configs/$DEEPSPEED.json")
# Two processes on a CPU that are not told so train alone as two rank 0, and exit with code 0.
# Elsewhere accelerate chooses: nccl, or xccl, which transformers below 5 refuses as an argument.
[[ $TARGET != cpu ]] || args+=(--use_cpu true --ddp_backend gloo)

exec torchrun "${rendezvous[@]}" -m runtime "${runtime[@]}" \
    -m FlagEmbedding.finetune.reranker.encoder_only.base "${args[@]}" "$@"
