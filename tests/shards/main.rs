//! One job on many machines, through the binary: in [`whole`] that shards give what a single run gives, whatever
//! happens to them, in [`refusals`] what does not fit together, in [`planning`] what a plan says, in [`status`] what is
//! told meanwhile, in [`tiles`] clouds in parts, in [`large`] plans of very many views, in [`subfolders`] where their
//! files lie, in [`slurm`] the scheduler itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use tempfile::TempDir;

#[cfg(target_os = "linux")]
mod large;
mod planning;
mod refusals;
#[cfg(target_os = "linux")]
mod slurm;
mod status;
mod subfolders;
mod tiles;
mod whole;

#[path = "../support/plane_scene.rs"]
mod plane_scene;
#[path = "../support/program.rs"]
mod program;
#[path = "../support/scene_files.rs"]
mod scene_files;

use program::{Ran, command, engine, files, json, text, tile_parts};

/// Options of all runs: small maps of two levels, so that a view takes some ten milliseconds.
const OPTIONS: [&str; 6] = ["--resolution", "quarter", "--levels", "2", "--min-views", "2"];

/// A folder with a scene in `scene/`: a row of views, each of which shares photos with the next four.
struct Place {
    root: TempDir,
}

impl Place {
    fn new(views: u32) -> Self {
        let root = tempfile::tempdir().unwrap();
        plane_scene::write_row(&root.path().join("scene"), views);
        Self { root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The results of a single run.
    fn alone(&self, options: &[&str]) -> BTreeMap<PathBuf, Vec<u8>> {
        self.infer("alone", &[&OPTIONS, options].concat()).done();
        results(&self.path("alone"))
    }

    fn infer(&self, out: &str, options: &[&str]) -> Ran {
        engine(self.words("infer", out, options))
    }

    fn plan(&self, out: &str, options: &[&str]) -> Ran {
        engine(self.words("plan", out, &[&OPTIONS, options].concat()))
    }

    /// `engine infer --shard`, with the options that the plan has.
    fn shard(&self, out: &str, shard: &str) -> Ran {
        self.infer(out, &["--shard", shard, "--threads", "1"])
    }

    fn start(&self, out: &str, shard: &str) -> Child {
        let words = self.words("infer", out, &["--shard", shard, "--threads", "1", "--quiet"]);
        command(words).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn words(&self, command: &str, out: &str, options: &[&str]) -> Vec<String> {
        let (scene, out) = (self.path("scene"), self.path(out));
        let words = [command, text(&scene), "-o", text(&out)];
        words.iter().chain(options).map(|word| (*word).to_owned()).collect()
    }

    fn merge(&self, out: &str, options: &[&str]) -> Ran {
        engine([&["merge", text(&self.path(out))], options].concat())
    }

    fn fuse(&self, out: &str) -> Ran {
        engine(["fuse", text(&self.path(out))])
    }
}

/// Everything but what tells times, processes and shards.
fn results(out: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = files(out);
    found.retain(|path, _| {
        !path.starts_with("shards")
            && !path.starts_with("tiles")
            && path.extension().is_none_or(|ending| ending != "json" && ending != "lock")
    });
    found
}

/// The manifest without what tells times and the machine.
fn told(out: &Path) -> serde_json::Value {
    let mut manifest = json(&out.join("manifest.json"));
    for field in ["ended_unix_s", "seconds", "machine"] {
        manifest.as_object_mut().unwrap().remove(field).unwrap();
    }
    for view in manifest["views"].as_array_mut().unwrap() {
        view["depth"].as_object_mut().unwrap().remove("photo_seconds");
        for level in view["depth"]["levels"].as_array_mut().unwrap() {
            let _ = ["seconds", "reused"].map(|field| level.as_object_mut().unwrap().remove(field));
        }
    }
    manifest
}
