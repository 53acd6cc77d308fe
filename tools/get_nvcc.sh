#!/usr/bin/env bash
# Installs CUDA's compiler from PyPI into .cuda/ (which git ignores): 104 MB to download, 271 MB on disk. It needs no
# GPU and no driver. All five packages are pinned: nvcc's own dependencies are not, and pip would mix releases whose PTX
# no driver of theirs reads.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x .cuda/nvidia/cu13/bin/nvcc ] && exit 0
python3 -m pip install --quiet --no-deps --disable-pip-version-check --root-user-action=ignore --target .cuda \
    nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cuda-runtime==13.0.96 \
    nvidia-cuda-cccl==13.0.85
.cuda/nvidia/cu13/bin/nvcc --version | tail -2
