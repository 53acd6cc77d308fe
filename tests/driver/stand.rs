//! Runs the real program on the stand-in for CUDA's driver, and reads what the stand-in saw.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::program::{Ran, command};

/// The stand-in as Cargo built it for the tests, or `None` after a line that says what is skipped.
pub fn library() -> Option<PathBuf> {
    if !engine::cuda::BUILT_IN || !cfg!(target_os = "linux") {
        eprintln!("skipped: this build has no CUDA (cargo test --features cuda --test driver)");
        return None;
    }
    let path = std::env::current_exe().unwrap().with_file_name("libstandin_cuda.so");
    assert!(path.exists(), "{} is missing, which Cargo builds beside the tests", path.display());
    Some(path)
}

/// A folder with the driver's name in it, and what a run is asked and tells.
pub struct Stand {
    folder: tempfile::TempDir,
    variables: BTreeMap<String, String>,
}

/// What the stand-in saw of a run.
#[derive(Debug, Default)]
pub struct Seen {
    /// Numbers by name: `peak`, `live`, `calls cuMemAlloc_v2`, `kernel NAME`.
    pub numbers: BTreeMap<String, u64>,
    /// What was found.
    pub found: Vec<String>,
    /// The log, if there is one.
    pub log: Vec<String>,
}

impl Stand {
    /// With a log, which costs little.
    pub fn new() -> Option<Self> {
        let library = library()?;
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("lib")).unwrap();
        std::os::unix::fs::symlink(library, folder.path().join("lib/libcuda.so.1")).unwrap();
        Some(Self { folder, variables: BTreeMap::new() })
    }

    /// With cuDNN beside it.
    pub fn with_cudnn(self) -> Self {
        self.with_libraries(&["libcudnn.so.9", "libcublas.so.13", "libcublasLt.so.13"])
    }

    /// With libraries of these names beside it.
    pub fn with_libraries(self, names: &[&str]) -> Self {
        let library = library().unwrap();
        names.iter().for_each(|name| std::os::unix::fs::symlink(&library, self.path("lib").join(name)).unwrap());
        self
    }

    /// With kernels that the C++ compiler made (docs/EMULATOR.md): fast, and nothing in them is checked. `None` without
    /// a C++ compiler.
    pub fn with_compiled_kernels(self) -> Option<Self> {
        let Some(path) = crate::emulator::compile(crate::emulator::Build::Fast) else {
            crate::emulator::skipped("no C++ compiler for the kernels");
            return None;
        };
        Some(self.with("ENGINE_STANDIN_KERNELS", path.to_str().unwrap()))
    }

    /// As a driver of CUDA 12.7 or before: without the newer name of a call.
    pub fn without_the_newer_timer(self) -> Self {
        let path = self.folder.path().join("lib/libcuda.so.1");
        let mut bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let name = &b"cuEventElapsedTime_v2\0"[..];
        let places = bytes.windows(name.len()).enumerate().filter(|(_, window)| *window == name);
        let places: Vec<usize> = places.map(|(at, _)| at).collect();
        assert!(!places.is_empty());
        // A symbol of another name is not found by this one's hash.
        places.into_iter().for_each(|at| bytes[at + name.len() - 2] = b'9');
        std::fs::write(path, bytes).unwrap();
        self
    }

    /// Another variable of the environment.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Where a run's output may go.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program, not started yet.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = command(words);
        command.env("LD_LIBRARY_PATH", self.path("lib")).envs(&self.variables);
        command.env("ENGINE_STANDIN_REPORT", self.path("report")).env("ENGINE_STANDIN_LOG", self.path("log"));
        command
    }

    /// Runs the program.
    pub fn run(&self, words: &[&str]) -> (Ran, Seen) {
        let ran = Ran::from(self.command(words).output().unwrap());
        (ran, self.seen())
    }

    /// What the last run left.
    pub fn seen(&self) -> Seen {
        let mut seen = Seen::default();
        let lines = |name: &str| -> Vec<String> {
            let text = std::fs::read(self.path(name)).unwrap_or_default();
            String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
        };
        for line in lines("report") {
            let (name, value) = line.rsplit_once(' ').unwrap();
            match line.strip_prefix("found ") {
                Some(text) => seen.found.push(text.to_owned()),
                None => {
                    seen.numbers.insert(name.to_owned(), value.parse().unwrap());
                }
            }
        }
        seen.log = lines("log");
        seen
    }
}

impl Seen {
    /// A count; 0 where nothing was counted.
    pub fn count(&self, name: &str) -> u64 {
        self.numbers.get(name).copied().unwrap_or(0)
    }

    /// Nothing that a program should not do, and everything given back.
    #[track_caller]
    pub fn clean(&self) {
        assert_eq!(self.found, Vec::<String>::new());
        let left = ["live", "pinned"].map(|name| self.count(name));
        assert_eq!(left, [0, 0], "bytes that were not given back");
    }
}

/// Whether all runs are wanted, which takes minutes (`make driver`).
pub fn all() -> bool {
    std::env::var_os("ENGINE_DRIVER_ALL").is_some()
}

/// The scene in the tree.
pub const SCENE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/scene");

fn words<'a>(out: &'a Path, [side, planes]: [&'a str; 2], more: &[&'a str]) -> Vec<&'a str> {
    let mut words = vec!["infer", SCENE, "-o", out.to_str().unwrap(), "--quiet", "--levels", "1", "--views", "3"];
    words.extend(["--max-side", side, "--planes", planes]);
    if !more.contains(&"--resolution") {
        words.extend(["--resolution", "quarter"]);
    }
    words.extend(more);
    words
}

/// `engine infer` on the example's scene with photos of 64 x 48 and two depth maps, of a quarter of their sides unless
/// the other words say so.
pub fn infer<'a>(out: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let mut words = words(out, ["64", "8"], more);
    words.extend(["--min-views", "1", "--min-confidence", "0", "--view", VIEWS[0], "--view", VIEWS[1]]);
    words
}

/// As small as may be: photos of 32 x 24 and one depth map, which still has recordings of features.
pub fn smallest<'a>(out: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let mut words = words(out, ["32", "4"], more);
    words.extend(["--view", VIEWS[0], "--depth-only", "--precision", "f32"]);
    words
}

/// As [`smallest`], with depth maps of three views, photos decoded by one thread.
pub fn three_views<'a>(out: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let mut words = smallest(out, more);
    words.extend(["--view", VIEWS[1], "--view", "00000002", "--threads", "1"]);
    words
}

/// The views that have depth maps.
pub const VIEWS: [&str; 2] = ["00000000", "00000001"];

/// What a run wrote that its result consists of.
pub fn results(out: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = crate::program::files(out);
    files.retain(|path, _| path.extension().is_some_and(|end| end == "pfm" || end == "ply"));
    assert!(!files.is_empty(), "{}", out.display());
    files
}
