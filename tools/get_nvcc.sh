#!/usr/bin/env bash
# Installs CUDA's compiler from PyPI into .cuda/ (which git ignores): 104 MB to download, 271 MB on disk. It needs no
# GPU and no driver. All five packages are pinned: nvcc's own dependencies are not, and pip would mix releases whose PTX
# no driver of theirs reads.
#
#     tools/get_nvcc.sh                   the compiler
#     tools/get_nvcc.sh old-assemblers    also the assemblers of CUDA 11.8 and 12.0 (45 MB more), with which
#                                         `cargo test --test ptx` checks that older drivers can read the kernels
set -euo pipefail
cd "$(dirname "$0")/.."
get() { python3 -m pip install --quiet --no-deps --disable-pip-version-check --root-user-action=ignore "$@"; }

if [ ! -x .cuda/nvidia/cu13/bin/nvcc ]; then
    get --target .cuda nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 \
        nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85
    .cuda/nvidia/cu13/bin/nvcc --version | tail -2
fi

# The disassembler, with which `cargo test --test kernel_budget` counts instructions (6 MB). CUDA 13.0's is not on PyPI;
# this one reads its code.
if [ ! -x .cuda/nvdisasm ]; then
    rm -rf .cuda/disassembler
    get --target .cuda/disassembler nvidia-cuda-nvdisasm==13.2.86
    mv .cuda/disassembler/nvidia/cu13/bin/nvdisasm .cuda/nvdisasm
    rm -r .cuda/disassembler
fi

# Of an older release nothing but ptxas, as .cuda/ptxas-RELEASE.
assembler() {
    [ -x ".cuda/ptxas-$1" ] && return
    rm -rf .cuda/older
    get --target .cuda/older "$2"
    cp .cuda/older/nvidia/cuda_nvcc/bin/ptxas .cuda/ptxas.part
    chmod +x .cuda/ptxas.part
    mv .cuda/ptxas.part ".cuda/ptxas-$1"
    rm -r .cuda/older
}
if [ "${1:-}" = old-assemblers ]; then
    assembler 11.8 nvidia-cuda-nvcc-cu11==11.8.89
    assembler 12.0 nvidia-cuda-nvcc-cu12==12.0.140
fi
