//! Imports point down: which module may use which. The table is the picture of the crate; the test keeps it true.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Each module with the modules of the crate that its files may import (itself is always allowed).
const ALLOWED: [(&str, &[&str]); 34] = [
    // Foundations.
    ("error", &[]),
    ("simd", &[]),
    ("map", &[]),
    ("camera", &[]),
    ("interrupt", &["error"]),
    ("trace", &[]),
    ("tensor", &["error", "simd"]),
    ("tape", &["error", "tensor", "trace"]),
    // Input: scenes and photos know no tensor.
    ("lens", &[]),
    ("scene", &["camera", "lens", "error"]),
    ("photo", &["camera", "lens", "scene", "formats", "error"]),
    ("formats", &["camera", "lens", "scene", "photo", "map", "error"]),
    // Arithmetic: ops know no file, the network knows no scene.
    ("ops", &["camera", "map", "photo", "simd", "tape", "tensor", "trace", "error"]),
    ("net", &["camera", "photo", "ops", "simd", "tape", "tensor", "error"]),
    // The same on an NVIDIA GPU; without the feature `cuda` there is no device to open, but the graphs are built and tested.
    (
        "cuda",
        &[
            "camera",
            "consistency",
            "formats",
            "fusion",
            "map",
            "memory",
            "net",
            "ops",
            "photo",
            "pyramid",
            "tensor",
            "error",
        ],
    ),
    // From maps to the cloud: geometry in f64, no tensor.
    ("consistency", &["camera", "map"]),
    ("normals", &["camera", "consistency", "map"]),
    ("pyramid", &["camera", "consistency", "map", "error"]),
    ("fusion", &["camera", "consistency", "error", "normals", "map", "formats", "pyramid"]),
    ("canvas", &["photo"]),
    ("preview", &["camera", "canvas", "consistency", "formats", "map", "photo", "error"]),
    // Clouds against clouds and maps against maps: no camera.
    ("finished_run", &["camera", "formats", "fusion", "error"]),
    ("evaluation", &["canvas", "finished_run", "formats", "map", "synth", "error"]),
    // The program.
    ("memory", &["error"]),
    ("progress", &["error"]),
    ("output", &["error", "formats", "interrupt"]),
    ("manifest", &["camera", "fusion", "memory", "net", "pipeline", "scene", "error"]),
    (
        "pipeline",
        &[
            "camera",
            "consistency",
            "cuda",
            "error",
            "evaluation",
            "formats",
            "fusion",
            "interrupt",
            "manifest",
            "map",
            "memory",
            "net",
            "normals",
            "output",
            "photo",
            "preview",
            "progress",
            "pyramid",
            "scene",
            "tensor",
            "trace",
            "simd",
        ],
    ),
    (
        "train",
        &[
            "camera",
            "canvas",
            "cuda",
            "error",
            "evaluation",
            "formats",
            "interrupt",
            "map",
            "memory",
            "net",
            "ops",
            "output",
            "photo",
            "preview",
            "progress",
            "scene",
            "simd",
            "synth",
            "tape",
            "tensor",
        ],
    ),
    (
        "doctor",
        &[
            "camera",
            "error",
            "finished_run",
            "formats",
            "fusion",
            "interrupt",
            "lens",
            "memory",
            "net",
            "output",
            "photo",
            "pipeline",
            "scene",
            "synth",
        ],
    ),
    ("synth", &["camera", "error", "formats", "interrupt", "map", "output", "photo", "progress", "scene"]),
    // Measures the program: what a run does, and what it takes.
    (
        "bench",
        &[
            "camera",
            "cuda",
            "error",
            "formats",
            "interrupt",
            "memory",
            "net",
            "ops",
            "output",
            "photo",
            "tensor",
            "trace",
        ],
    ),
    (
        "cli",
        &[
            "bench",
            "camera",
            "consistency",
            "cuda",
            "doctor",
            "error",
            "evaluation",
            "formats",
            "fusion",
            "interrupt",
            "memory",
            "net",
            "output",
            "pipeline",
            "progress",
            "pyramid",
            "scene",
            "simd",
            "synth",
            "trace",
            "train",
        ],
    ),
    ("main", &["cli"]),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// `src/ops/conv.rs` -> `ops`, `src/camera.rs` -> `camera`.
fn module(root: &Path, path: &Path) -> String {
    let first = path.strip_prefix(root).unwrap().components().next().unwrap();
    first.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned()
}

/// The crate's modules that a file names, in `use` lines or in paths.
fn imports(text: &str) -> BTreeSet<String> {
    let code = text.lines().filter(|l| !l.trim_start().starts_with("//"));
    let paths = code.flat_map(|l| l.split("crate::").skip(1).map(str::to_owned).collect::<Vec<_>>());
    let names =
        paths.map(|p| p.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect::<String>());
    names.filter(|n| !n.is_empty()).collect()
}

#[test]
fn imports_point_down() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 30, "the sources are where the test looks for them");
    let mut wrong = Vec::new();
    for path in files {
        let module = module(&root, &path);
        if module == "lib" {
            continue;
        }
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == module) else {
            wrong.push(format!("{}: module `{module}` is not in the table", path.display()));
            continue;
        };
        for import in imports(&std::fs::read_to_string(&path).unwrap()) {
            if import != module && !allowed.contains(&import.as_str()) {
                wrong.push(format!("{}: `{module}` may not use `{import}`", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_stay_readable() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "tests", "benches"] {
        sources(&root.join(folder), &mut files);
    }
    for path in files {
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 600, "{} has {lines} lines; split it where its subject splits", path.display());
    }
}
