#!/usr/bin/env bash
# /// recipe
# summary = { en = "Measure a BGE-M3 model's retrieval: recall, MRR and nDCG of each head", zh = "评测 BGE-M3 模型的检索效果：各个头的 recall、MRR 与 nDCG" }
# targets = ["cpu", "cuda", "cuda-vllm", "xpu"]
# launch = "python"
#
# [inputs.data]
# format = "retrieval"
# help = { en = "rows with query and pos, and corpus lines with text; without these the passages of the rows are searched", zh = "含 query、pos 的行，以及含 text 的语料行；没有语料时在各行自带的段落中检索" }
# [inputs.model]
# default = "BAAI/bge-m3"
# help = { en = "a model with sparse_linear.pt and colbert_linear.pt: a folder, or an id on the hub", zh = "带 sparse_linear.pt、colbert_linear.pt 的模型：本地文件夹或模型库名称" }
# [outputs]
# help = { en = "metrics.json, and a table in the log", zh = "metrics.json，日志中另有表格" }
#
# [parameters.k]
# type = "str"
# default = "10,100"
# help = { en = "cut-offs of the metrics, separated by commas", zh = "指标的截断位置，以逗号分隔" }
# [parameters.queries]
# type = "int"
# default = 0
# help = { en = "measure the first so many queries; 0: all", zh = "只评测前若干个查询；0 表示全部" }
# [parameters.colbert]
# type = "bool"
# default = true
# help = { en = "measure the ColBERT head and the sum of the heads too", zh = "同时评测 ColBERT 头与三个头之和" }
# [parameters.batch_size]
# type = "int"
# default = { cpu = 32, cuda = 128, cuda-vllm = 128, xpu = 64 }
# help = { en = "texts encoded at a time", zh = "每批编码的文本数" }
# [parameters.max_length]
# type = "int"
# default = 512
# help = { en = "longest text, in tokens", zh = "文本的最大长度（词元）" }
# [parameters.precision]
# type = "choice"
# choices = ["fp32", "bf16", "fp16"]
# default = { cpu = "fp32", cuda = "bf16", cuda-vllm = "bf16", xpu = "bf16" }
# help = { en = "precision of the model; the scores are always 32 bit", zh = "模型精度；打分始终用 32 位" }
# ///
#
# Runs by itself too: DATA=dev.jsonl:corpus.jsonl MODEL=out OUTPUT=metrics bash bge-m3-evaluate.sh
set -euo pipefail
here="${LAUNCH_RECIPES:-$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)}"
# shellcheck source-path=SCRIPTDIR source=runtime/recipe.sh
source "$here/runtime/recipe.sh" # the header's defaults
: "${DATA:?set DATA to the rows and the corpus}"

exec "$python" "$here/tools/evaluate_m3.py" \
    --data "${data[@]}" \
    --model "$MODEL" \
    --output "$OUTPUT" \
    --target "$TARGET" \
    --nproc "$NPROC" \
    --k "$K" \
    --queries "$QUERIES" \
    --colbert "$COLBERT" \
    --batch-size "$BATCH_SIZE" \
    --max-length "$MAX_LENGTH" \
    --precision "$PRECISION" \
    "$@"
