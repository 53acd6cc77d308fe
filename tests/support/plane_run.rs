//! A finished run whose maps and cloud are known.

#![allow(dead_code)] // each test file uses its own part

use std::fs;
use std::path::PathBuf;

use engine::files::map::Map;
use engine::files::pfm;
use serde_json::Value;
use tempfile::TempDir;

use crate::page_reading::Page;
use crate::plane_scene::{self, NAMES, SIZE};
use crate::program::{Ran, engine, json, text};
use crate::scene_files;

/// A finished run: a plane seen by five cameras, its depth exact, its confidence growing from row to row.
pub struct Run {
    pub root: TempDir,
}

impl Run {
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let (scene, maps, out) = (root.path().join("scene"), root.path().join("maps"), root.path().join("out"));
        plane_scene::write(&scene);
        for (view, name) in plane_scene::scene().views.iter().zip(NAMES) {
            for (kind, map) in [("depth", depth(view)), ("confidence", confidence())] {
                fs::create_dir_all(maps.join(kind)).unwrap();
                pfm::write(&maps.join(kind).join(format!("{name}.pfm")), &map).unwrap();
            }
        }
        let words = ["fuse", text(&maps), "--scene", text(&scene), "-o", text(&out), "--min-views", "2", "--quiet"];
        engine(words.iter().chain(&["--min-confidence", "0.3"])).done();
        Self { root }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Changes the manifest of the run.
    pub fn edit(&self, change: impl FnOnce(&mut Value)) {
        let file = self.path("out/manifest.json");
        let mut manifest = json(&file);
        change(&mut manifest);
        fs::write(file, manifest.to_string()).unwrap();
    }

    pub fn report(&self, more: &[&str]) -> Ran {
        engine(["report", text(&self.path("out"))].iter().chain(more))
    }

    /// The page that is made with these options.
    pub fn page(&self, more: &[&str]) -> Page {
        self.report(more).done();
        Page::read(&self.path("out/report.html"))
    }
}

/// The plane's depth as a view sees it; none in the first column.
pub fn depth(view: &scene_files::TestView) -> Map {
    let (width, height) = (SIZE.0 as usize, SIZE.1 as usize);
    let at = |i: usize| match (i % width, i / width) {
        (0, _) => 0.0,
        (x, y) => plane_scene::depth(view, x as f64, y as f64) as f32,
    };
    Map { width, height, data: (0..width * height).map(at).collect() }
}

/// From 0.2 above to 1 below.
pub fn confidence() -> Map {
    let (width, height) = (SIZE.0 as usize, SIZE.1 as usize);
    let at = |i: usize| 0.2 + 0.8 * (i / width) as f32 / (height - 1) as f32;
    Map { width, height, data: (0..width * height).map(at).collect() }
}
