#!/usr/bin/env bash
# /// recipe
# summary = { en = "Train a language model by rewards (GRPO): built-in ones, or functions of your own", zh = "用奖励训练大语言模型（GRPO）：内置奖励或自己的函数" }
# targets = ["cpu", "cuda", "cuda-vllm", "xpu"]
# launch = "torchrun"
# fit = "grpo"
#
# [inputs.data]
# format = "grpo"
# help = { en = "rows with prompt (a text, or messages that end with the user's), answer for the reward exact, and any columns that your own functions read; files or folders", zh = "每行含 prompt（文本，或以用户消息结尾的 messages）；奖励 exact 另需 answer；自定义函数可读取任意其他列；文件或文件夹" }
# [inputs.model]
# default = "Qwen/Qwen3-0.6B"
# help = { en = "a causal language model that can already follow instructions now and then: a folder, or an id on the hub", zh = "已能偶尔按指令回答的因果语言模型：本地文件夹或模型库名称" }
# [outputs]
# help = { en = "the adapter (or the model), with tokenizer and chat template, and its checkpoints", zh = "适配器（或模型）、分词器与对话模板，以及各检查点" }
#
# [[refusals]]
# when = { target = ["cpu", "cuda", "xpu"], use_vllm = true }
# why = { en = "vLLM is in the image cuda-vllm alone; elsewhere the trainer generates itself", zh = "只有 cuda-vllm 镜像含 vLLM；其他镜像由训练器自行生成" }
# [[refusals]]
# when = { method = "full", unsloth = true, use_vllm = true }
# why = { en = "Unsloth's vLLM generates for adapters alone: --method lora, or --unsloth false", zh = "Unsloth 的 vLLM 只支持适配器：请用 --method lora 或 --unsloth false" }
# [[refusals]]
# when = { method = "full", load_in_4bit = true }
# why = { en = "weights of 4 bit are frozen: train adapters on them (--method lora), or all weights without --load-in-4bit", zh = "4 位权重是冻结的：请在其上训练适配器（--method lora），或不加 --load-in-4bit 训练全部权重" }
# [[refusals]]
# when = { method = "full", save_method = ["merged_16bit", "merged_4bit"] }
# why = { en = "with all weights trained there is nothing to merge: the result is the model", zh = "全参数训练无可合并：结果就是模型本身" }
# [[refusals]]
# when = { target = "xpu", loss_type = "dapo" }
# why = { en = "the trainer of this image does not know it: bnpo is the nearest", zh = "该镜像的训练器没有此项：最接近的是 bnpo" }
# [[refusals]]
# when = { target = "cpu", precision = "fp16" }
# why = { en = "fp16 has no effect on a CPU: use fp32 or bf16", zh = "fp16 在 CPU 上无效：请用 fp32 或 bf16" }
# [[refusals]]
# when = { target = "cpu", optim = "adamw_8bit" }
# why = { en = "8-bit Adam needs a GPU", zh = "8 位 Adam 需要 GPU" }
# [[refusals]]
# when = { reward_weights = "given" }
# why = { en = "weights stand beside the names: --rewards format:0.5,exact", zh = "权重写在名称后：--rewards format:0.5,exact" }
# [[refusals]]
# when = { remove_unused_columns = "given" }
# why = { en = "reward functions read the columns: they are always kept", zh = "奖励函数要读取各列：始终保留" }
# [[refusals]]
# when = { vllm_mode = "given" }
# why = { en = "vLLM runs in the trainer's own process here; a server would be reached over a network", zh = "vLLM 在训练进程内运行；独立服务需要网络" }
# [[refusals]]
# when = { overwrite_output_dir = "given" }
# why = { en = "an output folder is never overwritten; give another --output", zh = "输出文件夹不会被覆盖；请另给 --output" }
#
# [parameters.rewards]
# type = "str"
# default = ""
# help = { en = "what judges the answers: names separated by commas, each perhaps with a weight, e.g. format:0.5,exact. Built in are format and exact; others are functions of reward_file. Empty: every function of reward_file, or without one format and exact", zh = "评判回答的奖励：逗号分隔的名称，可带权重，如 format:0.5,exact。内置 format 与 exact，其他为 reward_file 中的函数。留空：reward_file 的全部函数；无文件时用 format 与 exact" }
# [parameters.reward_file]
# type = "file"
# default = ""
# help = { en = "a Python file with reward functions of your own, (completions, **kwargs) -> one number for each completion; tried out before the training. One file: it sees the image's packages and nothing beside it. Empty: none", zh = "自定义奖励函数的 Python 文件，(completions, **kwargs) 返回每个回答一个数；训练前先试算。只挂载这一个文件，可用镜像内的包。留空：无" }
# [parameters.format_pattern]
# type = "str"
# default = ""
# help = { en = "regular expression that a whole answer must match for the reward format; empty: <think>…</think> and then <answer>…</answer>", zh = "奖励 format 要求整个回答匹配的正则表达式；留空：先 <think>…</think> 再 <answer>…</answer>" }
# [parameters.answer_pattern]
# type = "str"
# default = ""
# help = { en = "regular expression that finds the result in an answer for the reward exact: its first group, at its last match; empty: the last <answer>…</answer>, otherwise all after </think>", zh = "奖励 exact 从回答中取结果的正则表达式：最后一次匹配的第一组；留空：最后的 <answer>…</answer>，否则 </think> 之后的全部" }
# [parameters.answer_column]
# type = "str"
# default = "answer"
# help = { en = "column with the right result for the reward exact: a text, a number, or a list of which one is enough; of texts with #### what follows it counts", zh = "奖励 exact 的标准答案所在列：文本、数字或其列表（对一个即可）；含 #### 的文本取其后部分" }
# [parameters.num_generations]
# type = "int"
# default = 8
# help = { en = "answers to each prompt, compared with each other: their rewards against the group's mean are what is learned. 4 is fast, 16 is steadier. Batch, accumulation and devices multiplied must be a multiple of it", zh = "每个提示的回答数，彼此比较：相对组内均值的奖励就是学习信号。4 较快，16 更稳。批次×累积×设备数须为其倍数" }
# [parameters.max_prompt_length]
# type = "int"
# default = 512
# help = { en = "longest prompt in tokens, chat template included; rows with longer ones are left out, and counted in the log", zh = "提示的最大长度（词元，含对话模板）；更长的行被略去，日志说明条数" }
# [parameters.max_completion_length]
# type = "int"
# default = { cpu = 64, cuda = 512, cuda-vllm = 1024, xpu = 512 }
# help = { en = "longest answer in tokens; time and memory grow with it. Answers that are cut off rarely get a reward: raise it when completions/clipped_ratio stays high", zh = "回答的最大长度（词元）；时间与显存随之增长。被截断的回答很难得到奖励：completions/clipped_ratio 居高不下时调大" }
# [parameters.temperature]
# type = "float"
# default = 1.0
# help = { en = "how different the answers are: below 0.7 groups become alike and nothing is learned, above 1.2 they become noise", zh = "回答的多样性：低于 0.7 组内趋同而学不到东西，高于 1.2 近于噪声" }
# [parameters.beta]
# type = "float"
# default = 0.0
# help = { en = "weight of the KL divergence from the start: 0 leaves the model free and needs no second pass; 0.001 to 0.04 holds it near the start (and reports kl). With --method full a second copy of the model is kept", zh = "与初始模型 KL 散度的权重：0 不约束也不多算一遍；0.001 到 0.04 使其不偏离太远（并记录 kl）。全参数训练时需多保留一份模型" }
# [parameters.loss_type]
# type = "choice"
# choices = ["dapo", "bnpo", "grpo", "dr_grpo"]
# default = { cpu = "dapo", cuda = "dapo", cuda-vllm = "dapo", xpu = "bnpo" }
# help = { en = "how the losses of tokens are averaged: dapo over all tokens of the step, bnpo over those of each batch, grpo over each answer (favours short ones), dr_grpo by a constant", zh = "词元损失的平均方式：dapo 按整步的全部词元，bnpo 按每批，grpo 按每个回答（偏向短回答），dr_grpo 除以常数" }
# [parameters.use_vllm]
# type = "bool"
# default = { cpu = false, cuda = false, cuda-vllm = true, xpu = false }
# help = { en = "generate by vLLM in the trainer's own process: generating is most of the time, and vLLM many times faster; false uses less memory", zh = "由训练进程内的 vLLM 生成：生成占大部分时间，vLLM 快许多倍；false 更省显存" }
# [parameters.gpu_memory_utilization]
# type = "float"
# default = 0.5
# help = { en = "vLLM's share of the device's memory, its weights and its cache; lower it when the training runs out of memory, raise it for longer or more answers at a time", zh = "vLLM 占用显存的比例（权重与缓存）；训练显存不足时调低，需要更长或更多回答时调高" }
# [parameters.vllm_standby]
# type = "bool"
# default = true
# help = { en = "vLLM gives its memory back while the model learns (UNSLOTH_VLLM_STANDBY, or TRL's sleep mode without Unsloth): larger batches fit, at some time for each step. Only with use_vllm", zh = "学习时 vLLM 归还显存（UNSLOTH_VLLM_STANDBY；不用 Unsloth 时为 TRL 的休眠模式）：可用更大批次，每步略慢。仅在 use_vllm 时有效" }
# [parameters.method]
# type = "choice"
# choices = ["lora", "full"]
# default = "lora"
# help = { en = "what is trained: lora adds small adapters (about 1 % of the weights, optimiser states of these alone); full trains every weight, at 16 bytes each, for large data or a new language", zh = "训练对象：lora 加入小适配器（约 1% 权重，仅为其保存优化器状态）；full 训练全部权重，每个占 16 字节，适合大数据或新语言" }
# [parameters.load_in_4bit]
# type = "bool"
# default = false
# help = { en = "QLoRA: keep the frozen weights in 4 bit (NF4), a quarter of their memory for somewhat more time and a little less quality; true when the model does not fit otherwise", zh = "QLoRA：冻结权重用 4 位（NF4）保存，显存约为四分之一，稍慢，质量略降；模型放不下时用 true" }
# [parameters.r]
# type = "int"
# default = 16
# help = { en = "rank of the adapters: trained weights and their memory grow in proportion; 8 to 32 for a style or task, 64 and more for new knowledge", zh = "适配器的秩：可训练权重与显存成正比；风格或任务用 8 到 32，新知识用 64 以上" }
# [parameters.lora_alpha]
# type = "int"
# default = 16
# help = { en = "the adapters' output is multiplied by this over r; r or twice r is usual, larger acts like a higher learning rate", zh = "适配器输出乘以该值与 r 之比；常取 r 或 2r，越大效果越像提高学习率" }
# [parameters.lora_dropout]
# type = "float"
# default = 0
# help = { en = "dropout probability before the adapters: 0 is fastest with Unsloth; 0.05 to 0.1 against overfitting small data", zh = "适配器前的 dropout 概率：0 时 Unsloth 最快；小数据过拟合时用 0.05 到 0.1" }
# [parameters.target_modules]
# type = "str"
# default = "all-linear"
# help = { en = "layers that get adapters: all-linear, or names separated by commas (q_proj,k_proj,v_proj,o_proj saves about two thirds of them, and learns less)", zh = "加适配器的层：all-linear，或逗号分隔的名称（q_proj,k_proj,v_proj,o_proj 可省约三分之二，但学得较少）" }
# [parameters.bias]
# type = "choice"
# choices = ["none", "all", "lora_only"]
# default = "none"
# help = { en = "biases that are trained beside the adapters; the base is changed by them even where the adapter is off, so none unless you know why", zh = "与适配器一起训练的偏置；会改变关闭适配器后的底座，若无明确理由请用 none" }
# [parameters.use_rslora]
# type = "bool"
# default = false
# help = { en = "divide lora_alpha by the root of r instead of r: steadier with ranks from 64 on; a small rank then learns faster than its alpha says", zh = "lora_alpha 除以 r 的平方根而非 r：秩 64 以上更稳定；秩小时等于放大 alpha" }
# [parameters.use_gradient_checkpointing]
# type = "choice"
# choices = ["none", "true", "unsloth"]
# default = { cpu = "none", cuda = "unsloth", cuda-vllm = "unsloth", xpu = "unsloth" }
# help = { en = "recompute activations instead of keeping them: a small part of the memory for about a third more time, the same gradients. unsloth also moves what is kept to RAM; without Unsloth, and on a CPU, it is the same as true", zh = "重算激活而不保存：显存大降，时间约多三分之一，梯度不变。unsloth 还把保留部分移到内存；不用 Unsloth 或在 CPU 上时等同 true" }
# [parameters.unsloth]
# type = "bool"
# default = { cpu = false, cuda = true, cuda-vllm = true, xpu = true }
# help = { en = "load and train through Unsloth: faster and smaller on GPUs; on a CPU it leaves this trainer as it is, and changes only how the model is loaded", zh = "通过 Unsloth 加载与训练：GPU 上更快更省；CPU 上不改变该训练器，只改变模型加载方式" }
# [parameters.random_state]
# type = "int"
# default = 3407
# help = { en = "seed of the adapters' first weights, shuffling and the answers that are drawn: the same seed and plan repeat a run", zh = "适配器初值、打乱与回答采样的随机种子：相同种子与计划可重复训练" }
# [parameters.chat_template]
# type = "choice"
# choices = ["", "chatml", "llama-3", "alpaca"]
# default = ""
# help = { en = "how prompts become text: empty is the tokenizer's own; a base model may have none, and then gets prompts that are texts as they are; chatml and llama-3 need their marks in the vocabulary, alpaca suits every model. It is saved with the tokenizer", zh = "提示转文本的模板：留空用分词器自带；基座模型可能没有，此时文本提示原样输入；chatml 与 llama-3 需词表含其标记，alpaca 适合所有模型。模板随分词器保存" }
# [parameters.per_device_train_batch_size]
# type = "int"
# default = 8
# help = { en = "answers per device in a forward pass; memory grows in proportion", zh = "每设备每次前向的回答数；显存成正比增长" }
# [parameters.gradient_accumulation_steps]
# type = "int"
# default = { cpu = 1, cuda = 4, cuda-vllm = 4, xpu = 4 }
# help = { en = "batches per optimiser step: more prompts per step at no memory; steps become steadier and take longer", zh = "每次优化前累积的批次数：不占显存地增加每步提示数，更稳但更慢" }
# [parameters.num_train_epochs]
# type = "float"
# default = 1
# help = { en = "passes over the prompts; max_steps is the usual limit", zh = "遍历提示的轮数；通常用 max_steps 限制" }
# [parameters.max_steps]
# type = "int"
# default = -1
# help = { en = "stop after this many optimiser steps; -1: as many as the epochs have", zh = "最多优化步数；-1 表示按轮数" }
# [parameters.learning_rate]
# type = "float"
# default = 5e-6
# help = { en = "peak learning rate: 5e-6 to 2e-5 suits LoRA, 1e-6 training all weights; lower it when the reward falls again or kl jumps", zh = "峰值学习率：LoRA 用 5e-6 到 2e-5，全参数用 1e-6；奖励回落或 kl 跳动时调低" }
# [parameters.lr_scheduler_type]
# type = "choice"
# choices = ["linear", "cosine", "constant", "constant_with_warmup"]
# default = "linear"
# help = { en = "how the learning rate falls behind its peak; constant ones suit runs that are continued", zh = "学习率达到峰值后的变化方式；打算续训时用 constant" }
# [parameters.warmup_ratio]
# type = "float"
# default = 0.03
# help = { en = "share of the steps in which the learning rate rises from 0; guards against the first, noisy steps", zh = "学习率从 0 升到峰值所占的步数比例；避免最初噪声步的破坏" }
# [parameters.weight_decay]
# type = "float"
# default = 0.01
# help = { en = "AdamW's weight decay per step, times the learning rate; 0 turns it off", zh = "AdamW 的权重衰减系数（每步乘以学习率）；0 为关闭" }
# [parameters.optim]
# type = "choice"
# choices = ["adamw_torch", "adamw_torch_fused", "adamw_8bit"]
# default = { cpu = "adamw_torch_fused", cuda = "adamw_torch_fused", cuda-vllm = "adamw_torch_fused", xpu = "adamw_torch" }
# help = { en = "optimiser: adamw_8bit saves 6 bytes per trained weight, which counts with --method full (GPUs only); fused is the fastest", zh = "优化器：adamw_8bit 每个训练权重省 6 字节，全参数训练时明显（仅 GPU）；fused 最快" }
# [parameters.precision]
# type = "choice"
# choices = ["fp32", "bf16", "fp16"]
# default = { cpu = "fp32", cuda = "bf16", cuda-vllm = "bf16", xpu = "bf16" }
# help = { en = "number format of activations and of frozen weights: bf16 halves both and suits every new GPU; fp16 for GPUs without bf16, it overflows more easily; fp32 is exact. What is trained stays in 32 bit", zh = "激活与冻结权重的数值格式：bf16 减半，适合新显卡；fp16 用于不支持 bf16 的显卡，更易溢出；fp32 最精确。被训练的权重保持 32 位" }
# [parameters.save_method]
# type = "choice"
# choices = ["lora", "merged_16bit", "merged_4bit"]
# default = "lora"
# help = { en = "what is written: the adapter (some MB, needs its base), or base and adapter as one model of 16 or 4 bit, with the adapter beside it; recipe llm-merge does it later too", zh = "输出内容：适配器（几 MB，使用时需底座），或与底座合并的 16 位、4 位模型（旁边附适配器）；之后也可用 llm-merge 合并" }
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
# default = 500
# help = { en = "optimiser steps between two checkpoints; each holds what is trained and its optimiser states: with LoRA some MB", zh = "每隔多少优化步保存检查点；每个含被训练的权重与优化器状态：LoRA 仅几 MB" }
# [parameters.save_total_limit]
# type = "int"
# default = 2
# help = { en = "checkpoints that are kept, the newest ones; the result itself is always kept", zh = "最多保留的检查点数（最新的）；最终结果总会保留" }
# [parameters.patches]
# type = "str"
# default = "all"
# help = { en = "changes to the libraries that are on: all, none, or names; -NAME leaves one out. docs/patches.md says what each does", zh = "启用的库补丁：all、none 或名称列表；-名称 表示排除。各补丁说明见 docs/patches.md" }
# ///
#
# Runs by itself too, inside an environment that has the libraries:
#   DATA=train.jsonl MODEL=Qwen/Qwen3-0.6B OUTPUT=out TARGET=cuda NPROC=1 REWARD_FILE=rewards.py bash llm-grpo.sh
set -euo pipefail
here="${LAUNCH_RECIPES:-$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)}"
# shellcheck source-path=SCRIPTDIR source=runtime/recipe.sh
source "$here/runtime/recipe.sh" # the header's defaults and refusals, the process count, the rendezvous
: "${DATA:?set DATA to files or folders of rows}"

# Unsloth writes the trainers that it makes into the working folder otherwise.
export UNSLOTH_COMPILE_LOCATION="${UNSLOTH_COMPILE_LOCATION:-$scratch/unsloth_compiled_cache}"

# Read when Unsloth is imported.
[[ $USE_VLLM != true || $UNSLOTH != true || $VLLM_STANDBY != true ]] || export UNSLOTH_VLLM_STANDBY=1

runtime=(--patches "$PATCHES" --unsloth "$UNSLOTH")
args=(
    --model_name_or_path "$MODEL"
    --train_data "${data[@]}"
    --output_dir "$OUTPUT"
    --max_seq_length "$((MAX_PROMPT_LENGTH + MAX_COMPLETION_LENGTH))"
    --method "$METHOD"
    --load_in_4bit "$LOAD_IN_4BIT"
    --lora_r "$R" # torchrun takes --r for one of its own, wherever it stands
    --lora_alpha "$LORA_ALPHA"
    --lora_dropout "$LORA_DROPOUT"
    --target_modules "$TARGET_MODULES"
    --bias "$BIAS"
    --use_rslora "$USE_RSLORA"
    --use_gradient_checkpointing "$USE_GRADIENT_CHECKPOINTING"
    --random_state "$RANDOM_STATE"
    --precision "$PRECISION"
    --unsloth "$UNSLOTH"
    --max_prompt_length "$MAX_PROMPT_LENGTH"
    --rewards "$REWARDS"
    --reward_file "$REWARD_FILE"
    "--format_pattern=$FORMAT_PATTERN" # may begin with a dash
    "--answer_pattern=$ANSWER_PATTERN"
    --answer_column "$ANSWER_COLUMN"
    --use_vllm "$USE_VLLM"
    --gpu_memory_utilization "$GPU_MEMORY_UTILIZATION"
    --vllm_standby "$VLLM_STANDBY"
    --chat_template "$CHAT_TEMPLATE"
    --save_method "$SAVE_METHOD"
    # TRL's own from here on.
    --num_generations "$NUM_GENERATIONS"
    --max_completion_length "$MAX_COMPLETION_LENGTH"
    --temperature "$TEMPERATURE"
    --beta "$BETA"
    --loss_type "$LOSS_TYPE"
    --per_device_train_batch_size "$PER_DEVICE_TRAIN_BATCH_SIZE"
    --gradient_accumulation_steps "$GRADIENT_ACCUMULATION_STEPS"
    --num_train_epochs "$NUM_TRAIN_EPOCHS"
    --max_steps "$MAX_STEPS"
    --learning_rate "$LEARNING_RATE"
    --lr_scheduler_type "$LR_SCHEDULER_TYPE"
    --warmup_ratio "$WARMUP_RATIO"
    --weight_decay "$WEIGHT_DECAY"
    --optim "$OPTIM"
    --logging_steps "$LOGGING_STEPS"
    --save_steps "$SAVE_STEPS"
    --save_total_limit "$SAVE_TOTAL_LIMIT"
    --seed "$RANDOM_STATE"
    --report_to "$REPORT_TO"
    --run_name "${LAUNCH_RUN_ID:-$OUTPUT}"
    --disable_tqdm true # progress goes through metrics.jsonl
    --ddp_find_unused_parameters false
)
# Always said: TRL's own defaults are bf16 and gradient checkpointing.
for format in bf16 fp16; do
    args+=("--$format" "$([[ $PRECISION == "$format" ]] && echo true || echo false)")
done
if [[ $USE_GRADIENT_CHECKPOINTING == none ]]; then
    args+=(--gradient_checkpointing false)
else # re-entrant checkpointing breaks under DDP
    args+=(--gradient_checkpointing true --gradient_checkpointing_kwargs '{"use_reentrant": false}')
fi
[[ $REPORT_TO != tensorboard ]] || args+=(--logging_dir "$record/tensorboard")
# Two processes on a CPU that are not told so train alone as two rank 0, and exit with code 0.
[[ $TARGET != cpu ]] || args+=(--use_cpu true --ddp_backend gloo)

exec torchrun "${rendezvous[@]}" -m runtime "${runtime[@]}" -m llm.grpo "${args[@]}" "$@"
