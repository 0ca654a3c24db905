#!/bin/bash
# bge-m3-unified on each of 2 hosts, by DeepSpeed's launcher.
set -u
export PATH=/fake/programs:/usr/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin:/bin
word=/fake/runs/RUN_ID/attempts/1.word going=/fake/runs/RUN_ID/attempts/1.going."$RANK" own=/fake/runs/RUN_ID/attempts/1.own
stty -onlcr 2>/dev/null
host=$MASTER_ADDR
[[ $host != *:* ]] || host="[$host]"
variables=("LAUNCH_NODE_RANK=$RANK" "LAUNCH_RENDEZVOUS=$host:$MASTER_PORT") options=()
asked='' told=0 waited=0 child='' memory=''
trap 'rm -rf "$memory"; [[ -n $child$asked ]] || printf "fail\n" 1<>"$word"' EXIT
trap 'asked=hangup' HUP
trap 'asked=${asked:-stop}' TERM INT
exec 3> >(exec cat)
pipe=$!
memory=/dev/shm/launch-RUN_ID-1-"$RANK"
rm -rf "$memory"; mkdir -m 700 "$memory" || exit
(umask 077 && cat /fake/runs/.secrets-1000/RUN_ID.1 >"$memory/values") || exit
cd /fake/runs/RUN_ID/output || exit
left() {
  grep -lszxF LAUNCH_RUN_ID=RUN_ID /proc/[0-9]*/environ | xargs -r grep -lszxF "LAUNCH_NODE_RANK=$RANK" | cut -d/ -f3
}
tell() {
  if [[ $1 != KILL ]]; then kill -s "$1" -- "-$child"; return; fi
  kill -s KILL -- "-$child"
  local tries workers
  for ((tries = 0; tries < 20; tries++)); do
    workers=$(left)
    [[ -n $workers ]] || break
    kill -s KILL $workers
    sleep 0.1
  done
} 2>/dev/null
setsid env -i ATTENTION_DROPOUT=-1 BUCKET_BATCH_SIZES= DATA=/fake/data/train.jsonl DATALOADER_DROP_LAST=true DEEPSPEED=none DO_NOT_TRACK=1 DROP_THRESHOLD=0 FIX_ENCODER=false FREEZE_WORD_EMBEDDINGS=false GRADIENT_ACCUMULATION_STEPS=1 GRADIENT_CHECKPOINTING=true HF_HOME=/fake/cache/home/cuda/huggingface HF_HUB_DISABLE_TELEMETRY=1 HF_HUB_OFFLINE=1 HOME=/fake/cache/home/cuda KD_LOSS_TYPE=m3_kd_loss KNOWLEDGE_DISTILLATION=false LAUNCH_DEVICE=cuda LAUNCH_MODEL_NAME=/fake/models/tiny LAUNCH_NODES=2 LAUNCH_RECIPES=/checkout/recipes LAUNCH_RUN_DIR=/fake/runs/RUN_ID LAUNCH_RUN_ID=RUN_ID LAUNCH_SCRATCH=/fake/runs/RUN_ID/scratch LAUNCH_WORLD_SIZE=8 LEARNING_RATE=1e-05 LENGTH_BUCKETING=false LOGGING_STEPS=1 LOGNAME=launch MAX_BATCH_SIZE=64 MAX_STEPS=-1 MLFLOW_ALLOW_FILE_STORE=true MLFLOW_TRACKING_URI=mlruns MODEL=/fake/models/tiny NEGATIVES_CROSS_DEVICE=true NORMALIZE_EMBEDDINGS=true NPROC=4 NUM_TRAIN_EPOCHS=2 NVIDIA_DRIVER_CAPABILITIES=compute,utility NVIDIA_VISIBLE_DEVICES=all OPTIM=adamw_torch OUTPUT=/fake/runs/RUN_ID/output PAD_TO_MULTIPLE_OF=8 'PASSAGE_INSTRUCTION_FORMAT={}{}' PASSAGE_INSTRUCTION_FOR_RETRIEVAL= PASSAGE_MAX_LEN=512 PATCHES=all PATH=/fake/envs/cuda/bin:/fake/programs:/usr/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin:/bin PER_DEVICE_TRAIN_BATCH_SIZE=2 PRECISION=bf16 PYTHONUNBUFFERED=1 'QUERY_INSTRUCTION_FORMAT={}{}' QUERY_INSTRUCTION_FOR_RETRIEVAL= QUERY_MAX_LEN=512 REPORT_TO=none SAME_DATASET_WITHIN_BATCH=true SAVE_STEPS=1000 SAVE_TOTAL_LIMIT=2 SEED=42 SELF_DISTILL_START_STEP=0 SENTENCE_POOLING_METHOD=cls SMALL_THRESHOLD=0 SUB_BATCH_SIZE=0 TARGET=cuda TEMPERATURE=0.02 TOKENIZERS_PARALLELISM=false TRAIN_GROUP_SIZE=8 UNIFIED_FINETUNING=true UNSLOTH_DISABLE_STATISTICS=1 USER=launch USE_SELF_DISTILL=true VIRTUAL_ENV=/fake/envs/cuda WANDB_ERROR_REPORTING=false WANDB_MODE=offline 'WANDB_PROJECT=it'"'"'s' WARMUP_RATIO=0.1 WEIGHT_DECAY=0.01 "${variables[@]}" /fake/envs/cuda/bin/python -I -S /checkout/recipes/runtime/entry.py mask "$memory/values" bash /checkout/recipes/bge-m3-unified.sh --seed '7 8' </dev/null >&3 2>&1 3>&- &
child=$!
: >"$going"
while kill -0 "$child" 2>/dev/null; do
  if [[ -z $asked ]] && read -r said <"$word" && [[ $said != goes ]]; then asked=$said; fi
  if [[ -n $asked ]]; then
    ((told)) || { tell TERM && told=1; }
    case $asked in hangup) most=10 ;; fail) most=30 ;; *) most=0 ;; esac
    ((++waited <= most || most == 0)) || tell KILL
  fi
  sleep 1 </dev/null >/dev/null 2>&1 3>&- &
  wait -n "$child" $!
done
wait "$child"; code=$?
tell KILL
exec 3>&-
for ((each = 0; each < 20; each++)); do
  kill -0 "$pipe" 2>/dev/null || break
  sleep 0.1
done
if [[ $asked == fail ]]; then code=0; fi
if ((code)) && [[ -z $asked ]]; then printf 'fail\n' 1<>"$word"; fi
if ((code == 255)) && [[ $asked != hangup ]]; then : >"$own"; fi
rm -f "$going"
exit "$code"
