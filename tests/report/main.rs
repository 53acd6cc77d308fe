//! `engine report` through the binary, on a run whose maps are known. [`page`] looks at the page as HTML, [`packed`]
//! unpacks what the scripts get, and [`browser`] opens it where there is a Chromium.

use std::fs;
use std::path::PathBuf;

use engine::files::map::Map;
use engine::files::pfm;
use serde_json::Value;
use tempfile::TempDir;

mod browser;
mod packed;
mod page;
#[path = "../support/plane_scene.rs"]
mod plane_scene;
#[path = "../support/program.rs"]
mod program;
mod reading;
#[path = "../support/scene_files.rs"]
mod scene_files;

use plane_scene::{NAMES, SIZE};
use program::{Ran, engine, json, text};
use reading::Page;

/// A finished run: a plane seen by five cameras, its depth exact, its confidence growing from row to row.
struct Run {
    root: TempDir,
}

impl Run {
    fn new() -> Self {
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

    fn report(&self, more: &[&str]) -> Ran {
        engine(["report", text(&self.path("out"))].iter().chain(more))
    }

    /// The page that is made with these options.
    fn page(&self, more: &[&str]) -> Page {
        self.report(more).done();
        Page::read(&self.path("out/report.html"))
    }
}

/// The plane's depth as a view sees it; none in the first column.
fn depth(view: &scene_files::TestView) -> Map {
    let (width, height) = (SIZE.0 as usize, SIZE.1 as usize);
    let at = |i: usize| match (i % width, i / width) {
        (0, _) => 0.0,
        (x, y) => plane_scene::depth(view, x as f64, y as f64) as f32,
    };
    Map { width, height, data: (0..width * height).map(at).collect() }
}

/// From 0.2 above to 1 below.
fn confidence() -> Map {
    let (width, height) = (SIZE.0 as usize, SIZE.1 as usize);
    let at = |i: usize| 0.2 + 0.8 * (i / width) as f32 / (height - 1) as f32;
    Map { width, height, data: (0..width * height).map(at).collect() }
}
