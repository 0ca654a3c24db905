#!/usr/bin/env bash
# /// recipe
# summary = { en = "Ask a language model: a file of prompts, with base and tuned side by side (launch ask: also one prompt, or a chat)", zh = "向语言模型提问：一个提示文件，可将基座与微调后的回答并列（launch ask 还支持单个提示或终端对话）" }
# targets = ["cpu", "cuda", "cuda-vllm", "xpu"]
# launch = "python"
# fit = "generate"
#
# [inputs.data]
# format = "texts"
# help = { en = "prompts, one per row: a dialogue or instruction as llm-sft reads it (up to the last answer, which is shown as the expected one), or a text under prompt, question, query or text", zh = "每行一个提示：llm-sft 可读的对话或指令（取到最后一个回答之前，该回答作为期望答案显示），或 prompt、question、query、text 之一" }
# [inputs.model]
# help = { en = "a model or adapters (their base is found): a folder, or an id on the hub", zh = "模型或适配器（自动查找其基座）：文件夹或模型库名称" }
# [outputs]
# help = { en = "answers.jsonl: a row per prompt with its answer, thoughts, tokens and speed", zh = "answers.jsonl：每个提示一行，含回答、思考、词元数与速度" }
#
# [parameters.base]
# type = "model"
# default = ""
# help = { en = "the model that the adapters were made on, when it has moved; empty: where the adapters or their run say", zh = "训练适配器所用的基座模型，基座移动后给出；空表示按适配器或其运行记录查找" }
# [parameters.before_after]
# type = "bool"
# default = false
# help = { en = "answer each prompt twice, without and with the adapters, side by side. One model is loaded, the time doubles", zh = "每个提示回答两次（不带与带适配器），并列显示。只加载一个模型，时间加倍" }
# [parameters.thinking]
# type = "bool"
# default = false
# help = { en = "show what a model thinks before it answers; otherwise it is folded, and its length is said", zh = "显示模型回答前的思考；否则折叠，只显示长度" }
# [parameters.system]
# type = "str"
# default = ""
# help = { en = "a system message before every prompt that has none; the chat template must know of such", zh = "加在没有系统消息的提示前的系统消息；对话模板须支持" }
# [parameters.temperature]
# type = "float"
# default = 0
# help = { en = "0: always the most likely token, the same answer every time. Above: tokens are drawn; 0.7 is usual for chats", zh = "0 表示总取最可能的词元，每次回答相同；大于 0 时抽样，对话常用 0.7" }
# [parameters.top_p]
# type = "float"
# default = 1
# help = { en = "draw among the most likely tokens that reach this probability together; 1: among all. Nothing at temperature 0", zh = "只在累计概率达到此值的最可能词元中抽样；1 表示全部。温度为 0 时无作用" }
# [parameters.top_k]
# type = "int"
# default = 0
# help = { en = "draw among so many of the most likely tokens; 0: among all. Nothing at temperature 0", zh = "只在最可能的若干词元中抽样；0 表示全部。温度为 0 时无作用" }
# [parameters.max_new_tokens]
# type = "int"
# default = 512
# help = { en = "longest answer in tokens, thoughts included; models that think need thousands", zh = "回答的最大长度（词元），含思考；会思考的模型需要数千" }
# [parameters.seed]
# type = "int"
# default = 42
# help = { en = "seed of what is drawn; nothing at temperature 0", zh = "抽样的随机种子；温度为 0 时无作用" }
# [parameters.precision]
# type = "choice"
# choices = ["fp32", "bf16", "fp16"]
# default = { cpu = "fp32", cuda = "bf16", cuda-vllm = "bf16", xpu = "bf16" }
# help = { en = "number format of the weights; 16 bits halve the memory. A CPU without bf16 instructions is slower in bf16", zh = "权重的数值格式；16 位省一半内存。没有 bf16 指令的 CPU 用 bf16 更慢" }
# [parameters.load_in_4bit]
# type = "bool"
# default = false
# help = { en = "round the weights to nf4 while they are loaded, as QLoRA does in training: about a quarter of the memory, answers change a little", zh = "加载时把权重舍入为 nf4（与 QLoRA 训练一致）：内存约四分之一，回答略有变化" }
#
# [[refusals]]
# when = { target = "cpu", precision = "fp16" }
# why = { en = "fp16 is slow on a CPU and saves nothing that bf16 does not", zh = "CPU 上 fp16 很慢，也不比 bf16 节省内存" }
# ///
#
# Runs by itself too: DATA=prompts.jsonl MODEL=out OUTPUT=answers bash llm-ask.sh; without DATA it is a chat
set -euo pipefail
here="${LAUNCH_RECIPES:-$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)}"
# shellcheck source-path=SCRIPTDIR source=runtime/recipe.sh
source "$here/runtime/recipe.sh" # the header's defaults
: "${MODEL:?set MODEL to a model or to adapters}"
prompts=()
[[ -z ${DATA:-} ]] || prompts=(--data "${data[@]}")

exec "$python" -m llm.asking \
    "${prompts[@]}" \
    --model "$MODEL" \
    --base "$BASE" \
    --output "$OUTPUT" \
    --target "$TARGET" \
    --before-after "$BEFORE_AFTER" \
    --thinking "$THINKING" \
    --system="$SYSTEM" \
    --temperature "$TEMPERATURE" \
    --top-p "$TOP_P" \
    --top-k "$TOP_K" \
    --max-new-tokens "$MAX_NEW_TOKENS" \
    --seed "$SEED" \
    --precision "$PRECISION" \
    --load-in-4bit "$LOAD_IN_4BIT" \
    "$@"
