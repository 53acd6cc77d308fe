#!/usr/bin/env bash
# Everything that needs an NVIDIA GPU, in under ten minutes, from binaries that were built elsewhere.
#
#     tools/gpu_check.sh build          on a machine with Rust and nvcc: binaries into gpu/
#     tools/gpu_check.sh run [RESULTS]  on a machine with a GPU; wants python with torch for the peer and for cuDNN
#
# Results (logs, JSON) go to RESULTS, by default gpu/results. Each part runs even if an earlier one failed; the last
# line names those that failed.
set -uo pipefail
cd "$(dirname "$0")/.."

build() {
    set -e
    tools/get_nvcc.sh
    export ENGINE_CUDA_ARCHS="${ENGINE_CUDA_ARCHS:-compute_80,sm_90}"
    cargo build --release --features cuda
    mkdir -p gpu
    # Tests look for their data where they were built.
    pwd >gpu/root
    cp target/release/engine gpu/engine
    for test in cuda cuda_network cuda_run device_option; do
        binary=$(cargo test --release --features cuda --test "$test" --no-run --message-format=json 2>/dev/null |
            grep '"executable":"' | grep "\"name\":\"$test\"" | sed 's/.*"executable":"\([^"]*\)".*/\1/' | tail -1)
        cp "$binary" "gpu/test_$test"
    done
    ls -la gpu
}

failed=()
part() {
    local name=$1
    shift
    printf '\n== %s\n' "$name"
    if "$@" >"$results/$name.log" 2>&1; then
        tail -n 3 "$results/$name.log"
    else
        failed+=("$name")
        tail -n 40 "$results/$name.log"
    fi
}

run() {
    results=${1:-}; results=${results:-gpu/results}
    mkdir -p "$results"
    root=$(cat gpu/root)
    [ -e "$root" ] || { mkdir -p "$(dirname "$root")" && ln -s "$PWD" "$root"; }
    python=${PYTHON:-python3}
    packages=$("$python" -c 'import site; print(site.getsitepackages()[0])' 2>/dev/null || true)
    libraries=$packages/nvidia/cudnn/lib:$packages/nvidia/cu13/lib:$packages/nvidia/cublas/lib
    export ENGINE_CUDA_LIBS="${ENGINE_CUDA_LIBS:-$libraries}"
    export ENGINE_REQUIRE_CUDA=1 ENGINE_TEST_DEVICE=cuda
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv | tee "$results/device.csv"
    date -u +%F | tee "$results/date"
    part ops gpu/test_cuda --test-threads 1
    part network gpu/test_cuda_network --test-threads 1
    part run gpu/test_cuda_run
    part options gpu/test_device_option
    # Slow where every access is looked at: the ops' own tests are small.
    if command -v compute-sanitizer >/dev/null; then
        for tool in memcheck racecheck initcheck synccheck; do
            part "$tool" compute-sanitizer --tool "$tool" --error-exitcode 9 gpu/test_cuda --test-threads 1
        done
    else
        echo "skipped: compute-sanitizer is not installed"
    fi
    part table3_f16 gpu/engine bench table3 --device cuda --precision f16 --repetitions 50 \
        --json "$results/table3_f16.json"
    part table3_f32 gpu/engine bench table3 --device cuda --precision f32 --repetitions 20 \
        --json "$results/table3_f32.json"
    # In the same run and on the same inputs: PyTorch eager in f32, channels-last, f16 under autocast, torch.compile.
    part peers gpu/engine bench table3 --device cuda --precision f32 --repetitions 20 --json "$results/peers.json" \
        --peer "$python" --peer-kinds eager,channels-last,half,compile
    part scene gpu/engine infer examples/scene -o "$results/scene" --device cuda --force
    for precision in f16 f32; do
        part "cudnn_$precision" gpu/engine infer examples/scene -o "$results/cudnn_$precision" --device cuda --force \
            --precision "$precision" --convolutions cudnn
    done
    # How to read both: docs/PROFILING.md.
    if command -v nsys >/dev/null; then
        part nsys nsys profile --force-overwrite true -t cuda,nvtx -o "$results/scene_trace" \
            gpu/engine infer examples/scene -o "$results/profiled" --device cuda --force
    else
        echo "skipped: nsys is not installed"
    fi
    if command -v ncu >/dev/null; then
        part ncu ncu --set full --launch-skip 200 --launch-count 100 -f -o "$results/table3" \
            gpu/engine bench table3 --device cuda --precision f16 --repetitions 2
    else
        echo "skipped: ncu is not installed"
    fi
    rm -rf "$results/profiled"
    tar czf "$results.tar.gz" -C "$(dirname "$results")" "$(basename "$results")"
    echo "all results in one file: $results.tar.gz"
    echo
    if [ ${#failed[@]} -gt 0 ]; then
        echo "failed: ${failed[*]}"
        exit 1
    fi
    echo "all parts passed"
}

case "${1:-}" in
build) build ;;
run) run "${2:-}" ;;
*) grep '^#  ' "$0" && exit 2 ;;
esac
