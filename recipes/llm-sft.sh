#!/usr/bin/env bash
# /// recipe
# summary = { en = "Fine-tune a language model on dialogues, instructions or plain text: LoRA, QLoRA or all weights", zh = "用对话、指令或纯文本微调大语言模型：LoRA、QLoRA 或全参数" }
# targets = ["cpu", "cuda", "cuda-vllm", "xpu"]
# launch = "torchrun"
# fit = "sft"
#
# [inputs.data]
# format = "llm"
# help = { en = "rows of messages, conversations, instruction and output, prompt and completion, or plain text; files or folders", zh = "每行为 messages、conversations、instruction 与 output、prompt 与 completion，或纯文本 text；文件或文件夹" }
# [inputs.model]
# default = "Qwen/Qwen3-0.6B"
# help = { en = "a causal language model of transformers: a folder, or an id on the hub", zh = "transformers 因果语言模型：本地文件夹或模型库名称" }
# [outputs]
# help = { en = "the adapter (or the model), with tokenizer and chat template, and its checkpoints", zh = "适配器（或模型）、分词器与对话模板，以及各检查点" }
#
# [[refusals]]
# when = { method = "full", load_in_4bit = true }
# why = { en = "weights of 4 bit are frozen: train adapters on them (--method lora), or all weights without --load-in-4bit", zh = "4 位权重是冻结的：请在其上训练适配器（--method lora），或不加 --load-in-4bit 训练全部权重" }
# [[refusals]]
# when = { method = "full", save_method = ["merged_16bit", "merged_4bit"] }
# why = { en = "with all weights trained there is nothing to merge: the result is the model", zh = "全参数训练无可合并：结果就是模型本身" }
# [[refusals]]
# when = { target = "cpu", unsloth = true, packing = true }
# why = { en = "Unsloth switches packing off on a CPU and says so in the log alone; without it (--unsloth false) packing works there", zh = "Unsloth 在 CPU 上会关闭打包，且只在日志中提示；用 --unsloth false 则可打包" }
# [[refusals]]
# when = { target = "xpu", unsloth = true, packing = true }
# why = { en = "Unsloth of 2025 does not keep packed rows apart with the attention of Intel GPUs; without it (--unsloth false) they are", zh = "2025 版 Unsloth 在 Intel 显卡的注意力下不能隔开打包的数据；用 --unsloth false 则可以" }
# [[refusals]]
# when = { target = "cpu", precision = "fp16" }
# why = { en = "fp16 has no effect on a CPU: use fp32 or bf16", zh = "fp16 在 CPU 上无效：请用 fp32 或 bf16" }
# [[refusals]]
# when = { target = "cpu", optim = "adamw_8bit" }
# why = { en = "8-bit Adam needs a GPU; Unsloth would take another optimiser without a word", zh = "8 位 Adam 需要 GPU；Unsloth 会悄悄换用别的优化器" }
# [[refusals]]
# when = { max_length = "given" }
# why = { en = "rows are cut before TRL sees them: use --max-seq-length", zh = "数据在交给 TRL 之前已截断：请用 --max-seq-length" }
# [[refusals]]
# when = { assistant_only_loss = "given" }
# why = { en = "TRL finds answers only where the template marks them: use --train-on-responses-only, which works with every template", zh = "TRL 只能识别模板中有标记的回答：请用 --train-on-responses-only，适用于所有模板" }
# [[refusals]]
# when = { completion_only_loss = "given" }
# why = { en = "rows are token ids before TRL sees them: use --train-on-responses-only", zh = "数据交给 TRL 前已是词元：请用 --train-on-responses-only" }
# [[refusals]]
# when = { dataset_text_field = "given" }
# why = { en = "rows are token ids before TRL sees them; launch data convert renames columns", zh = "数据交给 TRL 前已是词元；列名请用 launch data convert 转换" }
# [[refusals]]
# when = { overwrite_output_dir = "given" }
# why = { en = "an output folder is never overwritten; give another --output", zh = "输出文件夹不会被覆盖；请另给 --output" }
#
# [parameters.max_seq_length]
# type = "int"
# default = 2048
# help = { en = "longest row in tokens. Dialogues are cut at their end (how many is said in the log), plain text is split into pieces. Memory grows with the longest row of a batch; raise it when rows are cut", zh = "每行最大长度（词元）。对话超出部分截去（日志说明条数），纯文本则切成多段。显存随批内最长行增长；有行被截断时调大" }
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
# default = true
# help = { en = "load and train through Unsloth: faster and smaller on GPUs, about the same on a CPU (there the loss is computed in parts, and entropy and accuracy are not logged). The same data, adapters and losses without it", zh = "通过 Unsloth 加载与训练：GPU 上更快更省，CPU 上相近（损失分块计算，不记录熵与准确率）。关闭后数据、适配器与损失相同" }
# [parameters.random_state]
# type = "int"
# default = 3407
# help = { en = "seed of the adapters' first weights, shuffling and dropout: the same seed and plan repeat a run", zh = "适配器初值、打乱与 dropout 的随机种子：相同种子与计划可重复训练" }
# [parameters.train_on_responses_only]
# type = "bool"
# default = true
# help = { en = "loss on the assistant's answers alone, in every turn, with any chat template; false learns the questions too. Plain text carries loss everywhere", zh = "只在助手回答上计算损失（各轮都算，适用任何模板）；false 则连问题一起学。纯文本始终全部计算" }
# [parameters.chat_template]
# type = "choice"
# choices = ["", "chatml", "llama-3", "alpaca"]
# default = ""
# help = { en = "how dialogues become text: empty is the tokenizer's own, which a base model may lack; chatml and llama-3 need their marks in the vocabulary, alpaca suits every model. It is saved with the tokenizer", zh = "对话转文本的模板：留空用分词器自带（基座模型可能没有）；chatml 与 llama-3 需词表含其标记，alpaca 适合所有模型。模板随分词器保存" }
# [parameters.packing]
# type = "bool"
# default = false
# help = { en = "put several whole rows into one of max_seq_length, each seeing itself alone: less padding, so faster where rows are short. A step then holds more rows: lower the batch size or raise the learning rate", zh = "把多条完整数据拼入一行 max_seq_length，彼此不可见：填充更少，短数据更快。每步数据变多，可调小批次或调高学习率" }
# [parameters.per_device_train_batch_size]
# type = "int"
# default = 2
# help = { en = "rows per device and step; memory grows in proportion", zh = "每设备每步的行数；显存成正比增长" }
# [parameters.gradient_accumulation_steps]
# type = "int"
# default = 4
# help = { en = "batches per optimiser step: a larger batch at no memory, each step takes so many times longer", zh = "每次优化前累积的批次数：不占显存地增大批次，每步时间相应变长" }
# [parameters.num_train_epochs]
# type = "float"
# default = 1
# help = { en = "passes over the data; more than 3 repeats answers word by word", zh = "训练轮数；超过 3 轮容易逐字复述" }
# [parameters.max_steps]
# type = "int"
# default = -1
# help = { en = "stop after this many optimiser steps; -1: as many as the epochs have", zh = "最多优化步数；-1 表示按轮数" }
# [parameters.learning_rate]
# type = "float"
# default = 2e-4
# help = { en = "peak learning rate: 1e-4 to 2e-4 suits LoRA, 1e-5 to 2e-5 training all weights; lower it when the loss jumps", zh = "峰值学习率：LoRA 用 1e-4 到 2e-4，全参数用 1e-5 到 2e-5；损失跳动时调低" }
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
#   DATA=train.jsonl MODEL=Qwen/Qwen3-0.6B OUTPUT=out TARGET=cuda NPROC=1 LEARNING_RATE=1e-4 bash llm-sft.sh
set -euo pipefail
here="${LAUNCH_RECIPES:-$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)}"
# shellcheck source-path=SCRIPTDIR source=runtime/recipe.sh
source "$here/runtime/recipe.sh" # the header's defaults and refusals, the process count, the rendezvous
: "${DATA:?set DATA to files or folders of rows}"

# Unsloth writes the trainers that it makes into the working folder otherwise.
export UNSLOTH_COMPILE_LOCATION="${UNSLOTH_COMPILE_LOCATION:-$scratch/unsloth_compiled_cache}"

runtime=(--patches "$PATCHES" --unsloth "$UNSLOTH")
args=(
    --model_name_or_path "$MODEL"
    --train_data "${data[@]}"
    --cache_path "$scratch/data"
    --output_dir "$OUTPUT"
    --max_seq_length "$MAX_SEQ_LENGTH"
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
    --train_on_responses_only "$TRAIN_ON_RESPONSES_ONLY"
    --chat_template "$CHAT_TEMPLATE"
    --save_method "$SAVE_METHOD"
    # TRL's own from here on.
    --packing "$PACKING"
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

exec torchrun "${rendezvous[@]}" -m runtime "${runtime[@]}" -m llm.sft "${args[@]}" "$@"
