//! Runs every command that the pages have in blocks, each page in a folder of its own that has what its words mean.
//!
//! It takes minutes, so it waits for ENGINE_TEST_PAGES=1 (`make pages`), or for the name of one page there. Photos are
//! small and steps are few, by variables only: the words are the page's, but for names in capitals, which stand for
//! something.

use std::fs;
use std::path::Path;
use std::process::Command;

use engine::files::ply_points;
use engine::scene::{OpenOptions, Scene};
use glam::{DMat3, DVec3};
use serde_json::json;

use crate::commands::{calls, is_command, pages, shown};
use crate::format_files::{put, square};
use crate::format_opf::write_opf;
use crate::format_trees::{metashape_with_region, opensfm, opensfm_tracks};
use crate::scene_files::{TestScene, TestView};

/// Commands that run elsewhere: the page's name, how they begin or what is in them, and what runs them.
const ELSEWHERE: &[(&str, &str, &str)] = &[
    ("", "--calibrate", "needs COLMAP: tests/calibration.rs"),
    ("", "--device cuda", "needs a GPU: tests/driver"),
    ("", "s3://", "needs an object store: tests/remote"),
    ("", "--peer", "needs PyTorch: tests/bench.rs"),
    ("", "engine eval dtu", "needs DTU's files: tests/evaluation_files"),
    ("", "--crs EPSG:32632", "needs a scene seen from above: tests/ortho"),
    ("", "engine view", "goes on until it is stopped: tests/view"),
    ("FIRST.md", "engine ", "runs in every test: main.rs"),
    ("CARD.md", "engine train", "took hours"),
    ("TRAINING.md", "mpirun ", "needs MPI: tests/mpi"),
    ("README.md", "/data/scene", "runs in a container"),
    ("CHANGELOG.md", "engine ", "tells of earlier versions"),
    ("PROFILING.md", "engine bench", "needs a GPU: tests/driver"),
];

/// What stands for something, and for what. Longer ones go first.
const WORDS: &[(&str, &str)] = &[
    ("PROJECT/", "project/"),
    ("examples/scene", "scene"),
    ("scenes:DATA", "scenes:data"),
    ("SCENE", "scene"),
    ("PHOTOS", "photos"),
    ("MODEL", "model"),
    ("LIST", "las,glb,npz"),
    ("DIR", "workspace"),
    ("OUT", "out"),
    ("RUN", "trained"),
    ("$SLURM_CPUS_PER_TASK", "1"),
];

/// Variables under which everything is quick.
const QUICK: &[(&str, &str)] = &[("ENGINE_MAX_SIDE", "128"), ("ENGINE_PLANES", "48"), ("ENGINE_THREADS", "1")];

pub fn tree(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(from, to).unwrap();
        }
    }
}

fn engine(at: &Path, words: &[&str], variables: &[(&str, &str)]) -> Result<(), String> {
    let mut program = Command::new(env!("CARGO_BIN_EXE_engine"));
    program.current_dir(at).env("HOME", at.join("home")).args(words);
    program.envs(QUICK.iter().chain(variables).copied());
    let ran = program.output().unwrap();
    match ran.status.success() {
        true => Ok(()),
        false => Err(format!("{}: {}", words.join(" "), String::from_utf8_lossy(&ran.stderr).trim())),
    }
}

/// Everything that a page's words mean, made once: the scene in the tree, a finished run, its workspace for COLMAP and
/// nerfstudio, projects of other programs, and weights.
fn desk(root: &Path) {
    copy(&tree("examples/scene"), &root.join("scene"));
    engine(root, &["infer", "scene", "-o", "out", "--quiet"], &[]).unwrap();
    engine(root, &["export", "out", "--to", "workspace", "-o", "exported", "--quiet"], &[]).unwrap();
    fs::rename(root.join("exported/workspace"), root.join("workspace")).unwrap();
    copy(&root.join("workspace/images"), &root.join("photos"));
    copy(&root.join("workspace/sparse"), &root.join("model"));
    fs::copy(root.join("out/fused.ply"), root.join("truth.ply")).unwrap();
    copy(&root.join("scene"), &root.join("data/scene"));
    copy(&root.join("scene"), &root.join("town"));
    fs::create_dir(root.join("trained")).unwrap();
    for name in ["trained/best.safetensors", "other.safetensors"] {
        fs::copy(tree("weights/bs_mvsnet.safetensors"), root.join(name)).unwrap();
    }
    let drone = square();
    drone.write_photos(&root.join("project"));
    fs::create_dir(root.join("project/opensfm")).unwrap();
    put(&root.join("project/opensfm/reconstruction.json"), opensfm(&drone, json!({})).to_string());
    put(&root.join("project/opensfm/tracks.csv"), opensfm_tracks(&drone));
    write_opf(&drone, &root.join("project"), json!({}));
}

/// The scene in the tree as Metashape writes it, with a region around its points.
fn metashape_project(root: &Path) {
    let scene = Scene::open(&root.join("scene"), &OpenOptions::default()).unwrap();
    let points = ply_points::read(&root.join("truth.ply")).unwrap().points;
    // The writer is for photos of 64 x 48; these are of 512 x 384.
    let middle = DVec3::new(224.0, 168.0, 0.0);
    let view = |v: &engine::scene::View| TestView {
        id: v.id,
        camera: v.id,
        file: format!("m_{}.jpg", v.name),
        k: DMat3::from_cols(v.camera.k.x_axis, v.camera.k.y_axis, v.camera.k.z_axis - middle),
        r: v.camera.r,
        t: v.camera.t,
    };
    let written =
        TestScene { size: (512, 384), views: scene.views.iter().map(view).collect(), points: Vec::new(), model: None };
    for (from, to) in scene.views.iter().zip(&written.views) {
        let photo = root.join("scene/images").join(format!("{}.jpg", from.name));
        fs::copy(photo, root.join("photos").join(&to.file)).unwrap();
    }
    let least = points.iter().fold(DVec3::INFINITY, |least, point| least.min(DVec3::from(*point)));
    let most = points.iter().fold(DVec3::NEG_INFINITY, |most, point| most.max(DVec3::from(*point)));
    let text = metashape_with_region(&written, (least + most) / 2.0, DMat3::IDENTITY, most - least);
    put(&root.join("cameras.xml"), text.replace("width=\"64\" height=\"48\"", "width=\"512\" height=\"384\""));
}

/// What differs from page to page.
fn prepare(page: &str, root: &Path) -> Vec<(&'static str, &'static str)> {
    let remove = |name: &str| fs::remove_dir_all(root.join(name)).unwrap();
    match page {
        // They make the run that they speak of.
        "CLUSTER.md" | "GPU.md" | "PYTHON.md" => {
            remove("out");
            remove("trained");
            vec![("ENGINE_STEPS", "1")]
        }
        "INSTALL.md" => {
            remove("photos");
            fs::rename(root.join("workspace"), root.join("photos")).unwrap();
            fs::create_dir(root.join("home")).unwrap();
            vec![]
        }
        "PHOTOS.md" => {
            metashape_project(root);
            copy(&root.join("project/images"), &root.join("photos"));
            vec![]
        }
        "TRAINING.md" => {
            remove("trained");
            vec![("ENGINE_STEPS", "2"), ("ENGINE_SCENES", "2"), ("ENGINE_MEASURED", "2")]
        }
        "README.md" => {
            remove("trained");
            vec![("ENGINE_STEPS", "1")]
        }
        "EVALUATION.md" => vec![("ENGINE_SCENES", "2")],
        "PERFORMANCE.md" => vec![
            ("ENGINE_WIDTH", "160"),
            ("ENGINE_HEIGHT", "128"),
            ("ENGINE_REPETITIONS", "2"),
            ("ENGINE_WARM_UP", "1"),
        ],
        _ => vec![],
    }
}

/// The commands that one line stands for: a shard, or a tile, each.
fn each(words: &[String]) -> Vec<Vec<String>> {
    let of = words.iter().find_map(|word| {
        let (which, all) = word.split_once('/')?;
        matches!(which, "I" | "J" | "{}").then(|| all.parse::<usize>().unwrap())
    });
    let one = |i: usize| {
        let put = |word: &String| match word.split_once('/') {
            Some(("I" | "J" | "{}", all)) => format!("{i}/{all}"),
            _ => WORDS.iter().fold(word.clone(), |word, (from, to)| word.replace(from, to)),
        };
        words[1..].iter().map(put).collect()
    };
    (1..=of.unwrap_or(1)).map(one).collect()
}

#[test]
fn every_command_of_the_pages_runs() {
    let Ok(wanted) = std::env::var("ENGINE_TEST_PAGES") else {
        eprintln!("passed over: ENGINE_TEST_PAGES is not set");
        return;
    };
    let all = tempfile::tempdir().unwrap();
    let ready = all.path().join("ready");
    fs::create_dir(&ready).unwrap();
    desk(&ready);
    let (mut wrong, mut ran, mut elsewhere) = (Vec::new(), 0, vec![0; ELSEWHERE.len()]);
    for (number, page) in pages().iter().enumerate() {
        let name = page.file_name().unwrap().to_str().unwrap();
        if wanted != "1" && wanted != name {
            continue;
        }
        let root = all.path().join(number.to_string());
        copy(&ready, &root);
        let variables = prepare(name, &root);
        for shown in shown(&fs::read_to_string(page).unwrap()).into_iter().filter(|shown| !shown.is_inline) {
            let apart =
                |(page, part, _): &(&str, &str, &str)| (page.is_empty() || *page == name) && shown.text.contains(part);
            let begins: Vec<_> = calls(&shown.text).into_iter().filter(|words| is_command(&words[1])).collect();
            if let Some(at) = ELSEWHERE.iter().position(apart).filter(|_| !begins.is_empty()) {
                elsewhere[at] += 1;
                continue;
            }
            for words in begins {
                // A new plan begins a new run, and so does another world's scene in the folder of the same name.
                let has = |option: &str| words.iter().any(|word| word == option);
                match words[1].as_str() {
                    "plan" if has("--shards") => drop(fs::remove_dir_all(root.join("out"))),
                    "infer" if !has("-o") => drop(fs::remove_dir_all(root.join("workspace_engine"))),
                    _ => {}
                }
                for words in each(&words) {
                    let words: Vec<&str> = words.iter().map(|word| word.strip_prefix("~/").unwrap_or(word)).collect();
                    ran += 1;
                    if let Err(said) = engine(&root, &words, &variables) {
                        wrong.push(format!("{name}:{}: {said}", shown.line));
                        break;
                    }
                }
            }
        }
        fs::remove_dir_all(root).unwrap();
    }
    assert_eq!(wrong, Vec::<String>::new(), "commands that end in an error");
    if wanted != "1" {
        return;
    }
    let unused: Vec<_> = ELSEWHERE.iter().zip(&elsewhere).filter(|(_, n)| **n == 0).collect();
    assert!(unused.is_empty(), "no page has them: {unused:?}");
    assert!(ran > 150, "{ran} commands");
}
