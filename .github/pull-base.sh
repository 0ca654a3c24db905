#!/usr/bin/env bash
# The manifest's base image under the name that the tests of image builds look for. Where registries of images are
# out of reach, tests/support/base-image.sh makes a stand-in of that name.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

base="$(sed -n 's/^ARG BASE=//p' images/cpu/Dockerfile)" # generated from the manifest, pinned by digest
docker pull --quiet "$base"
docker tag "$base" finetune-base:bookworm
