#!/usr/bin/env bash
# /// recipe
# summary = { en = "Add a teacher's scores to training rows, for distillation", zh = "用教师模型为训练数据打分，供蒸馏使用" }
# targets = ["cpu", "cuda", "cuda-vllm", "xpu"]
# launch = "python"
#
# [inputs.data]
# format = "embedder"
# help = { en = "rows with query, pos, neg; files or folders", zh = "每行含 query、pos、neg；文件或文件夹" }
# [inputs.model]
# default = "BAAI/bge-reranker-v2-m3"
# help = { en = "the teacher: a cross-encoder (…ForSequenceClassification; scores are logits, about -10 to 10) or an embedder (scores are cosines, -1 to 1); a folder, or an id on the hub", zh = "教师模型：交叉编码器（…ForSequenceClassification，分数为 logit，约 -10 到 10）或向量模型（分数为余弦相似度，-1 到 1）；本地文件夹或模型库名称" }
# [outputs]
# help = { en = "a file per file, the same rows in the same order with pos_scores and neg_scores", zh = "每个输入文件对应一个文件，行与顺序不变，增加 pos_scores 与 neg_scores" }
#
# [parameters.scale]
# type = "float"
# default = 1
# help = { en = "the scores are multiplied by this. kd_loss_type kl_div and m3_kd_loss learn the softmax over a row's scores: logits fit as they are (1), cosines are nearly flat and need 20 to 100 (1/temperature; 50 goes with the training's temperature of 0.02)", zh = "分数乘以该值。kd_loss_type 的 kl_div 与 m3_kd_loss 学习一行分数的 softmax：logit 直接可用（1）；余弦几乎是平的，需乘以 20 到 100（即 1/温度，50 对应训练温度 0.02）" }
# [parameters.query_instruction_for_retrieval]
# type = "str"
# default = ""
# help = { en = "text put before every query, as the teacher was trained; empty: what an embedder itself says", zh = "加在每个查询前的指令，与教师训练时一致；空表示用向量模型自带的设置" }
# [parameters.passage_instruction_for_retrieval]
# type = "str"
# default = ""
# help = { en = "text put before every passage, as the teacher was trained; empty: what an embedder itself says", zh = "加在每个段落前的指令，与教师训练时一致；空表示用向量模型自带的设置" }
# [parameters.pooling]
# type = "choice"
# choices = ["auto", "cls", "mean", "last_token"]
# default = "auto"
# help = { en = "of an embedder: how token states become one vector; auto: as the model's own files say, else cls", zh = "向量模型的池化方式；auto 表示按模型自带文件，否则用 cls" }
# [parameters.batch_size]
# type = "int"
# default = { cpu = 32, cuda = 128, cuda-vllm = 128, xpu = 64 }
# help = { en = "pairs computed at a time; the memory grows with it, the scores do not depend on it", zh = "每批计算的文本对数；显存随之增长，不影响分数" }
# [parameters.max_length]
# type = "int"
# default = 512
# help = { en = "longest pair of query and passage in tokens (embedder: longest text); the rest is cut off. Not below the training's lengths, or the teacher judges what the student does not see. Not beyond what the model can", zh = "查询与段落之和的最大长度（词元；向量模型为单个文本），超出部分截断。不应小于训练长度，否则教师与学生所见不同；不超过模型上限" }
# [parameters.precision]
# type = "choice"
# choices = ["fp32", "bf16", "fp16"]
# default = { cpu = "fp32", cuda = "bf16", cuda-vllm = "bf16", xpu = "bf16" }
# help = { en = "number format of the teacher. 16 bits halve the memory and round the scores; BGE-M3 on a CPU is computed in fp32", zh = "教师模型的数值格式。16 位省一半显存，分数略有舍入；BGE-M3 在 CPU 上以 fp32 计算" }
# ///
#
# Runs by itself too: DATA=train.jsonl MODEL=BAAI/bge-reranker-v2-m3 OUTPUT=scored bash score-with-teacher.sh
set -euo pipefail
here="${LAUNCH_RECIPES:-$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)}"
# shellcheck source-path=SCRIPTDIR source=runtime/recipe.sh
source "$here/runtime/recipe.sh" # the header's defaults
: "${DATA:?set DATA to the rows}"

exec "$python" "$here/tools/score_with_teacher.py" \
    --data "${data[@]}" \
    --model "$MODEL" \
    --output "$OUTPUT" \
    --target "$TARGET" \
    --nproc "$NPROC" \
    --scale "$SCALE" \
    --query-instruction="$QUERY_INSTRUCTION_FOR_RETRIEVAL" \
    --passage-instruction="$PASSAGE_INSTRUCTION_FOR_RETRIEVAL" \
    --pooling "$POOLING" \
    --batch-size "$BATCH_SIZE" \
    --max-length "$MAX_LENGTH" \
    --precision "$PRECISION" \
    "$@"
