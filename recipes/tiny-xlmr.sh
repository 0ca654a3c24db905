#!/usr/bin/env bash
# /// recipe
# summary = { en = "Make a tiny XLM-RoBERTa with BGE-M3's heads or a reranker's: new tokenizer, random weights", zh = "生成微型 XLM-RoBERTa（带 BGE-M3 三个头或重排头）：新分词器、随机权重" }
# targets = ["cpu", "cuda", "cuda-vllm", "xpu"]
# launch = "python"
#
# [inputs.data]
# format = "texts"
# help = { en = "JSON lines; the tokenizer is trained on every text in them", zh = "JSON 行文件；分词器用其中全部文本训练" }
# [outputs]
# help = { en = "a model folder that the recipes of its kind take as MODEL", zh = "可作为相应配方 MODEL 的模型文件夹" }
#
# [parameters.kind]
# type = "choice"
# choices = ["m3", "reranker"]
# default = "m3"
# help = { en = "m3: an encoder with BGE-M3's sparse and ColBERT heads. reranker: one with a head that scores", zh = "m3：带 BGE-M3 稀疏头与 ColBERT 头的编码器；reranker：带打分头的重排模型" }
# [parameters.vocab_size]
# type = "int"
# default = 2000
# help = { en = "largest vocabulary, special tokens included", zh = "词表上限（含特殊词元）" }
# [parameters.embedding_rows]
# type = "int"
# default = 0
# help = { en = "rows of the embedding table, as if the vocabulary were so large: memory and time of a real model without its tokenizer (XLM-R: 250002). 0: as many as the vocabulary has", zh = "词嵌入表的行数，如同词表有这么大：无需真实分词器即得到真实模型的显存与耗时（XLM-R 为 250002）。0 表示与词表相同" }
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
# [parameters.dropout]
# type = "float"
# default = 0
# help = { en = "dropout probability of layers and attention; XLM-R's own is 0.1, and tiny models need none", zh = "各层与注意力的 dropout 概率；XLM-R 自身为 0.1，微型模型不需要" }
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
    --kind "$KIND" \
    --vocab-size "$VOCAB_SIZE" \
    --embedding-rows "$EMBEDDING_ROWS" \
    --layers "$LAYERS" \
    --hidden-size "$HIDDEN_SIZE" \
    --heads "$HEADS" \
    --max-length "$MAX_LENGTH" \
    --dropout "$DROPOUT" \
    --seed "$SEED" \
    "$@"
