#!/usr/bin/env bash
# /// recipe
# summary = { en = "Make a tiny XLM-RoBERTa with BGE-M3's heads: new tokenizer, random weights", zh = "生成带 BGE-M3 三个头的微型 XLM-RoBERTa：新分词器、随机权重" }
# targets = ["cpu", "cuda", "cuda-vllm", "xpu"]
# launch = "python"
#
# [inputs.data]
# format = "texts"
# help = { en = "JSON lines; the tokenizer is trained on every text in them", zh = "JSON 行文件；分词器用其中全部文本训练" }
# [outputs]
# help = { en = "a model folder that the BGE-M3 recipes take as MODEL", zh = "可作为 BGE-M3 配方 MODEL 的模型文件夹" }
#
# [parameters.vocab_size]
# type = "int"
# default = 2000
# help = { en = "largest vocabulary, special tokens included", zh = "词表上限（含特殊词元）" }
# [parameters.layers]
# type = "int"
# default = 1
# help = { en = "transformer layers", zh = "层数" }
# [parameters.hidden_size]
# type = "int"
# default = 128
# help = { en = "width of the model and of its vectors", zh = "隐藏维度，即向量维度" }
# [parameters.heads]
# type = "int"
# default = 2
# help = { en = "attention heads; they divide the width", zh = "注意力头数，须整除隐藏维度" }
# [parameters.max_length]
# type = "int"
# default = 512
# help = { en = "longest input, in tokens", zh = "最大输入长度（词元）" }
# [parameters.seed]
# type = "int"
# default = 42
# help = { en = "seed of the weights", zh = "权重的随机种子" }
# ///
#
# Runs by itself too: DATA=train.jsonl OUTPUT=tiny VOCAB_SIZE=8000 bash tiny-xlmr.sh
set -euo pipefail
here="${LAUNCH_RECIPES:-$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)}"
# shellcheck source-path=SCRIPTDIR source=runtime/recipe.sh
source "$here/runtime/recipe.sh" # the header's defaults
: "${DATA:?set DATA to the files with the texts}"

exec "$python" "$here/tools/tiny_xlmr.py" \
    --data "${data[@]}" \
    --output "$OUTPUT" \
    --vocab-size "$VOCAB_SIZE" \
    --layers "$LAYERS" \
    --hidden-size "$HIDDEN_SIZE" \
    --heads "$HEADS" \
    --max-length "$MAX_LENGTH" \
    --seed "$SEED" \
    "$@"
