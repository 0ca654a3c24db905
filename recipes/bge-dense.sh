#!/usr/bin/env bash
# /// recipe
# summary = { en = "Fine-tune a dense embedder: BGE, E5, MiniLM and other encoders", zh = "微调稠密向量模型：BGE、E5、MiniLM 等编码器" }
# targets = ["cpu", "cuda", "cuda-vllm", "xpu"]
# launch = "torchrun"
#
# [inputs.data]
# format = "embedder"
# help = { en = "rows with query, pos, neg (and pos_scores, neg_scores for distillation); files or folders", zh = "每行含 query、pos、neg（蒸馏时另有 pos_scores、neg_scores）；文件或文件夹" }
# [inputs.model]
# default = "BAAI/bge-base-en-v1.5"
# help = { en = "an encoder of transformers: a folder, or an id on the hub", zh = "transformers 编码器模型：本地文件夹或模型库名称" }
# [outputs]
# help = { en = "the model with sentence-transformers' files, and its checkpoints", zh = "模型及 sentence-transformers 所需文件，以及各检查点" }
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
# when = { deepspeed = ["stage0", "stage1", "stage2"], length_bucketing = true, bucket_batch_sizes = "" }
# why = { en = "memory is measured before DeepSpeed shares it out: give --bucket-batch-sizes, or --deepspeed none", zh = "显存在 DeepSpeed 分摊之前测量：请给出 --bucket-batch-sizes，或用 --deepspeed none" }
# [[refusals]]
# when = { group_by_length = "given" }
# why = { en = "transformers' sampler cannot read these rows; use --length-bucketing true", zh = "transformers 的采样器读不了这种数据；请用 --length-bucketing true" }
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
# [parameters.query_instruction_for_retrieval]
# type = "str"
# default = ""
# help = { en = "text put before every query whose row has no prompt; use the same one at inference. BGE-M3 needs none", zh = "加在没有 prompt 的查询前的指令，推理时须用同一条；BGE-M3 不需要" }
# [parameters.query_instruction_format]
# type = "str"
# default = "{}{}"
# help = { en = "how instruction and query are joined: the first {} is the instruction, the second the query; \\n is a line break", zh = "指令与查询的拼接方式：第一个 {} 为指令，第二个为查询；\\n 表示换行" }
# [parameters.passage_instruction_for_retrieval]
# type = "str"
# default = ""
# help = { en = "text put before every passage; BGE-M3 needs none, E5 models want \"passage: \"", zh = "加在每个段落前的指令；BGE-M3 不需要，E5 类模型用 \"passage: \"" }
# [parameters.passage_instruction_format]
# type = "str"
# default = "{}{}"
# help = { en = "how instruction and passage are joined: the first {} is the instruction, the second the passage", zh = "指令与段落的拼接方式：第一个 {} 为指令，第二个为段落" }
# [parameters.knowledge_distillation]
# type = "bool"
# default = false
# help = { en = "learn from the teacher scores pos_scores and neg_scores, which every row must have then (recipe score-with-teacher makes them); costs no memory and usually raises quality", zh = "用教师分数 pos_scores 与 neg_scores 做蒸馏，每行都必须有（可用 score-with-teacher 生成）；不占显存，通常提升质量" }
# [parameters.kd_loss_type]
# type = "choice"
# choices = ["kl_div", "m3_kd_loss"]
# default = "m3_kd_loss"
# help = { en = "loss of the distillation: kl_div compares the group's distributions and adds the contrastive loss; m3_kd_loss weights a contrastive loss over the whole batch by the teacher's scores", zh = "蒸馏损失：kl_div 比较组内分布并加上对比损失；m3_kd_loss 用教师分数加权整批的对比损失" }
# [parameters.same_dataset_within_batch]
# type = "bool"
# default = true
# help = { en = "every batch comes from one file, so in-batch negatives are of one kind; false mixes all files", zh = "同一批次只取同一文件，批内负例同类；false 则混合所有文件" }
# [parameters.small_threshold]
# type = "int"
# default = 0
# help = { en = "files of a folder with fewer rows are merged into one (rows); single files with fewer are refused", zh = "文件夹中行数低于该值的文件合并为一个；单独给出的小文件会被拒绝" }
# [parameters.drop_threshold]
# type = "int"
# default = 0
# help = { en = "a merged file with fewer rows is left out (rows)", zh = "合并后行数低于该值的文件会被丢弃" }
# [parameters.learning_rate]
# type = "float"
# default = 2e-5
# help = { en = "peak learning rate; 1e-5 to 5e-5 suits trained embedders, the smaller the model the higher", zh = "峰值学习率；已训练的向量模型用 1e-5 到 5e-5，模型越小越高" }
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
# default = 16
# help = { en = "queries per device and step. Memory grows in proportion; every other query's passages are negatives, so larger batches teach more per step. Not used with length_bucketing", zh = "每设备每步的查询数。显存成正比增长；其他查询的段落都是负例，批次越大每步学得越多。开启 length_bucketing 时不使用" }
# [parameters.gradient_accumulation_steps]
# type = "int"
# default = 1
# help = { en = "batches per optimiser step: a larger batch for the optimiser at no memory, but without more in-batch negatives (for these: sub_batch_size)", zh = "每次优化前累积的批次数：不占显存地增大优化批次，但不增加批内负例（需要时用 sub_batch_size）" }
# [parameters.sub_batch_size]
# type = "int"
# default = 0
# help = { en = "encode a batch in parts of this many texts and compute each again for its gradient: memory of one part, gradients and in-batch negatives of the whole batch, about a third more time; 0: off", zh = "把一批文本分成每份该条数编码，求梯度时重算：显存只占一份，梯度与批内负例仍是整批，时间约多三分之一；0 为关闭" }
# [parameters.length_bucketing]
# type = "bool"
# default = false
# help = { en = "batches of texts of similar length, each as large as memory allows: the sizes are measured before the start and recorded. Less padding, many more texts per step where texts are short", zh = "按长度分批，每批大小由显存实测决定并写入记录。填充更少，短文本每步能放下多得多的文本" }
# [parameters.max_batch_size]
# type = "int"
# default = 64
# help = { en = "most queries per device and step with length_bucketing; a very large batch means few optimiser steps", zh = "length_bucketing 时每设备每步的最大查询数；批次过大则优化步数过少" }
# [parameters.bucket_batch_sizes]
# type = "str"
# default = ""
# help = { en = "batch sizes for length_bucketing instead of measured ones, as longest passage in tokens:queries, e.g. 128:32,512:8, for one source (a record numbers them) as 1/128:16; empty: measure. A record's sizes, given here, repeat its batches; max_batch_size does not apply", zh = "手动给出 length_bucketing 的批大小（段落最大词元数:查询数，如 128:32,512:8；只对某个数据源则写 1/128:16，编号见记录）；留空则实测。填入记录中的值可重复该次的批次；此时 max_batch_size 不起作用" }
# [parameters.dataloader_drop_last]
# type = "bool"
# default = true
# help = { en = "leave out the last, smaller batch of an epoch; false trains it too (with same_dataset_within_batch it is always left out, with length_bucketing never)", zh = "丢弃每轮最后不满的批次；false 则也训练（same_dataset_within_batch 时总是丢弃，length_bucketing 时从不丢弃）" }
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
# [parameters.negatives_cross_device]
# type = "bool"
# default = true
# help = { en = "share in-batch negatives of the dense vector between devices: more negatives for a little communication", zh = "稠密向量在设备间共享批内负例：以少量通信换取更多负例" }
# [parameters.temperature]
# type = "float"
# default = 0.02
# help = { en = "divides the similarities in the contrastive loss; smaller looks harder at the hardest negatives. BGE-M3 was trained with 0.02", zh = "对比损失中相似度除以该值；越小越关注最难的负例。BGE-M3 用 0.02 训练" }
# [parameters.sentence_pooling_method]
# type = "choice"
# choices = ["cls", "mean", "last_token"]
# default = "cls"
# help = { en = "how token states become the dense vector; must be the model's own: cls for BGE, mean for E5 and MiniLM", zh = "词元状态汇成稠密向量的方式，须与模型一致：BGE 用 cls，E5 与 MiniLM 用 mean" }
# [parameters.normalize_embeddings]
# type = "bool"
# default = true
# help = { en = "vectors of length one, so that their inner product is the cosine; the temperature is meant for these", zh = "向量归一化为单位长度，内积即余弦；温度按此设定" }
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
#   DATA=train.jsonl MODEL=BAAI/bge-base-en-v1.5 OUTPUT=out TARGET=cuda NPROC=2 LEARNING_RATE=2e-5 bash bge-dense.sh
set -euo pipefail
here="${LAUNCH_RECIPES:-$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)}"
# shellcheck source-path=SCRIPTDIR source=runtime/recipe.sh
source "$here/runtime/recipe.sh" # the header's defaults and refusals, the process count, the rendezvous
: "${DATA:?set DATA to files or folders of rows}"

runtime=(
    --patches "$PATCHES"
    --attention-dropout "$ATTENTION_DROPOUT"
    --freeze-word-embeddings "$FREEZE_WORD_EMBEDDINGS"
    --length-bucketing "$LENGTH_BUCKETING"
    --max-batch-size "$MAX_BATCH_SIZE"
    --bucket-batch-sizes "$BUCKET_BATCH_SIZES"
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
    # Always given: without it, same_dataset_within_batch trains every query as "None" + query.
    --query_instruction_for_retrieval "$QUERY_INSTRUCTION_FOR_RETRIEVAL"
    --query_instruction_format "$QUERY_INSTRUCTION_FORMAT"
    --knowledge_distillation "$KNOWLEDGE_DISTILLATION"
    --kd_loss_type "$KD_LOSS_TYPE"
    --same_dataset_within_batch "$SAME_DATASET_WITHIN_BATCH"
    --small_threshold "$SMALL_THRESHOLD"
    --drop_threshold "$DROP_THRESHOLD"
    --learning_rate "$LEARNING_RATE"
    --weight_decay "$WEIGHT_DECAY"
    --warmup_ratio "$WARMUP_RATIO"
    --num_train_epochs "$NUM_TRAIN_EPOCHS"
    --max_steps "$MAX_STEPS"
    --per_device_train_batch_size "$PER_DEVICE_TRAIN_BATCH_SIZE"
    --gradient_accumulation_steps "$GRADIENT_ACCUMULATION_STEPS"
    --dataloader_drop_last "$DATALOADER_DROP_LAST"
    --optim "$OPTIM"
    --negatives_cross_device "$NEGATIVES_CROSS_DEVICE"
    --temperature "$TEMPERATURE"
    --sentence_pooling_method "$SENTENCE_POOLING_METHOD"
    --normalize_embeddings "$NORMALIZE_EMBEDDINGS"
    --logging_steps "$LOGGING_STEPS"
    --save_steps "$SAVE_STEPS"
    --save_total_limit "$SAVE_TOTAL_LIMIT"
    --seed "$SEED"
    --report_to "$REPORT_TO"
    --run_name "${LAUNCH_RUN_ID:-$OUTPUT}"
    --disable_tqdm true # progress goes through metrics.jsonl
)
if [[ -n $PASSAGE_INSTRUCTION_FOR_RETRIEVAL ]]; then
    args+=(--passage_instruction_for_retrieval "$PASSAGE_INSTRUCTION_FOR_RETRIEVAL")
    args+=(--passage_instruction_format "$PASSAGE_INSTRUCTION_FORMAT")
fi
[[ $PRECISION == fp32 ]] || args+=("--$PRECISION" true)
# Re-entrant checkpointing, the libraries' default, breaks under DDP; that was what DeepSpeed was there for.
[[ $GRADIENT_CHECKPOINTING != true ]] ||
    args+=(--gradient_checkpointing true --gradient_checkpointing_kwargs '{"use_reentrant": false}')
[[ $REPORT_TO != tensorboard ]] || args+=(--logging_dir "$record/tensorboard")
[[ $DEEPSPEED == none ]] || args+=(--deepspeed "$here/../ds_configs/$DEEPSPEED.json")
((SUB_BATCH_SIZE == 0)) || args+=(--sub_batch_size "$SUB_BATCH_SIZE")
# Two processes on a CPU that are not told so train alone as two rank 0, and exit with code 0.
# Elsewhere accelerate chooses: nccl, or xccl, which transformers below 5 refuses as an argument.
[[ $TARGET != cpu ]] || args+=(--use_cpu true --ddp_backend gloo)

exec torchrun "${rendezvous[@]}" -m runtime "${runtime[@]}" \
    -m FlagEmbedding.finetune.embedder.encoder_only.base "${args[@]}" "$@"
