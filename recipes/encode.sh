#!/usr/bin/env bash
# /// recipe
# summary = { en = "Turn texts into vectors, and try a query out on them", zh = "把文本编码为向量，并可用一个查询试检索" }
# targets = ["cpu", "cuda", "cuda-vllm", "xpu"]
# launch = "python"
#
# [inputs.data]
# format = "texts"
# help = { en = "rows with text (and title), or with query, pos, neg: every text once; files or folders", zh = "含 text（及 title）或 query、pos、neg 的行，每个文本编码一次；文件或文件夹" }
# [inputs.model]
# default = "BAAI/bge-m3"
# help = { en = "an embedder: BGE-M3 (dense and sparse) or another one (dense); a folder, or an id on the hub", zh = "向量模型：BGE-M3（稠密与稀疏）或其他模型（稠密）；本地文件夹或模型库名称" }
# [outputs]
# help = { en = "dense.npy (32 bit, length one, a row per text), texts.jsonl (the text of each row), sparse.jsonl of BGE-M3 (token id: weight), search.json with a query", zh = "dense.npy（32 位、单位长度，每个文本一行）、texts.jsonl（各行的文本）、BGE-M3 的 sparse.jsonl（词元编号: 权重），给出查询时另有 search.json" }
#
# [parameters.query]
# type = "str"
# default = ""
# help = { en = "a query to try: the log shows the best texts and their score by each head. Empty: vectors only", zh = "试检索的查询：日志显示各个头的最佳文本与分数。空表示只编码" }
# [parameters.top]
# type = "int"
# default = 10
# help = { en = "texts shown for the query, by each head", zh = "每个头为查询显示的文本数" }
# [parameters.colbert]
# type = "bool"
# default = true
# help = { en = "score the query with BGE-M3's ColBERT head and the sum of the heads too: slower, and a vector per token in memory; without a query it does nothing", zh = "查询同时用 BGE-M3 的 ColBERT 头与三个头之和打分：较慢，每个词元占一个向量的内存；没有查询时无作用" }
# [parameters.query_instruction_for_retrieval]
# type = "str"
# default = ""
# help = { en = "text put before the query, as in training; empty: what the model itself says", zh = "加在查询前的指令，与训练时一致；空表示用模型自带的设置" }
# [parameters.passage_instruction_for_retrieval]
# type = "str"
# default = ""
# help = { en = "text put before every text of the data, as in training; empty: what the model itself says for passages", zh = "加在每个数据文本前的指令，与训练时一致；空表示用模型自带的段落设置" }
# [parameters.pooling]
# type = "choice"
# choices = ["auto", "cls", "mean", "last_token"]
# default = "auto"
# help = { en = "how token states become one vector; auto: as the model's own files say, else cls. It must be that of the training", zh = "句向量的池化方式；auto 表示按模型自带文件，否则用 cls。必须与训练时一致" }
# [parameters.batch_size]
# type = "int"
# default = { cpu = 32, cuda = 256, cuda-vllm = 256, xpu = 128 }
# help = { en = "texts computed at a time; the memory grows with it, the vectors do not depend on it", zh = "每批计算的文本数；显存随之增长，不影响向量" }
# [parameters.max_length]
# type = "int"
# default = 512
# help = { en = "longest text in tokens, the rest is cut off; not beyond what the model can", zh = "文本的最大长度（词元），超出部分截断；不超过模型上限" }
# [parameters.precision]
# type = "choice"
# choices = ["fp32", "bf16", "fp16"]
# default = { cpu = "fp32", cuda = "bf16", cuda-vllm = "bf16", xpu = "bf16" }
# help = { en = "number format of the model; the vectors are written in 32 bit. 16 bits halve the memory and round them; BGE-M3 on a CPU is computed in fp32", zh = "模型的数值格式；向量以 32 位写出。16 位省一半显存，向量略有舍入；BGE-M3 在 CPU 上以 fp32 计算" }
# ///
#
# Runs by itself too: DATA=corpus.jsonl MODEL=out QUERY="how do I undo a commit" OUTPUT=vectors bash encode.sh
set -euo pipefail
here="${LAUNCH_RECIPES:-$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)}"
# shellcheck source-path=SCRIPTDIR source=runtime/recipe.sh
source "$here/runtime/recipe.sh" # the header's defaults
: "${DATA:?set DATA to the texts}"

exec "$python" "$here/tools/encode_texts.py" \
    --data "${data[@]}" \
    --model "$MODEL" \
    --output "$OUTPUT" \
    --target "$TARGET" \
    --nproc "$NPROC" \
    --query="$QUERY" \
    --top "$TOP" \
    --colbert "$COLBERT" \
    --query-instruction="$QUERY_INSTRUCTION_FOR_RETRIEVAL" \
    --passage-instruction="$PASSAGE_INSTRUCTION_FOR_RETRIEVAL" \
    --pooling "$POOLING" \
    --batch-size "$BATCH_SIZE" \
    --max-length "$MAX_LENGTH" \
    --precision "$PRECISION" \
    "$@"
