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
nodes="${LAUNCH_NODES:-1}"
# The first process of each node converts the data: in one folder of a shared file system they would overwrite
# each other.
((nodes == 1)) || scratch+="/node-${LAUNCH_NODE_RANK:?set LAUNCH_NODE_RANK, from 0 to LAUNCH_NODES - 1}"
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

# Several nodes meet before anything starts; after a restart by the site's scheduler the newest whole checkpoint
# is looked for. Both end here, with their reason, when that fails (runtime/meeting.py).
if ((nodes > 1 || ${LAUNCH_RESTARTS:-0} > 0)); then
    found="$("$python" -m runtime.meeting "${BASH_SOURCE[1]}" "$@")"
    eval "$found"
fi

if ((nodes == 1)); then
    # Loopback by address: in a container without network its own host name does not resolve, and torchrun would
    # wait for it twice 300 s.
    rendezvous=(
        --nnodes 1 --nproc_per_node "$NPROC"
        --rdzv_backend c10d --rdzv_endpoint 127.0.0.1:0 --local_addr 127.0.0.1
    )
else
    # Ranks follow the nodes: c10d numbers the agents by the alphabet of their --local_addr (2.8 and 2.13,
    # dynamic_rendezvous.py: sorted participants), where 10.0.0.10 comes before 10.0.0.9. It is only used as an
    # address on the first of them, whose store the workers reach by it; on the others it is a mere name, so they
    # get one that sorts behind every address, in the order of their numbers.
    host="${LAUNCH_RENDEZVOUS%:*}"
    address="${LAUNCH_NODE_ADDRESS:-${host//[\[\]]/}}"
    ((LAUNCH_NODE_RANK == 0)) || printf -v address '~node-%06d' "$LAUNCH_NODE_RANK"
    # Who holds the store is said, not guessed: torchrun would compare host names, which need be in no DNS.
    # read_timeout is for reaching the store, twice (it tries again), join_timeout for all to be there; the
    # meeting has just seen that they are.
    held=0 wait="${LAUNCH_RENDEZVOUS_TIMEOUT:-60}"
    ((LAUNCH_NODE_RANK > 0)) || held=1
    # Every line says whose it is, and goes through a file for that; only this user may read it.
    mkdir -p "$scratch/ranks"
    chmod 700 "$scratch/ranks"
    export TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE="${TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE-[rank\${rank\}]: }"
    rendezvous=(
        --nnodes "$nodes" --nproc_per_node "$NPROC"
        --rdzv_backend c10d --rdzv_endpoint "$LAUNCH_RENDEZVOUS" --local_addr "$address"
        --rdzv_id "${LAUNCH_RUN_ID:-launch}-${LAUNCH_RESTARTS:-0}"
        --rdzv_conf "is_host=$held,join_timeout=$wait,read_timeout=$wait"
        --tee 3 --log_dir "$scratch/ranks"
    )
fi
