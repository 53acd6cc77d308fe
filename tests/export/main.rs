//! `engine export` through the binary, on a run whose maps are known: every format is read back by a small reader of
//! the tests' own ([`readers`]) and compared with what the maps were made of. Clouds stand in [`clouds`], maps in
//! [`maps`], COLMAP's files in [`models`], OpenMVS's in [`openmvs`], what is refused and what becomes of earlier
//! exports in [`folders`].

use std::fs;
use std::path::{Path, PathBuf};

use engine::files::map::Map;
use engine::files::pfm;
use glam::{DMat3, DVec3};
use serde_json::Value;
use tempfile::TempDir;

mod clouds;
mod earth;
mod folders;
mod maps;
mod models;
mod openmvs;
#[path = "../support/plane_scene.rs"]
mod plane_scene;
#[path = "../support/program.rs"]
mod program;
mod readers;
#[path = "../support/scene_files.rs"]
mod scene_files;

use plane_scene::{NAMES, SIZE};
use program::{Ran, command, engine, files, json, text};
use readers::TestPoint;
use scene_files::TestView;

/// UTM coordinates: floats have steps of half a unit there.
const FAR: DVec3 = DVec3::new(448_262.0, 5_411_932.0, 320.0);

/// The view with a piece of wrong depth, and that piece: first and last columns, first and last rows.
const WRONG: (usize, [usize; 4]) = (2, [40, 60, 20, 40]);
/// Rows with a confidence below the run's least; in every view.
const UNSURE_ROWS: usize = 8;

/// A finished run: a plane seen by five cameras, its depth exact but in one place, where it is a fifth too far.
struct Run {
    root: TempDir,
    views: Vec<TestView>,
}

impl Run {
    /// With everything moved by `offset`.
    fn new(offset: DVec3) -> Self {
        let root = tempfile::tempdir().unwrap();
        let (scene, maps, out) = (root.path().join("scene"), root.path().join("maps"), root.path().join("out"));
        plane_scene::write_moved(&scene, offset);
        let mut views = plane_scene::scene().views;
        for (at, name) in NAMES.iter().enumerate() {
            for kind in ["depth", "confidence"] {
                fs::create_dir_all(maps.join(kind)).unwrap();
            }
            pfm::write(&maps.join("depth").join(format!("{name}.pfm")), &depth(&views[at], at)).unwrap();
            pfm::write(&maps.join("confidence").join(format!("{name}.pfm")), &confidence()).unwrap();
        }
        views.iter_mut().for_each(|view| view.t -= view.r * offset);
        let words = ["fuse", text(&maps), "--scene", text(&scene), "-o", text(&out), "--min-views", "2", "--quiet"];
        engine(words).done();
        Self { root, views }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Changes the manifest of the run.
    fn edit(&self, change: impl FnOnce(&mut Value)) {
        let file = self.path("out/manifest.json");
        let mut manifest = json(&file);
        change(&mut manifest);
        fs::write(file, manifest.to_string()).unwrap();
    }

    fn export(&self, more: &[&str]) -> Ran {
        engine(["export", text(&self.path("out"))].iter().chain(more))
    }

    /// What the run's own cloud holds, read by the tests' reader.
    fn cloud(&self) -> Vec<TestPoint> {
        readers::ply(&self.path("out/fused.ply"), ["confidence", "views"])
    }
}

/// The exact depth as floats, a fifth too far in the one wrong place; a pixel without depth in a corner.
fn depth(view: &TestView, at: usize) -> Map {
    let (width, height) = (SIZE.0 as usize, SIZE.1 as usize);
    let [left, right, top, bottom] = WRONG.1;
    let value = |i: usize| {
        let (x, y) = (i % width, i / width);
        let is_wrong = at == WRONG.0 && (left..right).contains(&x) && (top..bottom).contains(&y);
        let depth = plane_scene::depth(view, x as f64, y as f64);
        if i == 0 { 0.0 } else { (depth * if is_wrong { 1.2 } else { 1.0 }) as f32 }
    };
    Map { width, height, data: (0..width * height).map(value).collect() }
}

/// Different in every pixel, above 0.8 but for the first rows.
fn confidence() -> Map {
    let (width, height) = (SIZE.0 as usize, SIZE.1 as usize);
    let value = |i: usize| (if i < UNSURE_ROWS * width { 0.1 } else { 0.82 }) + 1e-5 * i as f32;
    Map { width, height, data: (0..width * height).map(value).collect() }
}

/// The plane's normal, towards the cameras.
fn normal() -> DVec3 {
    -DVec3::new(0.15, -0.1, 1.0).normalize()
}

/// Rows of a matrix.
fn rows(m: DMat3) -> Vec<f64> {
    [0, 1, 2].iter().flat_map(|&i| m.row(i).to_array()).collect()
}

/// Files and folders directly in a folder, sorted.
fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
