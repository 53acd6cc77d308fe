#!/usr/bin/env bash
# Trains every kind of network on the same samples for the same number of steps, and measures them on the same scenes.
#
#     tools/ablate.sh OUT [STEPS]        STEPS is 1000 by default; ENGINE names the program, TEXTURES a folder of photos
#
# The rows differ in one thing each from voxel / squared / skip, the default. OUT/table.md has one row a network.
set -euo pipefail

out=${1:?where to?}
steps=${2:-1000}
engine=${ENGINE:-target/release/engine}
textures=${TEXTURES:+--textures $TEXTURES}

weights=()
for config in voxel/squared/skip pixel/squared/skip mean/squared/skip variance/squared/skip voxel/signed/skip voxel/squared/trilinear; do
    IFS=/ read -r aggregation difference decoder <<<"$config"
    run=$out/${config//\//_}
    # The same seed, so the same samples in the same order.
    # shellcheck disable=SC2086
    "$engine" train "$run" --aggregation "$aggregation" --difference "$difference" --decoder "$decoder" --steps "$steps" \
        --size 160x128 --planes 48,64 --views 3-4 --rate 0.002 --validate-every 0 --validation-views 8 --shown 0 --reuse 20 --seed 1 $textures
    weights+=(--weights "$run/weights.safetensors")
done
"$engine" eval synth "${weights[@]}" --scenes 48 --size 320x256 --planes 96 --views 4 --out "$out/numbers.json" > "$out/tables.txt"
{
    echo '| network | mean error, intervals | < 1 interval, % | < 3, % | median, % of the depth | confident, % | their mean, intervals |'
    echo '| --- | ---: | ---: | ---: | ---: | ---: | ---: |'
    grep -A1 '^group\|safetensors$' "$out/tables.txt" | awk '
        /safetensors$/ { n = split($0, part, "/"); name = part[n - 1]; gsub("_", " / ", name) }
        /^all:/ { print "| " name " | " $6 " | " $11 " | " $12 " | " $13 " | " $14 " | " $15 " |" }'
} > "$out/table.md"
cat "$out/table.md"
