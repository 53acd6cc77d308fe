//! The options of each command, as users know them: lists of those that several have, and its own.

/// Of every command that does work.
const EVERY: &str = "--quiet --verbose --json --profile --config --help";
/// What a run may take.
const LIMITS: &str = "--threads --memory";
/// Where results go.
const FOLDER: &str = "--out --force";
/// Where copies go of what lies in object stores.
const COPIES: &str = "--cache";
/// What computes, and how.
const DEVICE: &str = "--device --precision --convolutions --jpeg --vram";
/// How a scene is read and maps are fused.
const SCENE_AND_FUSION: &str = "--sparse --depth-numbers --format --poses --images --masks --range-from --prior \
    --prior-scale --prior-tolerance --roi --max-side --view --range --levels --trusted-confidence \
    --replaced-confidence --max-reprojection-px --max-depth-error-rel --min-views --check-sources --min-confidence \
    --keep-duplicates --ply-offset --thin";
/// How maps are made.
const MAPS: &str = "--quality --verify --normals --subfolders --depth-only --views --planes --widen-range --sampling \
    --resolution --raw-confidence --unrefined --weights";
/// What is exported, and how.
const EXPORTED: &str = "--crs --ply-names --filtered-depth --outliers --spacing --max-points --photos";
/// What a page shows.
const PAGE: &str = "--scene --max-points --picture-side";

/// Every command with its lists and its own options.
pub static COMMANDS: &[(&str, &[&str], &str)] = &[
    (
        "infer",
        &[EVERY, COPIES, LIMITS, FOLDER, DEVICE, SCENE_AND_FUSION, MAPS, EXPORTED],
        "--shard --calibrate --report --export --show",
    ),
    ("plan", &[EVERY, COPIES, LIMITS, FOLDER, DEVICE, SCENE_AND_FUSION, MAPS], "--shards --within --files"),
    ("merge", &[EVERY, COPIES, LIMITS, DEVICE], "--shard --scene"),
    ("status", &[EVERY, COPIES], "--watch"),
    (
        "fuse",
        &[EVERY, COPIES, LIMITS, FOLDER, SCENE_AND_FUSION, EXPORTED],
        "--scene --method --preset --list-presets --min-segment-px --min-angle-deg --see-through-factor \
            --max-depth-error-px --mean-colour --coarse-reprojection-px --coarse-depth-error-rel \
            --coarse-min-views --doublings --reprojection-step-px --depth-error-step-rel --max-views \
            --max-disparity-px --max-normal-deg --min-pixels --max-pixels --max-traversal-depth --sweep --reference \
            --max-distance --threshold --keep-best --tiles --shard --join --export",
    ),
    ("export", &[EVERY, COPIES, LIMITS, FOLDER, EXPORTED], "--to --scene"),
    (
        "mesh",
        &[EVERY, COPIES, LIMITS, FOLDER],
        "--to --voxel --poisson --min-component --close-holes --triangles --simplify --no-colours --texture --scene \
            --ply-offset --tiles --shard --join",
    ),
    ("map", &[EVERY, COPIES, LIMITS, FOLDER], "--gsd --crs --offset --up --bounds --fill --no-ortho --scene"),
    ("report", &[EVERY, COPIES, LIMITS, FOLDER, PAGE], "--no-doctor --match-photos"),
    ("view", &[EVERY, LIMITS, PAGE], "--port --host --anyone --no-open"),
    ("info", &[LIMITS], "--config --width --height --planes --views --levels --weights --json --help"),
];
