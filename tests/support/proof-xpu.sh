#!/usr/bin/env bash
# What can be shown of the xpu target without an Intel GPU, without torch's XPU wheels and without Intel's
# drivers: all other packages in an image with its checks, and the same packages training together on a CPU,
# with the registry's torch of the same version in place of the XPU build. See docs/xpu.md.
#
#   tests/support/proof-xpu.sh      # about 8 GB of downloads; needs an engine (engine.sh) and a Python 3.12
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly BASE=finetune-base:bookworm-python3.12 PYTHON=3.12
readonly LEFT_OUT="torch pytorch-triton-xpu torchvision drivers"
readonly VENV="${XDG_CACHE_HOME:-$HOME/.cache}/finetune-launch/proof-xpu"

say() { printf '== %s\n' "$*"; }

image() {
  tests/support/base-image.sh "$BASE" "$PYTHON"
  LAUNCH_BASE="$BASE" make smoke-xpu WITHOUT="$LEFT_OUT"
}

# The view of the lock: one folder of files per layer.
view() {
  local without=()
  for name in $LEFT_OUT; do without+=(--without "$name"); done
  .venv/bin/launch image fetch xpu "${without[@]}" | grep -o '/.*/views/xpu-[0-9a-f]*'
}

environment() {
  local files layer view
  view="$(view)"
  if command -v pyenv >/dev/null; then PYENV_VERSION="$(pyenv latest "$PYTHON")" && export PYENV_VERSION; fi
  .venv/bin/uv venv --quiet --clear --seed --no-config --python "$PYTHON" "$VENV"
  for layer in torch kernels libraries transformers trainers; do files+=("$view/$layer"/*); done
  "$VENV/bin/python" -m pip install --quiet --no-deps --find-links "$view/build" setuptools wheel
  "$VENV/bin/python" -m pip install --quiet --no-deps --no-build-isolation "${files[@]}"
  "$VENV/bin/python" -m pip install --quiet torch==2.9.0 torchvision==0.24.0 pytest hypothesis
}

# A check that says `failed` exits with 1.
checks() {
  local locks
  locks="$(printf '%s:' images/locks/xpu.{torch,kernels,libraries,transformers,trainers}.txt)"
  for check in imports attention bitsandbytes train-m3 train-reranker; do
    TARGET=xpu LOCKS="${locks%:}" WITHOUT=drivers PATH="$VENV/bin:$PATH" LD_LIBRARY_PATH="$VENV/lib" \
      "$VENV/bin/python" "images/checks/$check.py"
  done
}

say "the image, as far as it goes" && image
say "the environment, with another torch 2.9.0" && environment
say "its checks" && checks
say "the runtime and its patches" && cd tests/runtime &&
  PYTHONPATH=../../recipes:../../recipes/tools OMP_NUM_THREADS="$(nproc)" OMP_WAIT_POLICY=PASSIVE \
    LD_LIBRARY_PATH="$VENV/lib" PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 \
    "$VENV/bin/python" -m pytest -c /dev/null -p no:cacheprovider -p no:warnings -q .
