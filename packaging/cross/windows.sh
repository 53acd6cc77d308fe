#!/usr/bin/env bash
# The program for Windows, built on Linux with mingw and run by wine on the scene in the tree.
#
#     packaging/cross/windows.sh [PROGRAM]
#
# It needs rustup's standard library of that platform (rustup target add x86_64-pc-windows-gnu), or Debian 12 for
# toolchain.sh: Debian's Rust has no library for Windows, so its sources are compiled, too. And of Debian
# gcc-mingw-w64-x86-64-posix and wine64. PROGRAM is this machine's build (target/debug/engine): its maps are compared
# with those of Windows.
set -euo pipefail
here=$(realpath "$(dirname "$0")")
cd "$here/../.."
TARGET=x86_64-pc-windows-gnu
. "$here/build.sh"

export CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER=x86_64-w64-mingw32-gcc-posix
export WINEDEBUG=${WINEDEBUG:--all} WINEPREFIX=${WINEPREFIX:-$PWD/target/cross/wine}
build
try "$(command -v wine64 || echo /usr/lib/wine/wine64)" "target/cross/$TARGET/debug/engine.exe"
