#!/usr/bin/env bash
# Everything that needs an NVIDIA GPU, in under ten minutes, from binaries that were built elsewhere.
#
#     tools/gpu_check.sh build            on a machine with Rust and nvcc: binaries into gpu/
#     tools/gpu_check.sh run [RESULTS]    on a machine with a GPU; wants python with torch for the peer and for cuDNN
#     tools/gpu_check.sh rehearse [PART]  on a machine without a GPU: the same script, every size tiny, on the stand-in
#                                         for CUDA's driver; PART is a part's name or a beginning of it
#
# Results (logs, JSON) go to RESULTS, by default gpu/results, and as one file to RESULTS.tar.gz. Each part runs even if
# an earlier one failed; what is skipped is told with the reason, and the last line names the parts that failed.
set -uo pipefail
cd "$(dirname "$0")/.."

# Binaries of a cargo profile into a folder.
binaries() {
    local profile=$1 gpu=$2 options=()
    [ "$profile" = release ] && options=(--release)
    tools/get_nvcc.sh
    cargo build "${options[@]}" --features cuda
    mkdir -p "$gpu"
    # Tests look for their data where they were built.
    pwd >"$gpu/root"
    cp "target/${profile/dev/debug}/engine" "$gpu/engine"
    for test in cuda cuda_network cuda_run device_option; do
        binary=$(cargo test "${options[@]}" --features cuda --test "$test" --no-run --message-format=json 2>/dev/null |
            grep '"executable":"' | grep "\"name\":\"$test\"" | sed 's/.*"executable":"\([^"]*\)".*/\1/' | tail -1)
        cp "$binary" "$gpu/test_$test"
    done
    ls -la "$gpu"
}

build() {
    set -e
    export ENGINE_CUDA_ARCHS="${ENGINE_CUDA_ARCHS:-compute_80,sm_90}"
    binaries release gpu
}

failed=()
skipped=()
skip() {
    [[ "$1" == "$only"* ]] || return 0
    echo "skipped: $1: $2"
    skipped+=("$1 ($2)")
}

part() {
    local name=$1 began=$SECONDS
    shift
    [[ "$name" == "$only"* ]] || return 0
    printf '\n== %s\n' "$name"
    if "$@" >"$results/$name.log" 2>&1; then
        tail -n 3 "$results/$name.log"
        echo "passed in $((SECONDS - began)) s"
    else
        failed+=("$name")
        tail -n 40 "$results/$name.log"
    fi
}

# A part by a program that may not be there.
part_by() {
    local name=$1 program=$2
    if command -v "$program" >/dev/null; then
        part "$@"
    else
        skip "$name" "$program is not installed"
    fi
}

run() {
    results=$1 only=$2
    mkdir -p "$results"
    root=$(cat "$gpu/root") || { echo "$gpu has no binaries; tools/gpu_check.sh build makes them"; exit 1; }
    [ -e "$root" ] || { mkdir -p "$(dirname "$root")" && ln -s "$PWD" "$root"; }
    python=${PYTHON:-python3}
    packages=$("$python" -c 'import site; print(site.getsitepackages()[0])' 2>/dev/null || true)
    libraries=$packages/nvidia/cudnn/lib:$packages/nvidia/cu13/lib:$packages/nvidia/cublas/lib
    export ENGINE_CUDA_LIBS="${ENGINE_CUDA_LIBS:-$libraries}"
    export ENGINE_REQUIRE_CUDA=1 ENGINE_TEST_DEVICE=cuda
    date -u +%F | tee "$results/date"
    git rev-parse HEAD >"$results/commit" 2>/dev/null || true
    part_by device nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv
    part info "$gpu/engine" info
    part ops "$gpu/test_cuda" --test-threads 1 "${few_ops[@]}"
    part network "$gpu/test_cuda_network" --test-threads 1 "${few_networks[@]}"
    part run "$gpu/test_cuda_run" "${few_runs[@]}"
    part options "$gpu/test_device_option"
    # Slow where every access is looked at: the ops' own tests are small.
    for tool in memcheck racecheck initcheck synccheck; do
        part_by "$tool" compute-sanitizer --tool "$tool" --error-exitcode 9 "$gpu/test_cuda" --test-threads 1 \
            "${few_ops[@]}"
    done
    part table3_f16 "$gpu/engine" bench table3 --device cuda --precision f16 --json "$results/table3_f16.json" \
        --repetitions "${repetitions[0]}" "${small[@]}"
    part table3_f32 "$gpu/engine" bench table3 --device cuda --precision f32 --json "$results/table3_f32.json" \
        --repetitions "${repetitions[1]}" "${small[@]}"
    # In the same run and on the same inputs: PyTorch eager in f32, channels-last, f16 under autocast, torch.compile.
    if "$python" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
        part peers "$gpu/engine" bench table3 --device cuda --precision f32 --json "$results/peers.json" \
            --repetitions "${repetitions[1]}" --peer "$python" --peer-kinds eager,channels-last,half,compile
    else
        skip peers "$python has no torch that sees a GPU"
    fi
    part scene "$gpu/engine" infer examples/scene -o "$results/scene" --device cuda --force "${few_pixels[@]}"
    for precision in f16 f32; do
        part "cudnn_$precision" "$gpu/engine" infer examples/scene -o "$results/cudnn_$precision" --device cuda \
            --force --precision "$precision" --convolutions cudnn "${few_pixels[@]}"
    done
    # Folders without spaces, as pip makes them.
    # shellcheck disable=SC2086
    if find ${ENGINE_CUDA_LIBS//:/ } -maxdepth 1 -name 'libnvjpeg.so.*' 2>/dev/null | grep -q .; then
        part nvjpeg "$gpu/engine" infer examples/scene -o "$results/nvjpeg" --device cuda --force --jpeg nvjpeg \
            "${few_pixels[@]}"
    else
        skip nvjpeg "no libnvjpeg.so in $ENGINE_CUDA_LIBS (pip install nvidia-nvjpeg)"
    fi
    # How to read both: docs/PROFILING.md.
    part_by nsys nsys profile --force-overwrite true -t cuda,nvtx -o "$results/scene_trace" \
        "$gpu/engine" infer examples/scene -o "$results/profiled" --device cuda --force "${few_pixels[@]}"
    part_by ncu ncu --set full --launch-skip 200 --launch-count 100 -f -o "$results/table3" \
        "$gpu/engine" bench table3 --device cuda --precision f16 --repetitions 2 "${small[@]}"
    rm -rf "$results/profiled"
    {
        echo "failed: ${failed[*]:-none}"
        echo "skipped:"
        printf '  %s\n' "${skipped[@]:-none}"
    } >"$results/summary"
    tar czf "$results.tar.gz" -C "$(dirname "$results")" "$(basename "$results")"
    echo
    echo "all results in one file: $results.tar.gz"
    cat "$results/summary"
    [ ${#failed[@]} -eq 0 ] || exit 1
}

# On the day that counts.
gpu=gpu
few_ops=() few_networks=() few_runs=() few_pixels=() small=() repetitions=(50 20)

rehearse() {
    gpu=gpu/rehearsal
    export ENGINE_CUDA_ARCHS=compute_80
    if [ -z "${ENGINE_REHEARSAL_BUILT:-}" ]; then
        (set -e; binaries dev "$gpu"; cargo test --features cuda --test driver --no-run) || exit 1
    fi
    # One library has the names of them all.
    mkdir -p "$gpu/lib"
    cp target/debug/deps/libstandin_cuda.so "$gpu/lib/libcuda.so.1" || exit 1
    for name in libcudnn.so.9 libcublas.so.13 libcublasLt.so.13 libnvjpeg.so.13; do
        ln -sf libcuda.so.1 "$gpu/lib/$name"
    done
    # With kernels that the C++ compiler makes, which a test that runs on them leaves behind: interpreted ones
    # (`make ptx`, `make driver`) would take an hour.
    "$gpu/test_cuda_network" a_plan_that_does_not_fit >/dev/null || exit 1
    kernels=(target/tmp/emulator/kernels-Fast-*.so)
    export ENGINE_STANDIN_KERNELS=$PWD/${kernels[-1]}
    export LD_LIBRARY_PATH=$PWD/$gpu/lib ENGINE_CUDA_LIBS=$PWD/$gpu/lib
    # The host's memory is the device's.
    export ENGINE_STANDIN_MEMORY=$((128 << 20)) ENGINE_STANDIN_REPORT=$PWD/$gpu/report
    few_ops=(reduce:: pointwise:: refine::)
    few_networks=(two_runs half_precision_stays_close_to_single)
    few_runs=(a_scene_gives_the_same_maps_and_cloud_at_full_resolution)
    few_pixels=(--max-side 64 --planes 8 --views 3 --levels 1 --resolution quarter)
    small=(--width 64 --height 48 --planes 8) repetitions=(2 2)
    run gpu/rehearsal/results "${1:-}"
}

case "${1:-}" in
build) build ;;
run) run "${2:-gpu/results}" "" ;;
rehearse) rehearse "${2:-}" ;;
*) grep '^#  ' "$0" && exit 2 ;;
esac
