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
[[ -n ${IMAGE:-} ]] || IMAGE=finetune:cpu-0123456789ab # the image
: "${RUN_AS:=$(id -u):$(id -g)}" # user and group of the run, and of its result

if [[ $RESTARTS == 0 && -n "$(ls -A "$OUTPUT" 2>/dev/null)" ]]; then
    echo "$OUTPUT holds something: set OUTPUT or RUN_ID, or RESTARTS=1 to go on with it" >&2
    exit 77
fi
mkdir -p "$RUNS/$RUN_ID" "$RUNS/$RUN_ID/scratch" "$OUTPUT" "$RUN_HOME"
[[ $(id -u) != 0 ]] || chown "$RUN_AS" "$RUNS/$RUN_ID" "$RUNS/$RUN_ID/scratch" "$OUTPUT" "$RUN_HOME"

exec docker run \
    --rm \
    --name "launch-${RUN_ID}" \
    --init \
    --read-only \
    --tmpfs /tmp:rw,exec,nosuid,nodev,mode=1777 \
    --cap-drop ALL \
    --security-opt no-new-privileges \
    --network none \
    --log-driver json-file \
    --log-opt max-size=1000g \
    --user "${RUN_AS}" \
    --workdir /output \
    --shm-size 2g \
    --mount "type=bind,source=${LAUNCHER}/recipes,target=/launch/recipes,readonly" \
    --mount "type=bind,source=${LAUNCHER}/ds_configs,target=/launch/ds_configs,readonly" \
    --mount "type=bind,source=${DATA_0},target=/data/0/train.jsonl,readonly" \
    --mount "type=bind,source=${MODEL},target=/model/tiny,readonly" \
    --mount "type=bind,source=${OUTPUT},target=/output" \
    --mount "type=bind,source=${RUNS}/${RUN_ID},target=/launch/run" \
    --mount "type=bind,source=${RUN_HOME},target=/launch/home" \
    --env ATTENTION_DROPOUT=0 \
    --env BUCKET_BATCH_SIZES= \
    --env DATA=/data/0/train.jsonl \
    --env DATALOADER_DROP_LAST=true \
    --env DEEPSPEED=none \
    --env DO_NOT_TRACK=1 \
    --env DROP_THRESHOLD=0 \
    --env FIX_ENCODER=false \
    --env FREEZE_WORD_EMBEDDINGS=false \
    --env GRADIENT_ACCUMULATION_STEPS=1 \
    --env GRADIENT_CHECKPOINTING=false \
    --env HF_HOME=/launch/home/huggingface \
    --env HF_HUB_DISABLE_TELEMETRY=1 \
    --env HF_HUB_OFFLINE=1 \
    --env HOME=/launch/home \
    --env KD_LOSS_TYPE=m3_kd_loss \
    --env KNOWLEDGE_DISTILLATION=false \
    --env LAUNCH_DEVICE=cpu \
    --env LAUNCH_MODEL_NAME=/fake/models/tiny \
    --env LAUNCH_RECIPES=/launch/recipes \
    --env "LAUNCH_RESTARTS=${RESTARTS}" \
    --env LAUNCH_RUN_DIR=/launch/run \
    --env "LAUNCH_RUN_ID=${RUN_ID}" \
    --env LAUNCH_SCRATCH=/launch/run/scratch \
    --env LAUNCH_WORLD_SIZE=1 \
    --env LEARNING_RATE=1e-05 \
    --env LENGTH_BUCKETING=false \
    --env LOGGING_STEPS=1 \
    --env LOGNAME=launch \
    --env MAX_BATCH_SIZE=64 \
    --env MAX_STEPS=-1 \
    --env MKL_DYNAMIC=FALSE \
    --env MLFLOW_ALLOW_FILE_STORE=true \
    --env MLFLOW_TRACKING_URI=mlruns \
    --env MODEL=/model/tiny \
    --env NEGATIVES_CROSS_DEVICE=true \
    --env NORMALIZE_EMBEDDINGS=true \
    --env NPROC=1 \
    --env NUM_TRAIN_EPOCHS=2 \
    --env OMP_NUM_THREADS=8 \
    --env OPTIM=adamw_torch \
    --env OUTPUT=/output \
    --env PAD_TO_MULTIPLE_OF=8 \
    --env 'PASSAGE_INSTRUCTION_FORMAT={}{}' \
    --env PASSAGE_INSTRUCTION_FOR_RETRIEVAL= \
    --env PASSAGE_MAX_LEN=512 \
    --env PATCHES=all \
    --env PER_DEVICE_TRAIN_BATCH_SIZE=2 \
    --env PRECISION=fp32 \
    --env PYTHONUNBUFFERED=1 \
    --env 'QUERY_INSTRUCTION_FORMAT={}{}' \
    --env QUERY_INSTRUCTION_FOR_RETRIEVAL= \
    --env QUERY_MAX_LEN=512 \
    --env REPORT_TO=none \
    --env SAME_DATASET_WITHIN_BATCH=true \
    --env SAVE_STEPS=1000 \
    --env SAVE_TOTAL_LIMIT=2 \
    --env SEED=42 \
    --env SELF_DISTILL_START_STEP=0 \
    --env SENTENCE_POOLING_METHOD=cls \
    --env SMALL_THRESHOLD=0 \
    --env SUB_BATCH_SIZE=0 \
    --env TARGET=cpu \
    --env TEMPERATURE=0.02 \
    --env TOKENIZERS_PARALLELISM=false \
    --env TRAIN_GROUP_SIZE=8 \
    --env UNIFIED_FINETUNING=true \
    --env USER=launch \
    --env USE_SELF_DISTILL=true \
    --env WANDB_ERROR_REPORTING=false \
    --env WANDB_MODE=offline \
    --env WARMUP_RATIO=0.1 \
    --env WEIGHT_DECAY=0.01 \
    --label launch.recipe=bge-m3-unified \
    --label launch.target=cpu \
    "${IMAGE}" bash /launch/recipes/bge-m3-unified.sh --note 'it'"'"'s $5'
