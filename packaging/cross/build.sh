# What arm64.sh and windows.sh have in common; they set TARGET and PROGRAM's place ($1), and stand in the tree's folder.
program=${1:-target/debug/engine}

# The program of $TARGET, into target/cross.
build() {
    export CARGO_TARGET_DIR=$PWD/target/cross CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0
    local library=()
    if [ ! -d "$(rustc --print target-libdir --target "$TARGET")" ]; then
        RUSTC=$("$here/toolchain.sh")
        export RUSTC
        if [ ! -d "$("$RUSTC" --print target-libdir --target "$TARGET")" ]; then
            export RUSTC_BOOTSTRAP=1
            library=(-Zbuild-std=std,panic_abort,panic_unwind)
        fi
    fi
    cargo build --locked --target "$TARGET" --bin engine "${library[@]}"
}

# Runs the program, whose words are given, and compares what it makes with what this machine's program makes.
try() {
    local out
    out=$(mktemp -d)
    cp -r examples/scene "$out/scene"
    [ -x "$program" ] || { echo "$program: no such program; cargo build makes it" >&2; exit 1; }
    local common=(--max-side 128 --planes 16 --quiet)
    "$program" infer "$out/scene" -o "$out/here" "${common[@]}"
    "$@" --version
    time "$@" infer "$out/scene" -o "$out/there" "${common[@]}"
    # What is there already is not made again.
    "$@" infer "$out/scene" -o "$out/there" "${common[@]}"
    "$@" fuse "$out/there" --scene "$out/scene" -o "$out/fused" --quiet
    "$@" doctor "$out/scene"
    python3 "$here/compare.py" "$out/here" "$out/there"
    rm -rf "$out"
}
