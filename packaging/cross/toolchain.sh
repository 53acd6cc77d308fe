#!/usr/bin/env bash
# A compiler that knows another platform's standard library, for machines on which rustup cannot fetch one: Debian 12's
# newer Rust for browsers, unpacked into a folder and not installed. Prints the path of a `rustc`.
#
#     packaging/cross/toolchain.sh [FOLDER]        (target/cross/toolchain unless told otherwise)
#
# It needs Debian 12 with its security archive, and 1.1 GB. Tried on 2026-11-28 with rustc-web 1.96.0.
set -euo pipefail
folder=$(realpath -m "${1:-$(dirname "$0")/../../target/cross/toolchain}")
rustc=$folder/rustc

if [ ! -x "$rustc" ]; then
    mkdir -p "$folder/lists/partial" "$folder/debs" "$folder/root"
    # Lists of its own: dpkg of this machine need not know of arm64.
    own=(-o APT::Architectures::=amd64 -o APT::Architectures::=arm64 -o Dir::State::Lists="$folder/lists"
        -o APT::Sandbox::User=root)
    cd "$folder/debs"
    apt-get "${own[@]}" -qq update >&2
    # The compiler, what it loads, the libraries of both platforms as they are and as sources (for Windows).
    needs() { apt-cache "${own[@]}" depends "$1" | sed -n "s/.*Depends: \\($2.*\\)/\\1/p" | head -1; }
    library=$(needs libstd-rust-web-dev libstd-rust-web-1)
    llvm=$(needs "$library" libllvm)
    apt-get "${own[@]}" -qq download rustc-web "$library" "$llvm" rust-web-src libstd-rust-web-dev \
        libstd-rust-web-dev:arm64 >&2
    for package in *.deb; do dpkg-deb -x "$package" "$folder/root"; done
    rm -- *.deb
    cat >"$rustc" <<END
#!/bin/sh
export LD_LIBRARY_PATH=$folder/root/usr/lib/x86_64-linux-gnu\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}
exec $folder/root/usr/bin/rustc "\$@"
END
    chmod +x "$rustc"
fi
"$rustc" --version >&2
echo "$rustc"
