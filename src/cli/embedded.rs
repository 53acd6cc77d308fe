//! The main job for programs that have the engine as a library: options by the names that they have on the command
//! line, checked by the same rules, with the same defaults, refused in the same words.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use engine::files::folder::OutputOptions;
use engine::host::memory;
use engine::host::progress::Progress;
use engine::scene::{OpenOptions, Scene};
use engine::{Error, Result};

pub use super::given::Given;
use super::given::parsed;
use super::infer::{InferWork, Task};
use super::options::{SceneArgs, use_threads};

/// `engine infer`: depth maps and a cloud of a scene's files into the folder `out`.
///
/// # Errors
/// Options that do not exist or fit, and as [`engine::run::infer::infer`].
pub fn infer(scene: &Path, out: PathBuf, options: &[Given], progress: &Progress) -> Result<()> {
    run(Task::Files(scene), out, options, progress)
}

/// As [`infer`], of photos in memory ([`Scene::of_photos`]).
///
/// # Errors
/// As [`infer`]; options of how files are read.
pub fn infer_photos(mut scene: Scene, out: PathBuf, options: &[Given], progress: &Progress) -> Result<()> {
    if let Some((name, _)) = named(options, &OF_FILES) {
        return Err(Error::input(name, "an option of how files are read", "none of these with photos in memory"));
    }
    scene.take(&parsed::<InferWork>(options)?.open_options())?;
    run(Task::Photos(Box::new(scene)), out, options, progress)
}

/// What says nothing of photos in memory.
const OF_FILES: [&str; 5] = ["depth-numbers", "format", "images", "masks", "sparse"];
/// What says nothing of how files are read.
const OF_RUNS: [&str; 2] = ["max-side", "view"];

/// The first of the options that has one of these names.
fn named<'a>(options: &'a [Given], names: &[&str]) -> Option<&'a Given> {
    options.iter().find(|(name, _)| names.contains(&name.replace('_', "-").as_str()))
}

/// How [`Scene::open`] reads, by options of the command line (`format`, `masks`, `roi`, ...).
///
/// # Errors
/// Options that do not exist or fit, or that are of a run.
pub fn open_options(options: &[Given]) -> Result<OpenOptions> {
    if let Some((name, _)) = named(options, &OF_RUNS) {
        return Err(Error::input(name, "an option of a run", "options of how a scene's files are read"));
    }
    Ok(parsed::<SceneArgs>(options)?.open_options(false))
}

/// Starts this many threads, or one a processor. The first call of any function here decides.
///
/// # Errors
/// Another number than before; threads that the system does not start.
pub fn set_threads(threads: Option<usize>) -> Result<()> {
    static STARTED: Mutex<bool> = Mutex::new(false);
    let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    if !*started {
        match use_threads(threads) {
            // Reading a scene has started them, one a processor.
            Err(error) if error.to_string().contains("has already been initialized") => {}
            result => result?,
        }
    }
    *started = true;
    let there = rayon::current_num_threads();
    match threads {
        Some(wanted) if wanted != there => Err(Error::input(
            "threads",
            format!("{wanted}, after work with {there} had begun"),
            "one number for the whole process, told before its first work",
        )),
        _ => Ok(()),
    }
}

fn run(task: Task, out: PathBuf, options: &[Given], progress: &Progress) -> Result<()> {
    let work: InferWork = parsed(options)?;
    let limits = work.limits();
    set_threads(limits.threads)?;
    memory::set_budget(limits.memory);
    work.run_task(task, OutputOptions { out: Some(out), force: false }, progress)
}
