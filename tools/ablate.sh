#!/usr/bin/env bash
# Trains every kind of network on the same samples for the same number of steps, and measures them on the same scenes.
#
#     tools/ablate.sh OUT [STEPS]        STEPS is 1000 by default; ENGINE names the program, TEXTURES a folder of photos
#
# Each network differs in one thing from the default, voxel / squared / skip. OUT/table.md has one row per network.
# Needs python3.
set -euo pipefail

out=${1:?where to?}
steps=${2:-1000}
engine=${ENGINE:-target/release/engine}
textures=${TEXTURES:+--textures $TEXTURES}

weights=()
for config in voxel/squared/skip pixel/squared/skip mean/squared/skip variance/squared/skip \
    voxel/signed/skip voxel/squared/trilinear; do
    IFS=/ read -r aggregation difference decoder <<<"$config"
    run=$out/${config//\//_}
    # The same seed, so the same samples in the same order.
    # shellcheck disable=SC2086
    "$engine" train "$run" --aggregation "$aggregation" --difference "$difference" --decoder "$decoder" \
        --steps "$steps" --size 160x128 --planes 48,64 --views 3-4 --rate 0.002 --validate-every 0 \
        --validation-views 8 --shown 0 --reuse 20 --seed 1 $textures
    weights+=(--weights "$run/weights.safetensors")
done
"$engine" eval synth "${weights[@]}" --scenes 48 --size 320x256 --planes 96 --views 4 \
    --out "$out/numbers.json" > "$out/tables.txt"
python3 - "$out/numbers.json" > "$out/table.md" <<'END'
import json, sys
columns = [
    ("mean_error_intervals", 1, "mean error, intervals"),
    ("within_1_interval", 100, "< 1 interval, %"),
    ("within_3_intervals", 100, "< 3, %"),
    ("median_error_rel", 100, "median, % of the depth"),
    ("confident_share", 100, "confident, %"),
    ("confident_mean_error_intervals", 1, "their mean, intervals"),
]
print("| network |", " | ".join(c[2] for c in columns), "|")
print("| --- |", " | ".join("---:" for _ in columns), "|")
for weights in json.load(open(sys.argv[1]))["weights"]:
    all_pixels = weights["rows"][0]["metrics"]
    cells = ["-" if all_pixels[name] is None else f"{all_pixels[name] * factor:.3g}" for name, factor, _ in columns]
    print("|", weights["weights"].split("/")[-2].replace("_", " / "), "|", " | ".join(cells), "|")
END
cat "$out/table.md"
