//! Scenes and results in object stores, through the binary: in [`folders`] by `file://`, which needs no server, in
//! [`whole`] a job against a real S3 server, in [`faults`] one whose server fails for a while, in [`refusals`] what is
//! said of stores that are not there or refuse.
//!
//! The server is moto's (`pip install 'moto[server]'`); without it these tests say "skipped" (ENGINE_REQUIRE_S3=1: they
//! fail). `make object-store` has all in place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;

mod faults;
mod folders;
mod proxy;
mod refusals;
mod server;
mod whole;

#[path = "../support/plane_scene.rs"]
mod plane_scene;
#[path = "../support/program.rs"]
mod program;
#[path = "../support/scene_files.rs"]
mod scene_files;

use program::{Ran, command, engine, files, json, text};

/// Options of the runs on small planes: maps of two levels, so that a view takes some ten milliseconds.
const OPTIONS: [&str; 6] = ["--resolution", "quarter", "--levels", "2", "--min-views", "2"];

/// A job whose scene and results are in a store. Each of its processes is on a machine of its own: an empty folder for
/// scratch files, and nothing in common with the others but the addresses.
struct Job {
    root: TempDir,
    scene: String,
    out: String,
    variables: Vec<(String, String)>,
    machines: AtomicUsize,
}

impl Job {
    fn new(scene: String, out: String, variables: Vec<(String, String)>) -> Self {
        Self { root: tempfile::tempdir().unwrap(), scene, out, variables, machines: AtomicUsize::new(0) }
    }

    fn command(&self, words: &[&str]) -> Command {
        let machine = self.root.path().join(self.machines.fetch_add(1, Ordering::Relaxed).to_string());
        std::fs::create_dir(&machine).unwrap();
        let mut command = command(words);
        command.current_dir(&machine).env("TMPDIR", &machine).stdin(Stdio::null());
        self.variables.iter().for_each(|(name, value)| _ = command.env(name, value));
        command
    }

    fn run(&self, words: &[&str]) -> Ran {
        Ran::from(self.command(words).output().unwrap())
    }

    fn start(&self, words: &[&str]) -> Child {
        self.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn plan(&self, options: &[&str]) -> Ran {
        self.run(&[&["plan", &self.scene, "-o", &self.out], options].concat())
    }

    /// The words for a shard.
    fn shard<'a>(&'a self, shard: &'a str) -> [&'a str; 8] {
        ["infer", &self.scene, "-o", &self.out, "--shard", shard, "--threads", "1"]
    }

    /// Scratch files that processes have left.
    fn left(&self) -> Vec<PathBuf> {
        files(self.root.path()).into_keys().collect()
    }
}

/// Ends well.
fn ended(child: Child) -> Ran {
    Ran::from(child.wait_with_output().unwrap()).done()
}

/// Of the files of a job, those that a single run leaves, too.
fn results(mut found: BTreeMap<PathBuf, Vec<u8>>) -> BTreeMap<PathBuf, Vec<u8>> {
    found.retain(|path, _| {
        !path.starts_with("shards")
            && !path.starts_with("tiles")
            && !path.starts_with("mesh")
            && path.extension().is_none_or(|ending| ending != "json" && ending != "lock")
    });
    found
}

/// A single run in folders.
fn alone(scene: &Path, out: &Path, options: &[&str]) -> BTreeMap<PathBuf, Vec<u8>> {
    engine([&["infer", text(scene), "-o", text(out)], options].concat()).done();
    results(files(out))
}

/// What a run with `--json` says of an address: requests and bytes.
fn moved(ran: &Ran, address: &str) -> serde_json::Value {
    let of_it = |event: &serde_json::Value| event["event"] == "object_store" && event["address"] == *address;
    ran.events().into_iter().find(of_it).unwrap_or_else(|| panic!("nothing of {address}: {}", ran.stdout))
}
