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
container=launch-RUN_ID-1-"$RANK"
for each in "${variables[@]}"; do options+=(--env "$each"); done
tell() { docker kill --signal "$1" "$container"; } >/dev/null 2>&1
docker rm --force "$container" >/dev/null 2>&1
options+=(--mount "type=bind,source=$memory,target=/launch/secrets")
options+=(--gpus all)
setsid docker run --rm --log-driver none ${options[@]+"${options[@]}"} --name "$container" --init --read-only --tmpfs /tmp:rw,exec,nosuid,nodev,mode=1777 --cap-drop ALL --security-opt no-new-privileges --network host --user 1000:1000 --workdir /output --shm-size 16g --mount type=bind,source=/checkout/recipes,target=/launch/recipes,readonly --mount type=bind,source=/checkout/ds_configs,target=/launch/ds_configs,readonly --mount type=bind,source=/fake/data/train.jsonl,target=/data/0/train.jsonl,readonly --mount type=bind,source=/fake/models/tiny,target=/model/tiny,readonly --mount type=bind,source=/fake/runs/RUN_ID/output,target=/output --mount type=bind,source=/fake/runs/RUN_ID,target=/launch/run --mount type=bind,source=/fake/cache/home/cuda,target=/launch/home --mount type=bind,source=/checkout/recipes/runtime/entry.py,target=/launch/entry.py,readonly --env ATTENTION_DROPOUT=-1 --env BUCKET_BATCH_SIZES= --env DATA=/data/0/train.jsonl --env DATALOADER_DROP_LAST=true --env DEEPSPEED=none --env DO_NOT_TRACK=1 --env DROP_THRESHOLD=0 --env FIX_ENCODER=false --env FREEZE_WORD_EMBEDDINGS=false --env GRADIENT_ACCUMULATION_STEPS=1 --env GRADIENT_CHECKPOINTING=true --env HF_HOME=/launch/home/huggingface --env HF_HUB_DISABLE_TELEMETRY=1 --env HF_HUB_OFFLINE=1 --env HOME=/launch/home --env KD_LOSS_TYPE=m3_kd_loss --env KNOWLEDGE_DISTILLATION=false --env LAUNCH_DEVICE=cuda --env LAUNCH_MODEL_NAME=/fake/models/tiny --env LAUNCH_NODES=2 --env LAUNCH_RECIPES=/launch/recipes --env LAUNCH_RUN_DIR=/launch/run --env LAUNCH_RUN_ID=RUN_ID --env LAUNCH_SCRATCH=/launch/run/scratch --env LAUNCH_WORLD_SIZE=8 --env LEARNING_RATE=1e-05 --env LENGTH_BUCKETING=false --env LOGGING_STEPS=1 --env LOGNAME=launch --env MAX_BATCH_SIZE=64 --env MAX_STEPS=-1 --env MLFLOW_ALLOW_FILE_STORE=true --env MLFLOW_TRACKING_URI=mlruns --env MODEL=/model/tiny --env NEGATIVES_CROSS_DEVICE=true --env NORMALIZE_EMBEDDINGS=true --env NPROC=4 --env NUM_TRAIN_EPOCHS=2 --env NVIDIA_DRIVER_CAPABILITIES=compute,utility --env NVIDIA_VISIBLE_DEVICES=all --env OPTIM=adamw_torch --env OUTPUT=/output --env PAD_TO_MULTIPLE_OF=8 --env 'PASSAGE_INSTRUCTION_FORMAT={}{}' --env PASSAGE_INSTRUCTION_FOR_RETRIEVAL= --env PASSAGE_MAX_LEN=512 --env PATCHES=all --env PER_DEVICE_TRAIN_BATCH_SIZE=2 --env PRECISION=bf16 --env PYTHONUNBUFFERED=1 --env 'QUERY_INSTRUCTION_FORMAT={}{}' --env QUERY_INSTRUCTION_FOR_RETRIEVAL= --env QUERY_MAX_LEN=512 --env REPORT_TO=none --env SAME_DATASET_WITHIN_BATCH=true --env SAVE_STEPS=1000 --env SAVE_TOTAL_LIMIT=2 --env SEED=42 --env SELF_DISTILL_START_STEP=0 --env SENTENCE_POOLING_METHOD=cls --env SMALL_THRESHOLD=0 --env SUB_BATCH_SIZE=0 --env TARGET=cuda --env TEMPERATURE=0.02 --env TOKENIZERS_PARALLELISM=false --env TRAIN_GROUP_SIZE=8 --env UNIFIED_FINETUNING=true --env UNSLOTH_DISABLE_STATISTICS=1 --env USER=launch --env USE_SELF_DISTILL=true --env WANDB_ERROR_REPORTING=false --env WANDB_MODE=offline --env 'WANDB_PROJECT=it'"'"'s' --env WARMUP_RATIO=0.1 --env WEIGHT_DECAY=0.01 --label launch.recipe=bge-m3-unified --label launch.run=RUN_ID --label launch.target=cuda finetune:cuda-0123456789ab /opt/venv/bin/python -I -S /launch/entry.py mask /launch/secrets/values bash /launch/recipes/bge-m3-unified.sh --seed '7 8' </dev/null >&3 2>&1 3>&- &
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
