#!/usr/bin/env bash
# bge-m3-unified on cpu; README.md says what it needs and how to use it.
set -euo pipefail

# What may differ elsewhere: change it here, or set it when calling.
: "${RUN_ID:=$(date -u +%Y%m%d-%H%M%S)-bge-m3-unified-$$}" # name of the run
: "${RESTARTS:=0}" # 1, 2, …: go on with RUN_ID from its last complete checkpoint
[[ -n ${RUNS:-} ]] || RUNS=/fake/runs # folder of records
[[ -n ${OUTPUT:-} ]] || OUTPUT="${RUNS}/${RUN_ID}/output" # the result; new or empty
[[ -n ${RUN_HOME:-} ]] || RUN_HOME=/fake/cache/home/cpu # home folder of runs, kept for caches
[[ -n ${LAUNCHER:-} ]] || LAUNCHER=/checkout # the launcher's recipes/ and ds_configs/
[[ -n ${DATA_0:-} ]] || DATA_0=/fake/data/train.jsonl # data
[[ -n ${MODEL:-} ]] || MODEL=/fake/models/tiny # model /fake/models/tiny
[[ -n ${ENVIRONMENT:-} ]] || ENVIRONMENT=/fake/envs/0123456789ab # folder of the environment

if [[ $RESTARTS == 0 && -n "$(ls -A "$OUTPUT" 2>/dev/null)" ]]; then
    echo "$OUTPUT holds something: set OUTPUT or RUN_ID, or RESTARTS=1 to go on with it" >&2
    exit 77
fi
mkdir -p "$RUNS/$RUN_ID" "$RUNS/$RUN_ID/scratch" "$OUTPUT" "$RUN_HOME"

# Secrets: of the caller's variables, by a file in memory that only this user may read.
SECRETS="$(mktemp "${XDG_RUNTIME_DIR:-/dev/shm}/launch.XXXXXXXX")"
trap 'rm -f -- "$SECRETS"' EXIT
printf '%s\0' "HF_TOKEN=${HF_TOKEN:?a secret of this run}" >"$SECRETS"

cd "$OUTPUT"
exec env \
    ATTENTION_DROPOUT=0 \
    BUCKET_BATCH_SIZES= \
    "DATA=${DATA_0}" \
    DATALOADER_DROP_LAST=true \
    DEEPSPEED=none \
    DO_NOT_TRACK=1 \
    DROP_THRESHOLD=0 \
    FIX_ENCODER=false \
    FREEZE_WORD_EMBEDDINGS=false \
    GRADIENT_ACCUMULATION_STEPS=1 \
    GRADIENT_CHECKPOINTING=false \
    "HF_HOME=${RUN_HOME}/huggingface" \
    HF_HUB_DISABLE_TELEMETRY=1 \
    HF_HUB_OFFLINE=1 \
    "HOME=${RUN_HOME}" \
    KD_LOSS_TYPE=m3_kd_loss \
    KNOWLEDGE_DISTILLATION=false \
    LAUNCH_DEVICE=cpu \
    "LAUNCH_MODEL_NAME=${MODEL}" \
    "LAUNCH_RECIPES=${LAUNCHER}/recipes" \
    "LAUNCH_RESTARTS=${RESTARTS}" \
    "LAUNCH_RUN_DIR=${RUNS}/${RUN_ID}" \
    "LAUNCH_RUN_ID=${RUN_ID}" \
    "LAUNCH_SCRATCH=${RUNS}/${RUN_ID}/scratch" \
    LAUNCH_WORLD_SIZE=1 \
    LEARNING_RATE=1e-05 \
    LENGTH_BUCKETING=false \
    LOGGING_STEPS=1 \
    LOGNAME=launch \
    MAX_BATCH_SIZE=64 \
    MAX_STEPS=-1 \
    MKL_DYNAMIC=FALSE \
    MLFLOW_ALLOW_FILE_STORE=true \
    MLFLOW_TRACKING_URI=mlruns \
    "MODEL=${MODEL}" \
    NEGATIVES_CROSS_DEVICE=true \
    NORMALIZE_EMBEDDINGS=true \
    NPROC=1 \
    NUM_TRAIN_EPOCHS=2 \
    OMP_NUM_THREADS=8 \
    OPTIM=adamw_torch \
    "OUTPUT=${OUTPUT}" \
    PAD_TO_MULTIPLE_OF=8 \
    'PASSAGE_INSTRUCTION_FORMAT={}{}' \
    PASSAGE_INSTRUCTION_FOR_RETRIEVAL= \
    PASSAGE_MAX_LEN=512 \
    PATCHES=all \
    "PATH=${ENVIRONMENT}/bin:${PATH}" \
    PER_DEVICE_TRAIN_BATCH_SIZE=2 \
    PRECISION=fp32 \
    PYTHONUNBUFFERED=1 \
    'QUERY_INSTRUCTION_FORMAT={}{}' \
    QUERY_INSTRUCTION_FOR_RETRIEVAL= \
    QUERY_MAX_LEN=512 \
    REPORT_TO=none \
    SAME_DATASET_WITHIN_BATCH=true \
    SAVE_STEPS=1000 \
    SAVE_TOTAL_LIMIT=2 \
    SEED=42 \
    SELF_DISTILL_START_STEP=0 \
    SENTENCE_POOLING_METHOD=cls \
    SMALL_THRESHOLD=0 \
    SUB_BATCH_SIZE=0 \
    TARGET=cpu \
    TEMPERATURE=0.02 \
    TOKENIZERS_PARALLELISM=false \
    TRAIN_GROUP_SIZE=8 \
    UNIFIED_FINETUNING=true \
    USER=launch \
    USE_SELF_DISTILL=true \
    "VIRTUAL_ENV=${ENVIRONMENT}" \
    WANDB_ERROR_REPORTING=false \
    WANDB_MODE=offline \
    WARMUP_RATIO=0.1 \
    WEIGHT_DECAY=0.01 \
    "${ENVIRONMENT}/bin/python" -I -S "${LAUNCHER}/recipes/runtime/entry.py" mask "${SECRETS}" bash "${LAUNCHER}/recipes/bge-m3-unified.sh"
