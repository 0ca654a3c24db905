# shellcheck shell=bash disable=SC2034,SC2154
# Sourced by every recipe: the environment that a recipe may rely on. What the launcher sets is kept, what is
# missing gets the default of the recipe's own header, so that plain bash is enough to run one.
: "${TARGET:=cpu}" "${NPROC:=1}" "${OUTPUT:?set OUTPUT to the folder of the result}"

python="$(command -v python || command -v python3)"
defaults="$("$python" "$here/runtime/header.py" "${BASH_SOURCE[1]}" "$TARGET" "$@")"
eval "$defaults"

# DATA lists paths like PATH does.
IFS=: read -r -a data <<<"${DATA:-}"

# Caches of this run (converted data); the launcher points it at a folder of its own.
scratch="${LAUNCH_SCRATCH:-${TMPDIR:-/tmp}/launch-scratch-$UID}"
mkdir -p "$scratch"

# Where loggers write (--report-to) that no variable sends elsewhere: into the record, and to no server. A setting of
# theirs comes as a variable of its own name, a key never in any other way.
record="${LAUNCH_RUN_DIR:-$OUTPUT}"
recipe="$(basename "${BASH_SOURCE[1]}" .sh)"
export WANDB_DIR="${WANDB_DIR:-$record}" WANDB_MODE="${WANDB_MODE:-offline}" WANDB_PROJECT="${WANDB_PROJECT:-$recipe}"
export MLFLOW_EXPERIMENT_NAME="${MLFLOW_EXPERIMENT_NAME:-$recipe}"
[[ ${MLFLOW_TRACKING_URI:-mlruns} != mlruns ]] || export MLFLOW_TRACKING_URI="$record/mlruns"
export MLFLOW_ALLOW_FILE_STORE="${MLFLOW_ALLOW_FILE_STORE:-true}" # files of a run, not a server's database

# The runtime package lies beside the recipes.
export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"

# Threads per process: torchrun would take 1 for several processes, and every core each for one.
cores="$(nproc)"
threads=$((cores / NPROC))
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$((threads > 0 ? threads : 1))}"
# OpenMP's threads wait spinning by default: beside any other busy process a step takes ten times as long
# (two threads, one process beside them: 2.6 s; passive: 0.8 s; alone the same 0.3 s).
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}"

# Loopback by address: in a container without network its own host name does not resolve, and torchrun would
# wait for it twice 300 s.
rendezvous=(
    --nnodes 1 --nproc_per_node "$NPROC"
    --rdzv_backend c10d --rdzv_endpoint 127.0.0.1:0 --local_addr 127.0.0.1
)
