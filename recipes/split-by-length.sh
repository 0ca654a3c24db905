#!/usr/bin/env bash
# /// recipe
# summary = { en = "Sort training rows into files by length, so that short rows are not padded to long ones", zh = "按长度把训练数据分成多个文件，避免短文本被填充到长文本的长度" }
# targets = ["cpu", "cuda", "cuda-vllm", "xpu"]
# launch = "python"
#
# [inputs.data]
# format = "embedder"
# help = { en = "rows with query, pos, neg; files or folders", zh = "每行含 query、pos、neg；文件或文件夹" }
# [inputs.model]
# default = "BAAI/bge-m3"
# help = { en = "the model whose tokenizer counts: the one to be trained; a folder, or an id on the hub", zh = "用其分词器计数的模型，即将要训练的模型；本地文件夹或模型库名称" }
# [outputs]
# help = { en = "len-0-512.jsonl and so on, of several files each NAME_len-0-512.jsonl; rows unchanged, no empty files", zh = "len-0-512.jsonl 等；输入多个文件时为 文件名_len-0-512.jsonl。数据行不变，不写空文件" }
#
# [parameters.boundaries]
# type = "str"
# default = "512,1024,2048,4096"
# help = { en = "where the ranges end, in tokens, separated by commas; the last range has no end. A row goes by the longest of its query, pos and neg. Powers of two, because a batch needs as much memory as its longest text; a range with fewer rows than a batch on all devices is never trained on", zh = "各区间的边界（词元数），以逗号分隔；最后一个区间没有上限。每行按 query、pos、neg 中最长的文本归类。默认取 2 的幂，因为一个批次的显存取决于最长的文本；行数少于所有设备一个批次的区间不会被训练" }
# ///
#
# Train on the result with same_dataset_within_batch, so that a batch stays within a file. Runs by itself too:
#   DATA=train.jsonl MODEL=BAAI/bge-m3 OUTPUT=split bash split-by-length.sh
set -euo pipefail
here="${LAUNCH_RECIPES:-$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)}"
# shellcheck source-path=SCRIPTDIR source=runtime/recipe.sh
source "$here/runtime/recipe.sh" # the header's defaults
: "${DATA:?set DATA to the rows}"

exec "$python" "$here/tools/split_by_length.py" \
    --data "${data[@]}" \
    --model "$MODEL" \
    --output "$OUTPUT" \
    --boundaries "$BOUNDARIES" \
    "$@"
