#!/usr/bin/env bash
# /// recipe
# summary = { en = "Measure retrieval before and after: nDCG, recall and MRR of embedders, BGE-M3's heads and rerankers", zh = "评测训练前后的检索效果：向量模型、BGE-M3 各个头与重排序模型的 nDCG、recall、MRR" }
# targets = ["cpu", "cuda", "cuda-vllm", "xpu"]
# launch = "python"
#
# [inputs.data]
# format = "retrieval"
# help = { en = "rows with query and pos, and corpus lines with text (without these the passages of the rows are searched); or BEIR's layout: corpus.jsonl, queries.jsonl and qrels (.tsv), as files or as a folder", zh = "含 query、pos 的行，以及含 text 的语料行（没有语料时在各行自带的段落中检索）；或 BEIR 布局：corpus.jsonl、queries.jsonl 与 qrels（.tsv），给出文件或文件夹均可" }
# [inputs.model]
# default = "BAAI/bge-m3"
# help = { en = "the model to measure (after): BGE-M3 (all heads), another embedder (dense), or a cross-encoder (sorts pos and neg of the rows); a folder, or an id on the hub", zh = "要评测的（训练后）模型：BGE-M3（全部头）、其他向量模型（稠密）或交叉编码器（对行内 pos 与 neg 排序）；本地文件夹或模型库名称" }
# [outputs]
# help = { en = "metrics.json, run.trec of the best head, runs/HEAD.trec, qrels.trec; a table in the log", zh = "metrics.json、最佳头的 run.trec、runs/各头.trec、qrels.trec；日志中另有表格" }
#
# [parameters.baseline]
# type = "model"
# default = ""
# help = { en = "the model to compare with (before), measured on the same data; empty: no comparison. Doubles the time, not the memory", zh = "用于对比的（训练前）模型，在同一数据上评测；空表示不对比。时间加倍，内存不变" }
# [parameters.reranker]
# type = "model"
# default = ""
# help = { en = "a cross-encoder that reorders the best passages of the dense head; its figures are the head 'reranked'. Empty: none", zh = "对稠密头的最佳段落重新排序的交叉编码器；其指标列为 reranked 头。空表示不用" }
# [parameters.reranker_baseline]
# type = "model"
# default = ""
# help = { en = "the cross-encoder to compare the reranker with, on the same passages; empty: no comparison", zh = "与重排序模型对比的交叉编码器，使用相同的候选段落；空表示不对比" }
# [parameters.rerank_top]
# type = "int"
# default = 100
# help = { en = "passages per query that are reranked; time grows with it, and recall of 'reranked' ends there. 100 is BEIR's", zh = "每个查询重排的段落数；时间随之增长，reranked 的 recall 以此为上限。100 与 BEIR 一致" }
# [parameters.split]
# type = "str"
# default = ""
# help = { en = "part of a BEIR folder, such as dev: its qrels and queries; empty: the only one there is", zh = "BEIR 文件夹中的划分，如 dev；空表示唯一的那个" }
# [parameters.k]
# type = "str"
# default = "10,100"
# help = { en = "cut-offs of the figures in passages, separated by commas; nDCG@10 and recall@100 are what papers report", zh = "指标的截断位置（段落数），以逗号分隔；论文常用 nDCG@10 与 recall@100" }
# [parameters.queries]
# type = "int"
# default = 0
# help = { en = "measure the first so many queries, for a quick look; 0: all", zh = "只评测前若干个查询（快速查看）；0 表示全部" }
# [parameters.colbert]
# type = "bool"
# default = true
# help = { en = "measure BGE-M3's ColBERT head and the sum of the heads too: most of the time, and a vector per token in memory", zh = "同时评测 BGE-M3 的 ColBERT 头与三个头之和：耗时最多，每个词元占一个向量的内存" }
# [parameters.query_instruction_for_retrieval]
# type = "str"
# default = ""
# help = { en = "text put before every query, as in training; empty: what the model itself says. BGE-M3 needs none", zh = "加在每个查询前的指令，与训练时一致；空表示用模型自带的设置。BGE-M3 不需要" }
# [parameters.passage_instruction_for_retrieval]
# type = "str"
# default = ""
# help = { en = "text put before every passage, as in training; empty: what the model itself says", zh = "加在每个段落前的指令，与训练时一致；空表示用模型自带的设置" }
# [parameters.pooling]
# type = "choice"
# choices = ["auto", "cls", "mean", "last_token"]
# default = "auto"
# help = { en = "how token states become one vector; auto: as the model's own files say, else cls. It must be that of the training", zh = "句向量的池化方式；auto 表示按模型自带文件，否则用 cls。必须与训练时一致" }
# [parameters.batch_size]
# type = "int"
# default = { cpu = 32, cuda = 128, cuda-vllm = 128, xpu = 64 }
# help = { en = "texts computed at a time; the memory grows with it, the figures do not depend on it", zh = "每批计算的文本数；显存随之增长，不影响指标" }
# [parameters.max_length]
# type = "int"
# default = 512
# help = { en = "longest text in tokens, of a cross-encoder query and passage together; the rest is cut off. Not beyond what the model can", zh = "文本的最大长度（词元），交叉编码器为查询与段落之和；超出部分截断，且不超过模型上限" }
# [parameters.precision]
# type = "choice"
# choices = ["fp32", "bf16", "fp16"]
# default = { cpu = "fp32", cuda = "bf16", cuda-vllm = "bf16", xpu = "bf16" }
# help = { en = "number format of the model; scores are always 32 bit. 16 bits halve the memory and change the figures a little; BGE-M3 on a CPU is computed in fp32", zh = "模型的数值格式；打分始终为 32 位。16 位省一半显存，指标略有变化；BGE-M3 在 CPU 上以 fp32 计算" }
# ///
#
# Runs by itself too: DATA=dev.jsonl:corpus.jsonl MODEL=out BASELINE=BAAI/bge-m3 OUTPUT=metrics bash evaluate.sh
set -euo pipefail
here="${LAUNCH_RECIPES:-$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)}"
# shellcheck source-path=SCRIPTDIR source=runtime/recipe.sh
source "$here/runtime/recipe.sh" # the header's defaults
: "${DATA:?set DATA to the rows and the corpus, or to a folder in the layout of BEIR}"

exec "$python" "$here/tools/evaluate_retrieval.py" \
    --data "${data[@]}" \
    --model "$MODEL" \
    --baseline "$BASELINE" \
    --reranker "$RERANKER" \
    --reranker-baseline "$RERANKER_BASELINE" \
    --rerank-top "$RERANK_TOP" \
    --output "$OUTPUT" \
    --target "$TARGET" \
    --nproc "$NPROC" \
    --split "$SPLIT" \
    --k "$K" \
    --queries "$QUERIES" \
    --colbert "$COLBERT" \
    --query-instruction="$QUERY_INSTRUCTION_FOR_RETRIEVAL" \
    --passage-instruction="$PASSAGE_INSTRUCTION_FOR_RETRIEVAL" \
    --pooling "$POOLING" \
    --batch-size "$BATCH_SIZE" \
    --max-length "$MAX_LENGTH" \
    --precision "$PRECISION" \
    "$@"
