#!/usr/bin/env bash
# A stand-in for the base image `debian:bookworm-slim`, made from packages alone, for machines
# that reach no image registry. Does nothing if the tag exists. Prints the image's ID.
#
#   tests/support/base-image.sh [TAG [PYTHON]]   # default: finetune-base:bookworm
#
# PYTHON, e.g. 3.12, puts that Python of this machine into /usr/local, for targets whose own base
# has another one than bookworm. It is found by `uv python find`; no package registry has it.
#
# Needs a Docker engine that answers (see engine.sh) and, to make the image, Debian and root.
# The same packages give the same ID, on every machine: nothing of the machine or of the clock
# gets in, unless a Python does.
set -euo pipefail

readonly TAG="${1:-finetune-base:bookworm}" PYTHON="${2:-}"
# No file is newer than this. Not 0: zip files, so Python wheels too, cannot say a time before 1980.
export SOURCE_DATE_EPOCH=1735689600 # 2025-01-01

say() { printf 'base-image: %s\n' "$*" >&2; }

image_id() { docker image inspect --format '{{.Id}}' "$TAG" 2>/dev/null; }

install_mmdebstrap() {
  command -v mmdebstrap >/dev/null && return
  ((EUID == 0)) || { say "error: mmdebstrap is missing, and installing it needs root"; exit 1; }
  apt-get -q update >&2
  DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 \
    install --no-install-recommends mmdebstrap >&2
}

# The machine's own package sources: its mirror is the one that is in reach from a build, too.
package_sources() {
  local file
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources}; do
    grep -Eqs '^(deb|Suites:).*[[:space:]]bookworm\>' "$file" && printf '%s\n' "$file"
  done
}

# The root file system as a tar file: only essential packages, without documentation and
# translations, with the settings for apt that Debian's own slim image has.
make_root() {
  local sources
  mapfile -t sources < <(package_sources)
  ((${#sources[@]})) || { say "error: no package source of bookworm found under /etc/apt"; exit 1; }
  # shellcheck disable=SC2016  # $1, the new root, is for mmdebstrap's shell to expand
  mmdebstrap --quiet --variant=minbase \
    --include=usr-is-merged --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --dpkgopt='path-exclude=/usr/share/info/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/lintian/overrides/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-include=/usr/share/locale/locale.alias' \
    --customize-hook='rm -f "$1/etc/resolv.conf" "$1/etc/hostname" "$1"/var/cache/apt/*.bin' \
    --customize-hook='cat >"$1/etc/apt/apt.conf.d/docker-clean"' \
    bookworm "$1" "${sources[@]}" <<'APT'
DPkg::Post-Invoke { "cd /var/cache/apt && rm -f archives/*.deb archives/partial/*.deb *.bin || true"; };
APT::Update::Post-Invoke { "cd /var/cache/apt && rm -f archives/*.deb archives/partial/*.deb *.bin || true"; };
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Acquire::Languages "none";
Acquire::GzipIndexes "true";
Apt::AutoRemove::SuggestsImportant "false";
APT
}

# The folder of the machine's own Python, in which bin/ and lib/ are.
python_prefix() {
  local uv="${UV:-$(dirname "$0")/../../.venv/bin/uv}" found
  # pyenv's stand-ins on the PATH run nothing but the version that it is told.
  if command -v pyenv >/dev/null; then PYENV_VERSION="$(pyenv latest "$PYTHON")" && export PYENV_VERSION; fi
  found="$("$uv" python find --no-project --no-python-downloads "$PYTHON")" ||
    { say "error: no Python $PYTHON on this machine: uv python install $PYTHON"; exit 1; }
  "$found" -c 'import sys; print(sys.base_prefix)'
}

# Beside the root's own files, dated back as they are. Python finds its modules from its own place.
add_python() {
  local prefix
  prefix="$(python_prefix)"
  tar --append --file "$1" --directory "$prefix" --transform 's,^,usr/local/,S' --owner 0 --group 0 \
    --sort name --mtime "@$SOURCE_DATE_EPOCH" --exclude __pycache__ --exclude test --exclude '*.a' \
    "bin/python$PYTHON" "include/python$PYTHON" "lib/python$PYTHON" \
    "lib/libpython$PYTHON.so.1.0" 2>&1
}

# Sent in the format of `docker save`, whose configuration is ours to write: `docker import` would
# put the time of day into it.
load_image() {
  local work="$1" created layer
  created="$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)"
  layer="$(sha256sum "$work/layer.tar" | cut -d' ' -f1)"
  cat >"$work/config.json" <<JSON
{"architecture":"$(dpkg --print-architecture)","os":"linux","created":"$created",
 "config":{"Cmd":["bash"],"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
 "history":[{"created":"$created","created_by":"mmdebstrap --variant=minbase bookworm"}],
 "rootfs":{"type":"layers","diff_ids":["sha256:$layer"]}}
JSON
  printf '[{"Config":"config.json","RepoTags":["%s"],"Layers":["layer.tar"]}]\n' "$TAG" \
    >"$work/manifest.json"
  tar -C "$work" -c manifest.json config.json layer.tar | docker load >&2
}

docker info >/dev/null || { say "error: no Docker engine answers (see engine.sh)"; exit 1; }
if ! image_id >/dev/null; then
  work="$(mktemp -d)"
  trap 'rm -rf "$work"' EXIT
  install_mmdebstrap
  say "making $TAG"
  make_root "$work/layer.tar" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
  if [[ -n $PYTHON ]]; then add_python "$work/layer.tar" >&2; fi
  load_image "$work"
fi
image_id
