#!/usr/bin/env bash
# The program for Linux on arm64, built on another machine and run there on the scene in the tree.
#
#     packaging/cross/arm64.sh [PROGRAM]
#
# It needs rustup's standard library of that platform (rustup target add aarch64-unknown-linux-gnu), or Debian 12 for
# toolchain.sh; and of Debian gcc-aarch64-linux-gnu (with libc6-dev-arm64-cross) and qemu-user-static. PROGRAM is this
# machine's build (target/debug/engine): its maps are compared with those of arm64.
set -euo pipefail
here=$(realpath "$(dirname "$0")")
cd "$here/../.."
TARGET=aarch64-unknown-linux-gnu
. "$here/build.sh"

export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc
build
try qemu-aarch64-static -L /usr/aarch64-linux-gnu "target/cross/$TARGET/debug/engine"
