#!/usr/bin/env bash
# A GitHub runner as image builds want it: room for an image of 12 GB, and an engine that keeps its images in
# containerd, where they are bit-reproducible. Changes the whole machine, so it refuses to run anywhere else.
set -euo pipefail

[[ ${GITHUB_ACTIONS:-} == true && ${RUNNER_ENVIRONMENT:-} == github-hosted ]] \
  || { echo "only for runners that GitHub hosts, which are thrown away" >&2; exit 1; }

# Tool chains that nothing here uses, about 30 GB.
sudo rm -rf /usr/local/lib/android /usr/share/dotnet /usr/share/swift /usr/local/.ghcup /opt/hostedtoolcache/CodeQL

available() { df --output=avail -B1 "$1" | tail -n 1; }

sudo systemctl stop docker.socket docker containerd

# Some runners have a second disk. What grows goes there if it is the larger one: images, layers, fetched files.
cache="$HOME/.cache/finetune-launch"
mkdir -p "$cache"
if mountpoint -q /mnt && (($(available /mnt) > $(available /))); then
  for folder in /var/lib/docker /var/lib/containerd "$cache"; do
    sudo mkdir -p "$folder" "/mnt$folder"
    sudo mount --bind "/mnt$folder" "$folder"
  done
  sudo chown "$(id -u):$(id -g)" "$cache"
fi

# Beside whatever the runner's own configuration says.
settings=/etc/docker/daemon.json
[[ -s $settings ]] || echo '{}' | sudo tee "$settings" >/dev/null
jq '.features["containerd-snapshotter"] = true' "$settings" >"$RUNNER_TEMP/daemon.json"
sudo install -m 644 "$RUNNER_TEMP/daemon.json" "$settings"

sudo systemctl start containerd docker
docker info --format 'Docker {{.ServerVersion}}, {{.Driver}}, {{.DriverStatus}}'
df -h / /mnt
