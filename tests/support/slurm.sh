#!/usr/bin/env bash
# A real Slurm for the tests: Debian's, two nodes on this host, with a key and folders of its own.
#
#   tests/support/slurm.sh install              # Debian's packages; needs root
#   tests/support/slurm.sh start                # munged, slurmctld and two slurmd; waits until both nodes are idle
#   eval "$(tests/support/slurm.sh env)"        # SLURM_CONF, and nothing else
#   tests/support/slurm.sh status               # one line; exit 0 if both nodes are there
#   tests/support/slurm.sh node down|up NAME    # end one node's daemon with all of its jobs' processes, or start it
#   tests/support/slurm.sh stop                 # end what `start` started, and no other
#
# Everything lies in ~/.cache/finetune-launch-slurm (FINETUNE_SLURM_DIR names another folder). Nodes are called n1 and
# n2, have two CPUs each and two pretended GPUs; they are in no DNS, as on many clusters of one's own making.
set -euo pipefail

readonly PACKAGES=(slurmctld slurmd slurm-client munge slurm-wlm-basic-plugins)
readonly ROOT="${FINETUNE_SLURM_DIR:-$HOME/.cache/finetune-launch-slurm}"
readonly CONF="$ROOT/slurm.conf"
readonly DEADLINE_S=30
readonly NODES=(n1 n2)
readonly PORT=26817 # of slurmctld; the nodes have the next ones

say() { printf 'slurm: %s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

install_packages() {
  local name missing=()
  for name in "${PACKAGES[@]}"; do
    dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q '^install ok' || missing+=("$name")
  done
  ((${#missing[@]})) || { say "nothing to install"; return; }
  ((EUID == 0)) || die "installing ${missing[*]} needs root"
  say "apt-get install ${missing[*]}"
  apt-get -q update >&2
  DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 \
    install --no-install-recommends "${missing[@]}" >&2
}

write_settings() {
  local port=$((PORT + 1)) name number
  mkdir -p "$ROOT"/{state,munge,log,run} "${NODES[@]/#/$ROOT/spool/}"
  chmod 711 "$ROOT/munge"
  if [[ ! -s $ROOT/munge/key ]]; then
    (umask 077; head -c 1024 /dev/urandom >"$ROOT/munge/key")
    chmod 400 "$ROOT/munge/key"
  fi
  # Character devices that anybody may open stand for GPUs: Slurm counts them and says which a task has.
  for number in 0 1; do
    [[ -e $ROOT/gpu$number ]] || mknod "$ROOT/gpu$number" c 1 3
  done
  printf 'Name=gpu File=%s/gpu[0-1]\n' "$ROOT" >"$ROOT/gres.conf"
  cat >"$CONF" <<CONF
ClusterName=finetune
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=$PORT
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$ROOT/munge/socket,cred_expire=5
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
KillWait=5
SlurmdTimeout=8
MinJobAge=600
JobRequeue=1
SlurmdParameters=config_overrides
GresTypes=gpu
StateSaveLocation=$ROOT/state
SlurmdSpoolDir=$ROOT/spool/%n
SlurmctldPidFile=$ROOT/run/slurmctld.pid
SlurmdPidFile=$ROOT/run/slurmd-%n.pid
SlurmctldLogFile=$ROOT/log/slurmctld.log
SlurmdLogFile=$ROOT/log/slurmd-%n.log
PartitionName=main Nodes=n[1-2] Default=YES MaxTime=60 State=UP
PartitionName=small Nodes=n1 MaxTime=10 State=UP
CONF
  for name in "${NODES[@]}"; do
    echo "NodeName=$name NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=$port CPUs=2 RealMemory=8000 Gres=gpu:2" >>"$CONF"
    port=$((port + 1))
  done
}

# The process that a pid file names, if it still is that program.
running() { # file, program
  local pid
  pid="$(cat "$1" 2>/dev/null)" || return 1
  [[ -n $pid && "$(cat "/proc/$pid/comm" 2>/dev/null)" == "$2" ]] && printf '%s' "$pid"
}

start_node() {
  running "$ROOT/run/slurmd-$1.pid" slurmd >/dev/null || SLURM_CONF="$CONF" slurmd -N "$1"
}

start_all() {
  local deadline=$((SECONDS + DEADLINE_S)) name
  ((EUID == 0)) || die "Slurm's daemons need root here"
  command -v slurmctld >/dev/null || die "not installed: run '$0 install' first"
  if status_all >/dev/null 2>&1; then say "already running"; return; fi
  write_settings
  running "$ROOT/munge/pid" munged >/dev/null ||
    munged --force --key-file "$ROOT/munge/key" --socket "$ROOT/munge/socket" --pid-file "$ROOT/munge/pid" \
      --log-file "$ROOT/log/munged.log" --seed-file "$ROOT/munge/seed" >&2
  running "$ROOT/run/slurmctld.pid" slurmctld >/dev/null || SLURM_CONF="$CONF" slurmctld
  for name in "${NODES[@]}"; do start_node "$name"; done
  until status_all >/dev/null 2>&1; do
    if ((SECONDS >= deadline)); then
      tail -n 15 "$ROOT"/log/*.log >&2
      die "both nodes were not idle within $DEADLINE_S s"
    fi
    sleep 0.3
  done
  say "$(status_all)"
}

status_all() {
  local states
  states="$(SLURM_CONF="$CONF" sinfo --noheader --Node --partition main --format '%N %t' 2>/dev/null)" || return 1
  if [[ "$(grep -cE ' (idle|mix|alloc|comp)$' <<<"$states")" != "${#NODES[@]}" ]]; then
    echo "not all nodes are there: $(tr '\n' ' ' <<<"$states")"
    return 1
  fi
  echo "running: $(SLURM_CONF="$CONF" sinfo --version), $(tr '\n' ' ' <<<"$states")"
}

# Ends one daemon and waits for it.
end() { # pid file, program, signal
  local pid deadline=$((SECONDS + 15))
  pid="$(running "$1" "$2")" || return 0
  kill "-${3:-TERM}" "$pid" 2>/dev/null || true
  while kill -0 "$pid" 2>/dev/null; do
    ((SECONDS < deadline)) || { kill -KILL "$pid" 2>/dev/null || true; break; }
    sleep 0.1
  done
}

# A process and whatever it has started, the youngest last.
family() { # pid
  local child
  printf '%s\n' "$1"
  for child in $(pgrep -P "$1" || true); do family "$child"; done
}

# As a machine that loses its power: its daemon, its step managers, and what they started. Halted first, so that
# nobody sees another one end and has time to say so.
node_down() {
  local manager pid pids=()
  end "$ROOT/run/slurmd-$1.pid" slurmd KILL
  for manager in $(pgrep -x slurmstepd || true); do
    for pid in $(pgrep -P "$manager" || true); do # only what it started says where it is
      if tr '\0' '\n' 2>/dev/null <"/proc/$pid/environ" | grep -qx "SLURMD_NODENAME=$1"; then
        mapfile -t -O "${#pids[@]}" pids < <(family "$manager")
        break
      fi
    done
  done
  ((${#pids[@]})) || return 0
  kill -STOP "${pids[@]}" 2>/dev/null || true
  kill -KILL "${pids[@]}" 2>/dev/null || true
}

stop_all() {
  local name
  SLURM_CONF="$CONF" scancel --user root >/dev/null 2>&1 || true
  for name in "${NODES[@]}"; do end "$ROOT/run/slurmd-$name.pid" slurmd; done
  end "$ROOT/run/slurmctld.pid" slurmctld
  end "$ROOT/munge/pid" munged
  rm -rf "$ROOT/state" "$ROOT/spool"
  say "stopped"
}

print_env() {
  status_all >/dev/null || die "it does not answer: run '$0 start'"
  printf 'export SLURM_CONF=%q\n' "$CONF"
}

case "${1:-}" in
  install) install_packages ;;
  start) start_all ;;
  stop) stop_all ;;
  status) status_all ;;
  env) print_env ;;
  node)
    case "${2:-}" in
      down) node_down "${3:?a node}" ;;
      up) start_node "${3:?a node}" ;;
      *) die "node down|up NAME" ;;
    esac
    ;;
  *) echo "usage: $0 install | start | stop | status | env | node down|up NAME" >&2; exit 2 ;;
esac
