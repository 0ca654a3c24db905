#!/usr/bin/env bash
# Debian's Podman for the tests, behind a socket of its own: root's, and one of a user without root.
#
#   tests/support/podman.sh install             # Debian's packages; needs root
#   tests/support/podman.sh start [rootless]    # serve in the background and wait until it answers
#   eval "$(tests/support/podman.sh env [rootless])"
#   tests/support/podman.sh status [rootless]   # one line; exit 0 if it answers
#   tests/support/podman.sh stop [rootless]     # end what `start` started, and no other
#   tests/support/podman.sh as-user COMMAND …   # run it as the user of `rootless`, with his environment
#
# Started by root, `rootless` is the user launch-podman, whom it makes; started by anybody else, the caller.
# Neither systemd nor a login session is needed. Images, settings and sockets lie in folders of their own:
#
#   root       ~/.cache/finetune-launch-podman (FINETUNE_PODMAN_DIR names another one)
#   rootless   ~/.cache/finetune-launch-podman/rootless, in that user's HOME
set -euo pipefail

readonly USER_NAME=launch-podman
# What Debian's package only recommends: an init for `--init`, ids for user namespaces, a network without root.
readonly PACKAGES=(podman crun runc fuse-overlayfs uidmap slirp4netns catatonit)
readonly START_DEADLINE_S=30
readonly STOP_DEADLINE_S=20

say() { printf 'podman: %s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# --- who and where ----------------------------------------------------------------------------

# Sets HOME_DIR, ROOT and AS (the words that make a command the user's) for `root` or `rootless`.
choose() {
  AS=()
  HOME_DIR="$HOME"
  ROOT="${FINETUNE_PODMAN_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/finetune-launch-podman}"
  case "${1:-root}" in
    root) ((EUID == 0)) || die "root's Podman needs root; there is: $0 start rootless" ;;
    rootless)
      if ((EUID == 0)); then
        id "$USER_NAME" >/dev/null 2>&1 || die "there is no user $USER_NAME: '$0 start rootless' makes it"
        HOME_DIR="$(getent passwd "$USER_NAME" | cut -d: -f6)"
        ROOT="$HOME_DIR/.cache/finetune-launch-podman"
        AS=(setpriv --reuid "$USER_NAME" --regid "$USER_NAME" --init-groups)
      fi
      ROOT="$ROOT/rootless"
      ;;
    *) die "root or rootless, not $1" ;;
  esac
  RUNTIME="$ROOT/run"
  SOCKET="$RUNTIME/podman/podman.sock"
  LOG="$ROOT/service.log"
}

variables() {
  printf '%s\n' "HOME=$HOME_DIR" "XDG_RUNTIME_DIR=$RUNTIME" "CONTAINERS_CONF=$ROOT/containers.conf" \
    "CONTAINERS_STORAGE_CONF=$ROOT/storage.conf" "DOCKER_HOST=unix://$SOCKET"
}

# A command with the chosen Podman's variables, as its user.
within() {
  local settings
  mapfile -t settings < <(variables)
  (cd "$HOME_DIR" && env -u CONTAINER_HOST "${settings[@]}" "${AS[@]}" "$@")
}

answers() { [[ -S $SOCKET ]] && within podman --remote --url "unix://$SOCKET" version >/dev/null 2>&1; }

# --- install ----------------------------------------------------------------------------------

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

# --- start and stop ---------------------------------------------------------------------------

# crun refuses cgroups v1 with controllers beside them in v2 ("hybrid"); runc does not.
runtime() {
  if [[ -n "$(cat /sys/fs/cgroup/unified/cgroup.controllers 2>/dev/null)" ]]; then echo runc; else echo crun; fi
}

# Podman raises these two to a million for root, which takes CAP_SYS_RESOURCE.
limits() {
  local files processes most
  files="$(ulimit -Hn)" processes="$(ulimit -Hu)" most="$(cat /proc/sys/kernel/pid_max)"
  [[ $files == unlimited ]] && files=1048576
  [[ $processes == unlimited ]] || ((processes > most)) && processes="$most"
  printf '["nofile=%s:%s", "nproc=%s:%s"]' "$files" "$files" "$processes" "$processes"
}

write_settings() { # the storage driver
  cat >"$ROOT/containers.conf" <<TOML
[containers]
default_ulimits = $(limits)
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "$(runtime)"
tmp_dir = "$RUNTIME/libpod"
TOML
  cat >"$ROOT/storage.conf" <<TOML
[storage]
driver = "$1"
graphroot = "$ROOT/storage"
rootless_storage_path = "$ROOT/storage"
runroot = "$RUNTIME/containers"
TOML
  ((${#AS[@]} == 0)) || chown -R "$USER_NAME:" "$ROOT/containers.conf" "$ROOT/storage.conf"
}

make_folders() {
  if ((${#AS[@]})); then
    "${AS[@]}" mkdir -p "$RUNTIME/podman"
    "${AS[@]}" chmod 700 "$RUNTIME"
  else
    mkdir -p "$RUNTIME/podman"
    chmod 700 "$RUNTIME"
  fi
}

make_user() {
  ((EUID == 0)) || return 0
  id "$USER_NAME" >/dev/null 2>&1 && return
  useradd --create-home --home-dir "/var/lib/$USER_NAME" --shell /bin/bash "$USER_NAME"
  grep -q "^$USER_NAME:" /etc/subuid || usermod --add-subuids 100000-165535 --add-subgids 100000-165535 "$USER_NAME"
}

start_service() {
  local deadline=$((SECONDS + START_DEADLINE_S))
  command -v podman >/dev/null || die "not installed: run '$0 install' first"
  [[ ${1:-root} == rootless ]] && make_user
  choose "$@"
  if answers; then say "already running"; return; fi
  ((${#SOCKET} < 100)) || die "too long for a unix socket: $SOCKET"
  make_folders
  write_settings overlay
  if ! within podman info >/dev/null 2>&1; then
    say "no overlay here, using vfs"
    write_settings vfs
    within podman info >/dev/null || die "podman info fails"
  fi
  within setsid nohup podman system service --time 0 "unix://$SOCKET" </dev/null >"$LOG" 2>&1 &
  until answers; do
    if ((SECONDS >= deadline)); then
      tail -n 20 "$LOG" >&2
      die "it did not answer within $START_DEADLINE_S s (log: $LOG)"
    fi
    sleep 0.3
  done
  say "$(status_service)"
}

# The service is found by its socket: `setsid` and `env` stand between it and this shell.
service_pid() {
  local file
  for file in /proc/[0-9]*/cmdline; do
    if tr '\0' ' ' 2>/dev/null <"$file" | grep -q "^podman system service --time 0 unix://$SOCKET"; then
      file="${file#/proc/}"
      printf '%s' "${file%/cmdline}"
      return
    fi
  done
}

stop_service() {
  local pid deadline=$((SECONDS + STOP_DEADLINE_S))
  choose "$@"
  pid="$(service_pid)"
  [[ -n $pid ]] || { say "not running"; return; }
  kill "$pid" 2>/dev/null || true
  while kill -0 "$pid" 2>/dev/null; do
    ((SECONDS < deadline)) || { kill -9 "$pid" 2>/dev/null || true; break; }
    sleep 0.2
  done
  rm -f "$SOCKET"
  say "stopped"
}

# --- what to tell the caller ------------------------------------------------------------------

status_service() {
  answers || { echo "no Podman answers"; return 1; }
  within podman info --format \
    'running: Podman {{.Version.Version}}, {{.Store.GraphDriverName}}, {{.Host.OCIRuntime.Name}}, cgroups {{.Host.CgroupsVersion}}, rootless {{.Host.Security.Rootless}}, '"unix://$SOCKET"
}

print_env() {
  answers || die "it does not answer: run '$0 start ${1:-}'"
  # HOME is the caller's own, unless he becomes the user by `as-user`.
  variables | grep -v '^HOME=' | while IFS='=' read -r name value; do
    [[ $name == XDG_RUNTIME_DIR && ${1:-root} == root ]] && continue
    printf 'export %s=%q\n' "$name" "$value"
  done
}

# In the caller's folder, with the caller's variables but those of Podman.
as_user() {
  local settings
  choose rootless
  mapfile -t settings < <(variables)
  exec env -u CONTAINER_HOST "${settings[@]}" USER="$USER_NAME" "${AS[@]}" "$@"
}

command="${1:-}"
shift || true
case "$command" in
  install) install_packages ;;
  start) start_service "$@" ;;
  stop) stop_service "$@" ;;
  status) choose "$@"; status_service ;;
  env) choose "$@"; print_env "$@" ;;
  as-user) as_user "$@" ;;
  *) echo "usage: $0 install | start [rootless] | stop [rootless] | status [rootless] | env [rootless] | as-user COMMAND" >&2; exit 2 ;;
esac
