#!/usr/bin/env bash
# A real Docker Engine for the tests, on a bare Debian 12 machine: root, no init system, and
# nothing in reach but the package registries that the machine is already configured for.
#
#   tests/support/engine.sh install   # do nothing if a usable engine answers, else unpack one
#   tests/support/engine.sh start     # start it in the background and wait until it answers
#   eval "$(tests/support/engine.sh env)"
#   tests/support/engine.sh status    # one line; exit 0 if an engine answers
#   tests/support/engine.sh stop      # stop the daemon that `start` started, and no other
#
# Engine 26.1 comes from Debian's next release, because bookworm's own (20.10) has neither
# `RUN --network=none` nor named build contexts. It is unpacked into a private folder, never
# installed, so that the machine's own packages stay as they are.
#
# FINETUNE_ENGINE_DIR names that folder (default: ~/.cache/finetune-launch-engine).
set -euo pipefail

readonly ROOT="${FINETUNE_ENGINE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/finetune-launch-engine}"
readonly RUN="$ROOT/run"
readonly SOCKET="$RUN/docker.sock"
readonly PIDFILE="$RUN/docker.pid"
readonly CONTAINERD_PIDFILE="$RUN/exec/containerd/containerd.pid"
readonly LOG="$ROOT/dockerd.log"
# The packages and the versions that were tried together; a glob lets security updates in.
readonly SUITE=trixie
readonly PACKAGES=("docker.io=26.1.*" "docker-cli=26.1.*" "containerd=1.7.*" "docker-buildx=0.13.*"
  "docker-compose=2.26.*" "tini=0.19.*")
# Written last by `install`: its presence means that everything before it succeeded. Raise the
# number whenever what `install` unpacks changes.
readonly STAMP="$ROOT/installed-3"
readonly START_DEADLINE_S=60
readonly STOP_DEADLINE_S=30

say() { printf 'engine: %s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# --- which engine answers ---------------------------------------------------------------------

own_docker() {
  DOCKER_HOST="unix://$SOCKET" DOCKER_CONFIG="$ROOT/config" "$ROOT/usr/bin/docker" "$@"
}

own_answers() { [[ -S $SOCKET && -x $ROOT/usr/bin/docker ]] && own_docker info >/dev/null 2>&1; }

# The engine that the caller's environment points to, if it is new enough for the image builds
# (BuildKit with named contexts: Docker >= 23, and the buildx plugin).
other_answers() {
  local version
  command -v docker >/dev/null || return 1
  version="$(timeout 20 docker info --format '{{.ServerVersion}}' 2>/dev/null)" || return 1
  [[ ${version%%.*} =~ ^[0-9]+$ ]] && ((${version%%.*} >= 23)) || return 1
  docker buildx version >/dev/null 2>&1
}

# --- install ----------------------------------------------------------------------------------

# apt with its own sources, lists and cache: those of the machine are neither read nor changed.
private_apt() {
  apt-get -q \
    -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$ROOT/apt/sources" \
    -o Dir::State::lists="$ROOT/apt/lists" -o Dir::Cache="$ROOT/apt/cache" \
    -o APT::Sandbox::User=root -o Acquire::Languages=none "$@"
}

# The machine's own source lines with the release's name replaced, so that whatever mirror the
# machine uses is used here too.
write_private_sources() {
  local codename file
  # shellcheck source=/dev/null
  codename="$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")"
  [[ -n $codename ]] || die "/etc/os-release names no release (Debian 12 is expected)"
  mkdir -p "$ROOT/apt/sources" "$ROOT/apt/lists/partial" "$ROOT/apt/cache/archives/partial"
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources}; do
    grep -Eqs "^(deb|Suites:).*[[:space:]]$codename\>" "$file" || continue
    sed -E "/^(deb|Suites:)/ s/([[:space:]])$codename\>/\1$SUITE/g" "$file" \
      >"$ROOT/apt/sources/${file##*/}"
  done
  [[ -n "$(ls -A "$ROOT/apt/sources")" ]] || die "no package source of $codename under /etc/apt"
}

# runc must be the machine's own (trixie's wants a newer libc); iptables makes the bridge network.
install_system_packages() {
  local missing=()
  command -v runc >/dev/null || missing+=(runc)
  command -v iptables >/dev/null || missing+=(iptables)
  ((${#missing[@]})) || return 0
  say "apt-get install ${missing[*]}"
  apt-get -q update >&2
  DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 \
    install --no-install-recommends "${missing[@]}" >&2
}

unpack_packages() {
  local deb
  say "unpacking ${PACKAGES[*]} from $SUITE into $ROOT"
  write_private_sources
  private_apt update >&2
  rm -rf "$ROOT/debs" && mkdir -p "$ROOT/debs" "$ROOT/config/cli-plugins"
  (cd "$ROOT/debs" && private_apt download "${PACKAGES[@]}" >&2)
  for deb in "$ROOT"/debs/*.deb; do dpkg -x "$deb" "$ROOT"; done
  ln -sf "$ROOT"/usr/libexec/docker/cli-plugins/docker-{buildx,compose} "$ROOT/config/cli-plugins/"
  # `docker run --init` looks for a program of this name.
  ln -sf tini-static "$ROOT/usr/bin/docker-init"
  rm -rf "$ROOT/debs" "$ROOT/apt"
}

install_engine() {
  if own_answers || other_answers; then say "a usable engine answers; nothing to install"; return; fi
  ((EUID == 0)) || die "no Docker >= 23 with buildx answers, and installing it needs root"
  install_system_packages
  if [[ -f $STAMP ]]; then say "already unpacked in $ROOT"; return; fi
  unpack_packages
  : >"$STAMP"
  say "installed $("$ROOT/usr/bin/docker" --version)"
}

# --- start and stop ---------------------------------------------------------------------------

# True if the process in the given pid file is alive and is ours: a pid file outlives a reboot or
# a copied disk, and its number may belong to somebody else by now.
pid_is_ours() {
  local pid
  pid="$(cat "$1" 2>/dev/null)" && [[ $pid =~ ^[0-9]+$ ]] || return 1
  tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF -- "$ROOT/"
}

# The bridge must not announce larger packets than the way out carries, or downloads inside
# containers stall (some virtual machines have an uplink of less than 1500 bytes).
uplink_mtu() {
  local device
  device="$(awk '$2 == "00000000" {print $1; exit}' /proc/net/route)"
  cat "/sys/class/net/$device/mtu" 2>/dev/null || printf '1500'
}

# The containerd image store makes `buildx --output type=oci` and reproducible digests possible.
write_daemon_json() {
  local mtu
  mtu="$(uplink_mtu)"
  cat >"$ROOT/daemon.json" <<JSON
{
  "features": {"containerd-snapshotter": true},
  "hosts": ["unix://$SOCKET"],
  "data-root": "$ROOT/data",
  "exec-root": "$RUN/exec",
  "pidfile": "$PIDFILE",
  "mtu": $mtu,
  "default-network-opts": {"bridge": {"com.docker.network.driver.mtu": "$mtu"}}
}
JSON
}

start_engine() {
  local pid deadline=$((SECONDS + START_DEADLINE_S))
  if own_answers; then say "already running"; return; fi
  if other_answers; then say "another usable engine answers; nothing to start"; return; fi
  [[ -f $STAMP ]] || die "not installed: run '$0 install' first"
  ((${#SOCKET} < 90)) || die "too long for a unix socket, set FINETUNE_ENGINE_DIR: $SOCKET"
  mkdir -p "$RUN"
  pid_is_ours "$PIDFILE" && die "a daemon runs but does not answer: '$0 stop' first (log: $LOG)"
  rm -f "$PIDFILE" "$SOCKET"
  pid_is_ours "$CONTAINERD_PIDFILE" || rm -f "$CONTAINERD_PIDFILE"
  write_daemon_json
  # A session of its own and no inherited descriptors, so that it outlives this shell, and a
  # caller that reads this script's output sees its end. 9 is the lock.
  PATH="$ROOT/usr/bin:$ROOT/usr/sbin:$PATH:/usr/sbin:/sbin" \
    setsid nohup "$ROOT/usr/sbin/dockerd" --config-file "$ROOT/daemon.json" \
    </dev/null >"$LOG" 2>&1 9>&- &
  pid=$!
  until own_answers; do
    if ! kill -0 "$pid" 2>/dev/null; then
      tail -n 20 "$LOG" >&2
      die "the daemon ended (log: $LOG)"
    fi
    if ((SECONDS >= deadline)); then
      kill "$pid" 2>/dev/null || true
      tail -n 20 "$LOG" >&2
      die "the daemon did not answer within $START_DEADLINE_S s (log: $LOG)"
    fi
    sleep 0.3
  done
  say "$(status_engine)"
}

# Ask the process of a pid file to end; after the deadline, end it.
end_process() {
  local pid deadline=$((SECONDS + STOP_DEADLINE_S))
  pid_is_ours "$1" || { rm -f "$1"; return 0; }
  pid="$(cat "$1")"
  kill "$pid" 2>/dev/null || true
  while kill -0 "$pid" 2>/dev/null; do
    if ((SECONDS >= deadline)); then
      say "process $pid did not end in time, killing it"
      kill -9 "$pid" 2>/dev/null || true
      break
    fi
    sleep 0.2
  done
  rm -f "$1"
}

stop_engine() {
  pid_is_ours "$PIDFILE" || pid_is_ours "$CONTAINERD_PIDFILE" || { say "not running"; return; }
  end_process "$PIDFILE"            # takes its containers and its containerd along …
  end_process "$CONTAINERD_PIDFILE" # … unless it had to be killed
  rm -f "$SOCKET"
  say "stopped"
}

# --- what to tell the caller ------------------------------------------------------------------

status_engine() {
  if own_answers; then
    own_docker info --format 'running: Docker {{.ServerVersion}}, {{.Driver}}, '"unix://$SOCKET"
  elif other_answers; then
    docker info --format 'another engine answers: Docker {{.ServerVersion}}, {{.Driver}}'
  else
    echo "no engine answers"
    return 1
  fi
}

# Nothing to say where the caller's own engine is the one in use.
print_env() {
  if ! own_answers && other_answers; then return; fi
  printf 'export DOCKER_HOST=%q\n' "unix://$SOCKET"
  printf 'export DOCKER_CONFIG=%q\n' "$ROOT/config"
  # Before the rest of PATH: the client must be as old as the engine, whatever else is installed.
  # shellcheck disable=SC2016  # $PATH is for the caller's shell to expand
  printf 'export PATH=%q:"$PATH"\n' "$ROOT/usr/bin"
}

# One install, start or stop at a time; a second caller waits for the first.
locked() {
  mkdir -p "$ROOT"
  exec 9>"$ROOT/lock"
  flock -w 300 9 || die "another '$0' holds $ROOT/lock"
  "$@"
}

case "${1:-}" in
  install) locked install_engine ;;
  start) locked start_engine ;;
  stop) locked stop_engine ;;
  status) status_engine ;;
  env) print_env ;;
  *) echo "usage: $0 install | start | stop | status | env" >&2; exit 2 ;;
esac
