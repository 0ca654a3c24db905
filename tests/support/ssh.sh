#!/usr/bin/env bash
# Two machines reached by ssh for the tests, on this host: two sshd, each in namespaces of its own for processes,
# mounts and its name, so that what one does about "its" processes does not reach the other's.
#
#   tests/support/ssh.sh install              # Debian's openssh-server and pdsh, unpacked, not installed
#   tests/support/ssh.sh deepspeed PYTHON     # DeepSpeed's launcher, beside the torch of that Python
#   tests/support/ssh.sh start                # both; waits until both answer
#   eval "$(tests/support/ssh.sh env)"        # PATH with ssh, pdsh and deepspeed that know the two
#   tests/support/ssh.sh status               # one line; exit 0 if both answer
#   tests/support/ssh.sh host down|up NAME    # end one with all of its processes, or start it
#   tests/support/ssh.sh stop                 # end both
#
# Everything lies in ~/.cache/finetune-launch-ssh (FINETUNE_SSH_DIR names another folder): keys, settings, programs.
# The machine's own ssh, its users and its settings stay as they are. The hosts are 127.0.0.1 and 127.0.0.2.
set -euo pipefail

readonly ROOT="${FINETUNE_SSH_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/finetune-launch-ssh}"
readonly PACKAGES=(openssh-server openssh-client libwrap0 pdsh libgenders0)
readonly HOSTS=(127.0.0.1 127.0.0.2)
readonly PORT=26922
readonly DEADLINE_S=20
readonly STAMP="$ROOT/installed-1"
readonly LIBRARIES=usr/lib/x86_64-linux-gnu
LOCK="$(dirname "${BASH_SOURCE[0]}")/../../images/locks/cuda.libraries.txt"
readonly LOCK

say() { printf 'ssh: %s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

install_packages() {
  [[ ! -e $STAMP ]] || { say "nothing to install"; return; }
  rm -rf "$ROOT"
  mkdir -p "$ROOT"/{root,bin,debs}
  say "unpacking ${PACKAGES[*]}"
  apt-get -q update >&2
  (cd "$ROOT/debs" && apt-get -q download "${PACKAGES[@]}" >&2)
  local each
  for each in "$ROOT"/debs/*.deb; do dpkg -x "$each" "$ROOT/root"; done
  ssh-keygen -q -t ed25519 -N '' -f "$ROOT/key"
  ssh-keygen -q -t ed25519 -N '' -f "$ROOT/hostkey"
  # sshd takes its privileges away as a user of this name.
  { cat /etc/passwd; echo 'sshd:x:64999:65534::/run/sshd:/usr/sbin/nologin'; } >"$ROOT/passwd"
  cat >"$ROOT/sshd_config" <<CONF
Port $PORT
HostKey $ROOT/hostkey
AuthorizedKeysFile $ROOT/key.pub
PasswordAuthentication no
PermitRootLogin yes
StrictModes no
UsePAM no
PidFile none
CONF
  cat >"$ROOT/ssh_config" <<CONF
Host *
  Port $PORT
  IdentityFile $ROOT/key
  IdentitiesOnly yes
  UserKnownHostsFile $ROOT/known
  StrictHostKeyChecking accept-new
  LogLevel ERROR
CONF
  program ssh "exec '$ROOT/root/usr/bin/ssh' -F '$ROOT/ssh_config' \"\$@\""
  # pdsh looks for its modules in one place only, and refuses to be called pdsh.bin.
  mv "$ROOT/root/usr/bin/pdsh.bin" "$ROOT/root/pdsh"
  program pdsh "exec unshare --mount sh -c 'mount -t overlay overlay \\
  -o lowerdir=$ROOT/root/$LIBRARIES:/$LIBRARIES /$LIBRARIES && exec $ROOT/root/pdsh \"\$@\"' pdsh \"\$@\""
  touch "$STAMP"
}

program() { # name, line
  printf '#!/bin/sh\n%s\n' "$2" >"$ROOT/bin/$1"
  chmod +x "$ROOT/bin/$1"
}

# The version of the image for GPUs; it is not in the one for CPUs.
install_deepspeed() { # python
  local version own="$ROOT/deepspeed" marked
  version="$(sed -n 's/^deepspeed==\([0-9.]*\).*/\1/p' "$LOCK")"
  marked="$own/$version-of-$(dirname "$1" | tr / _)"
  [[ ! -e $marked ]] || return 0
  say "DeepSpeed $version beside $1"
  rm -rf "$own"
  "$1" -m venv "$own"
  "$1" -c 'import site; print(*site.getsitepackages(), sep="\n")' >"$(echo "$own"/lib/python3*/site-packages)/torch.pth"
  "$own/bin/python" -m pip install -q --no-build-isolation --no-deps \
    "deepspeed==$version" hjson msgpack ninja py-cpuinfo >&2
  ln -sf "$own/bin/deepspeed" "$ROOT/bin/deepspeed"
  touch "$marked"
}

# The first process of a host: killed, it takes all others of its namespace with it.
first_of() { # name
  local outer
  outer="$(cat "$ROOT/$1.pid" 2>/dev/null)" || return 1
  [[ -r /proc/$outer/cmdline && "$(tr '\0' ' ' 2>/dev/null <"/proc/$outer/cmdline")" == unshare* ]] && cat "/proc/$outer/task/$outer/children"
}

start_host() { # name
  first_of "$1" >/dev/null && return
  # shellcheck disable=SC2016  # the inner shell's
  setsid unshare --mount --pid --uts --fork --mount-proc --kill-child bash -c '
    root=$1 address=$2
    mount --bind "$root/passwd" /etc/passwd
    mkdir -p /run/sshd
    hostname "host-${address##*.}"
    export LD_LIBRARY_PATH="$root/root/$3"
    exec "$root/root/usr/sbin/sshd" -D -e -f "$root/sshd_config" -o ListenAddress="$address"
  ' host "$ROOT" "$1" "$LIBRARIES" </dev/null >"$ROOT/$1.log" 2>&1 &
  echo $! >"$ROOT/$1.pid"
}

answers() { "$ROOT/bin/ssh" -o BatchMode=yes "$1" true 2>/dev/null; }

await() { # names
  local name deadline=$((SECONDS + DEADLINE_S))
  for name; do
    until answers "$name"; do
      ((SECONDS < deadline)) || { cat "$ROOT/$name.log" >&2; die "$name does not answer"; }
      sleep 0.1
    done
  done
}

stop_host() { # name
  local first
  first="$(first_of "$1")" || return 0
  [[ -z $first ]] || kill -KILL "${first%% *}" 2>/dev/null || true
  while first_of "$1" >/dev/null; do sleep 0.1; done
}

status_all() {
  local name
  [[ -e $STAMP ]] || { echo "not installed"; return 1; }
  for name in "${HOSTS[@]}"; do answers "$name" || { echo "$name does not answer"; return 1; }; done
  echo "running: ${HOSTS[*]}"
}

case "${1:-}" in
  install) install_packages ;;
  deepspeed) install_deepspeed "$2" ;;
  start)
    ((EUID == 0)) || die "namespaces need root here"
    [[ -e $STAMP ]] || die "not installed: run '$0 install' first"
    for name in "${HOSTS[@]}"; do start_host "$name"; done
    await "${HOSTS[@]}"
    ;;
  env)
    status_all >&2 || exit 1
    # shellcheck disable=SC2016  # the caller's shell expands it
    printf 'export PATH=%q:"$PATH"\n' "$ROOT/bin"
    ;;
  status) status_all ;;
  host)
    if [[ $2 == down ]]; then stop_host "$3"; else start_host "$3"; await "$3"; fi
    ;;
  stop) for name in "${HOSTS[@]}"; do stop_host "$name"; done ;;
  *) sed -n '2,/^set /{/^set /!s/^# \{0,1\}//p}' "$0"; exit 2 ;;
esac
