#!/usr/bin/env bash
# Real image registries for the tests (Debian's docker-registry), each in a folder of its own, on 127.0.0.1.
#
#   tests/support/registry.sh install               # the registry, and skopeo and umoci, which look at results
#   tests/support/registry.sh start FOLDER [login] [tls]   # prints HOST:PORT when it answers
#   tests/support/registry.sh stop FOLDER           # end it, and no other; the folder stays
#
# `login` lets in the user "tester" with the password in FOLDER/password, and nobody else. `tls` makes a certificate
# of its own, FOLDER/ca.crt. The port is one that is free.
#
# The registry is unpacked into ~/.cache/finetune-launch-registry (FINETUNE_REGISTRY_DIR), not installed: its package
# would start a service.
set -euo pipefail

readonly ROOT="${FINETUNE_REGISTRY_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/finetune-launch-registry}"
readonly PROGRAM="$ROOT/usr/bin/docker-registry"
readonly BESIDE=(skopeo umoci)
readonly START_DEADLINE_S=20
readonly STOP_DEADLINE_S=10

say() { printf 'registry: %s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

install_packages() {
  local name missing=()
  for name in "${BESIDE[@]}"; do command -v "$name" >/dev/null || missing+=("$name"); done
  if [[ -x $PROGRAM ]] && ((${#missing[@]} == 0)); then say "nothing to install"; return; fi
  ((EUID == 0)) || die "installing docker-registry and ${BESIDE[*]} needs root"
  apt-get -q update >&2
  if ((${#missing[@]})); then
    say "apt-get install ${missing[*]}"
    DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 \
      install --no-install-recommends "${missing[@]}" >&2
  fi
  say "unpacking docker-registry into $ROOT"
  rm -rf "$ROOT/debs" && mkdir -p "$ROOT/debs"
  (cd "$ROOT/debs" && apt-get -q -o APT::Sandbox::User=root download docker-registry >&2)
  dpkg -x "$ROOT"/debs/docker-registry_*.deb "$ROOT"
  rm -rf "$ROOT/debs"
}

# The hash of a password as docker-registry takes it; perl is in every Debian.
write_login() { # folder
  local password salt
  password="$(od -An -N12 -tx1 /dev/urandom | tr -d ' \n')"
  salt="$(od -An -N11 -tx1 /dev/urandom | tr -d ' \n')"
  (umask 077 && printf '%s' "$password" >"$1/password")
  perl -e 'print "tester:", crypt($ARGV[0], "\$2y\$05\$" . $ARGV[1]), "\n"' "$password" "$salt" >"$1/htpasswd"
  printf 'auth: {htpasswd: {realm: tests, path: "%s"}}\n' "$1/htpasswd" >>"$1/config.yml"
}

write_certificate() { # folder
  openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 \
    -keyout "$1/key.pem" -out "$1/ca.crt" 2>/dev/null
}

pid_is_ours() { # folder
  local pid
  pid="$(cat "$1/pid" 2>/dev/null)" && [[ $pid =~ ^[0-9]+$ ]] || return 1
  tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF -- "$1/config.yml"
}

start_registry() { # folder, what it shall have
  local folder tls="" each address deadline=$((SECONDS + START_DEADLINE_S))
  [[ -x $PROGRAM ]] || die "not installed: run '$0 install' first"
  mkdir -p "$1" && folder="$(cd "$1" && pwd)"
  ! pid_is_ours "$folder" || die "one runs in $folder already"
  shift
  for each in "$@"; do
    if [[ $each == tls ]]; then
      write_certificate "$folder"
      tls=", tls: {certificate: \"$folder/ca.crt\", key: \"$folder/key.pem\"}"
    fi
  done
  cat >"$folder/config.yml" <<YAML
version: 0.1
log: {level: info}
storage: {filesystem: {rootdirectory: "$folder/data"}, delete: {enabled: true}}
http: {addr: "127.0.0.1:0"$tls}
YAML
  if [[ " $* " == *" login "* ]]; then write_login "$folder"; fi
  setsid nohup "$PROGRAM" serve "$folder/config.yml" </dev/null >"$folder/log" 2>&1 &
  printf '%s' "$!" >"$folder/pid"
  until address="$(grep -oE 'listening on 127\.0\.0\.1:[0-9]+' "$folder/log" | head -n 1)" && [[ -n $address ]]; do
    if ((SECONDS >= deadline)) || ! kill -0 "$!" 2>/dev/null; then
      tail -n 5 "$folder/log" >&2
      stop_registry "$folder"
      die "it does not answer"
    fi
    sleep 0.1
  done
  printf '%s\n' "${address##* }"
}

stop_registry() { # folder
  local folder pid deadline=$((SECONDS + STOP_DEADLINE_S))
  folder="$(cd "$1" && pwd)"
  if pid_is_ours "$folder"; then
    pid="$(cat "$folder/pid")"
    kill "$pid" 2>/dev/null || true
    while pid_is_ours "$folder"; do
      if ((SECONDS >= deadline)); then kill -9 "$pid" 2>/dev/null || true; fi
      sleep 0.1
    done
  fi
  rm -f "$folder/pid"
}

case "${1:-}" in
  install) install_packages ;;
  start) [[ -n ${2:-} ]] || die "start FOLDER [login] [tls]"; start_registry "${@:2}" ;;
  stop) [[ -d ${2:-} ]] || die "stop FOLDER"; stop_registry "$2" ;;
  *) echo "usage: $0 install | start FOLDER [login] [tls] | stop FOLDER" >&2; exit 2 ;;
esac
