#!/usr/bin/env bash
# /// recipe
# summary = { en = "Merge LoRA adapters into their base: a model of its own, compared with base and adapters before it is kept", zh = "把 LoRA 适配器合并进基座模型：得到独立模型，并在保留前与“基座+适配器”比较" }
# targets = ["cpu", "cuda", "cuda-vllm", "xpu"]
# launch = "python"
# fit = "merge"
#
# [inputs.model]
# help = { en = "the folder of the adapters (adapter_config.json), or their id on the hub", zh = "适配器文件夹（含 adapter_config.json），或其模型库名称" }
# [outputs]
# help = { en = "a model folder with tokenizer, chat template, README.md and merge.json (the figures of the comparison); nothing when the comparison fails", zh = "模型文件夹，含分词器、对话模板、README.md 与 merge.json（比较结果）；比较未通过时不留下任何文件" }
#
# [parameters.base]
# type = "model"
# default = ""
# help = { en = "the model that the adapters were made on, in 16 or 32 bit; empty: where the adapters or their run say. Give it when the base has moved, or was 4-bit (QLoRA is merged into the 16-bit weights)", zh = "训练适配器所用的基座模型（16 或 32 位）；空表示按适配器或其运行记录查找。基座已移动，或原为 4 位模型（QLoRA 合并进 16 位权重）时请给出" }
# [parameters.method]
# type = "choice"
# choices = ["merged_16bit", "merged_4bit", "merged_4bit_forced", "gguf"]
# default = "merged_16bit"
# help = { en = "merged_16bit: no loss beyond rounding. merged_4bit: nf4 by bitsandbytes, a quarter of the size, answers change a little, not for further training; merged_4bit_forced is Unsloth's name of it. gguf: refused, with the command that makes it", zh = "merged_16bit：除舍入外无损；merged_4bit：bitsandbytes 的 nf4，体积约四分之一，回答略有变化，不宜继续训练，merged_4bit_forced 是 Unsloth 对它的叫法；gguf：拒绝执行，并给出生成命令" }
# [parameters.precision]
# type = "choice"
# choices = ["fp32", "bf16", "fp16"]
# default = { cpu = "fp32", cuda = "bf16", cuda-vllm = "bf16", xpu = "bf16" }
# help = { en = "what merging and comparing compute in; the model is kept in 16 bit anyway. fp32 sees smaller errors and takes twice the memory (4 bytes per weight)", zh = "合并与比较时的计算格式；保存的模型总是 16 位。fp32 能发现更小的误差，内存加倍（每个权重 4 字节）" }
#
# [[refusals]]
# when = { method = "gguf" }
# why = { en = "the converter is a script of llama.cpp's repository, and no package of these environments carries it. Merge with --method merged_16bit, then with llama.cpp at hand: python llama.cpp/convert_hf_to_gguf.py OUTPUT --outfile model-q8_0.gguf --outtype q8_0", zh = "转换程序是 llama.cpp 仓库中的脚本，这些环境的软件包均不含它。请先用 --method merged_16bit 合并，再用 llama.cpp 执行：python llama.cpp/convert_hf_to_gguf.py OUTPUT --outfile model-q8_0.gguf --outtype q8_0" }
# [[refusals]]
# when = { target = "cpu", precision = "fp16" }
# why = { en = "fp16 is slow on a CPU and saves nothing that bf16 does not", zh = "CPU 上 fp16 很慢，也不比 bf16 节省内存" }
# ///
#
# Runs by itself too: MODEL=adapters BASE=base-model OUTPUT=merged bash llm-merge.sh
set -euo pipefail
here="${LAUNCH_RECIPES:-$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)}"
# shellcheck source-path=SCRIPTDIR source=runtime/recipe.sh
source "$here/runtime/recipe.sh" # the header's defaults
: "${MODEL:?set MODEL to the folder of the adapters}"

exec "$python" -m llm.merging \
    --model "$MODEL" \
    --base "$BASE" \
    --output "$OUTPUT" \
    --target "$TARGET" \
    --method "$METHOD" \
    --precision "$PRECISION" \
    "$@"
