#!/usr/bin/env bash
# /// recipe
# summary = { en = "Find hard negatives for training rows: what a model ranks high and nobody called right", zh = "为训练数据挖掘难负例：模型排名靠前、但并非正例的段落" }
# targets = ["cpu", "cuda", "cuda-vllm", "xpu"]
# launch = "python"
#
# [inputs.data]
# format = "retrieval"
# help = { en = "rows with query and pos (neg is replaced), and corpus lines with text to search (without these: all pos and neg of the rows); or BEIR's layout: corpus.jsonl, queries.jsonl and qrels (.tsv), as files or as a folder", zh = "含 query、pos 的行（neg 会被替换），以及供检索的语料行 text（没有时用各行全部 pos 与 neg）；或 BEIR 布局：corpus.jsonl、queries.jsonl 与 qrels（.tsv），给出文件或文件夹均可" }
# [inputs.model]
# default = "BAAI/bge-m3"
# help = { en = "the embedder that searches (its dense vectors): best the one to be trained; a folder, or an id on the hub", zh = "用于检索的向量模型（稠密向量），最好就是将要训练的模型；本地文件夹或模型库名称" }
# [outputs]
# help = { en = "train.jsonl: the rows with new neg, other keys kept, teacher scores dropped; report.json", zh = "train.jsonl：带新 neg 的数据行，保留其他字段，去掉教师分数；report.json" }
#
# [parameters.negative_number]
# type = "int"
# default = 15
# help = { en = "negatives per row. 15 as upstream: training draws train_group_size - 1 of them anew in each epoch. Rows for which fewer are found keep these, rows with none are left out", zh = "每行的负例数。默认 15 与上游一致：训练时每轮从中重新抽取 train_group_size - 1 个。找到较少的行保留已有的，一个也没有的行会被去掉" }
# [parameters.range_for_sampling]
# type = "str"
# default = "10-210"
# help = { en = "ranks to take negatives from, 0 is the best, the end excluded. The first ten are skipped as upstream does, because right answers that nobody marked are there; a small corpus needs 0-…", zh = "负例所取的排名范围，0 为最佳，不含末尾。与上游一致跳过前十名，因为其中常有未标注的正例；语料很小时用 0-…" }
# [parameters.sampling]
# type = "choice"
# choices = ["top", "random"]
# default = "random"
# help = { en = "top: the hardest of the range; random: drawn from the whole range, as upstream does: easier, and fewer of them are right", zh = "top：取范围内最难的；random：在整个范围内随机抽取（与上游一致），较容易，误判的正例也较少" }
# [parameters.max_score]
# type = "float"
# default = 1
# help = { en = "no negative is more similar to the query than this (cosine, -1 to 1); 1: off. Against right answers that nobody marked", zh = "负例与查询的最大相似度（余弦，-1 到 1）；1 表示不限制。用于避开未标注的正例" }
# [parameters.min_score]
# type = "float"
# default = -1
# help = { en = "no negative is less similar to the query than this (cosine, -1 to 1); -1: off. Against negatives that teach nothing", zh = "负例与查询的最小相似度（余弦，-1 到 1）；-1 表示不限制。用于去掉过于容易的负例" }
# [parameters.absolute_margin]
# type = "float"
# default = -1
# help = { en = "a negative's cosine lies at least this much below that of the worst positive; below 0: off", zh = "负例的余弦相似度至少比最差正例低这么多；小于 0 表示不限制" }
# [parameters.relative_margin]
# type = "float"
# default = -1
# help = { en = "the same as a share of the worst positive's cosine; below 0: off. Rows with a weak positive then find few. 0.05 was best in NV-Retriever (Moreira et al., 2024), with --sampling top", zh = "同上，但以最差正例余弦值的比例表示；小于 0 表示不限制。含弱正例的行可能找不到负例。NV-Retriever（Moreira 等，2024）中 0.05 配合 --sampling top 效果最好" }
# [parameters.split]
# type = "str"
# default = ""
# help = { en = "part of a BEIR folder, such as train: its qrels and queries; empty: the only one there is", zh = "BEIR 文件夹中的划分，如 train；空表示唯一的那个" }
# [parameters.query_instruction_for_retrieval]
# type = "str"
# default = ""
# help = { en = "text put before every query while searching, as in training; empty: what the model itself says", zh = "检索时加在每个查询前的指令，与训练时一致；空表示用模型自带的设置" }
# [parameters.passage_instruction_for_retrieval]
# type = "str"
# default = ""
# help = { en = "text put before every passage while searching, as in training; empty: what the model itself says", zh = "检索时加在每个段落前的指令，与训练时一致；空表示用模型自带的设置" }
# [parameters.pooling]
# type = "choice"
# choices = ["auto", "cls", "mean", "last_token"]
# default = "auto"
# help = { en = "how token states become one vector; auto: as the model's own files say, else cls", zh = "句向量的池化方式；auto 表示按模型自带文件，否则用 cls" }
# [parameters.batch_size]
# type = "int"
# default = { cpu = 32, cuda = 256, cuda-vllm = 256, xpu = 128 }
# help = { en = "texts computed at a time; the memory grows with it, the result does not depend on it", zh = "每批计算的文本数；显存随之增长，不影响结果" }
# [parameters.max_length]
# type = "int"
# default = 512
# help = { en = "longest text in tokens; the rest is not seen by the search, the rows keep it. Not beyond what the model can", zh = "文本的最大长度（词元）；超出部分不参与检索，但仍保留在数据中。不超过模型上限" }
# [parameters.precision]
# type = "choice"
# choices = ["fp32", "bf16", "fp16"]
# default = { cpu = "fp32", cuda = "bf16", cuda-vllm = "bf16", xpu = "bf16" }
# help = { en = "number format of the model; scores are always 32 bit. 16 bits halve the memory and swap a few neighbours in the ranking", zh = "模型的数值格式；打分始终为 32 位。16 位省一半显存，排名中少数相邻项会互换" }
# [parameters.seed]
# type = "int"
# default = 42
# help = { en = "seed of the random sampling; each row draws for itself, so added rows change no other", zh = "随机抽取的种子；每行独立抽取，追加数据不影响已有行" }
# ///
#
# Runs by itself too: DATA=train.jsonl:corpus.jsonl MODEL=BAAI/bge-m3 OUTPUT=mined bash mine-hard-negatives.sh
set -euo pipefail
here="${LAUNCH_RECIPES:-$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)}"
# shellcheck source-path=SCRIPTDIR source=runtime/recipe.sh
source "$here/runtime/recipe.sh" # the header's defaults
: "${DATA:?set DATA to the rows and the corpus, or to a folder in the layout of BEIR}"

exec "$python" "$here/tools/mine_negatives.py" \
    --data "${data[@]}" \
    --model "$MODEL" \
    --output "$OUTPUT" \
    --target "$TARGET" \
    --nproc "$NPROC" \
    --negative-number "$NEGATIVE_NUMBER" \
    --range "$RANGE_FOR_SAMPLING" \
    --sampling "$SAMPLING" \
    --max-score="$MAX_SCORE" \
    --min-score="$MIN_SCORE" \
    --absolute-margin="$ABSOLUTE_MARGIN" \
    --relative-margin="$RELATIVE_MARGIN" \
    --split "$SPLIT" \
    --query-instruction="$QUERY_INSTRUCTION_FOR_RETRIEVAL" \
    --passage-instruction="$PASSAGE_INSTRUCTION_FOR_RETRIEVAL" \
    --pooling "$POOLING" \
    --batch-size "$BATCH_SIZE" \
    --max-length "$MAX_LENGTH" \
    --precision "$PRECISION" \
    --seed="$SEED" \
    "$@"
