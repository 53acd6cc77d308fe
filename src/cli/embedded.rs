//! The main job for programs that have the engine as a library: options by the names that they have on the command
//! line, checked by the same rules, with the same defaults, refused in the same words.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use clap::{Args, Command, FromArgMatches};
use engine::files::folder::OutputOptions;
use engine::host::memory;
use engine::host::progress::Progress;
use engine::scene::{OpenOptions, Scene};
use engine::{Error, Result};

use super::infer::{InferWork, Place};
use super::layers::{self, Origin};
use super::options::{SceneArgs, use_threads};

/// An option's name, as on the command line without dashes (`_` stands for `-`, too), and its value; of a switch `true`
/// or `false`.
pub type Given = (String, String);

/// `engine infer`: depth maps and a cloud of a scene's files into the folder `out`.
///
/// # Errors
/// Options that do not exist or fit, and as [`engine::run::infer::infer`].
pub fn infer(scene: &Path, out: PathBuf, options: &[Given], progress: &Progress) -> Result<()> {
    run(Place::Files(scene), out, options, progress)
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
    run(Place::Photos(Box::new(scene)), out, options, progress)
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

fn run(place: Place, out: PathBuf, options: &[Given], progress: &Progress) -> Result<()> {
    let work: InferWork = parsed(options)?;
    let limits = work.limits();
    set_threads(limits.threads)?;
    memory::set_budget(limits.memory);
    work.run_at(place, OutputOptions { out: Some(out), force: false }, progress)
}

/// A command's options from their names and values.
fn parsed<T: Args + FromArgMatches>(options: &[Given]) -> Result<T> {
    let mut command = T::augment_args(Command::new("options").no_binary_name(true));
    command.build();
    let options: Vec<Given> = options.iter().map(|(name, value)| (name.replace('_', "-"), value.clone())).collect();
    let mut words = Vec::new();
    for (name, value) in with_preset(options) {
        let Some(arg) = command.get_arguments().find(|arg| arg.get_long() == Some(&name) && name != "help") else {
            return Err(layers::unknown_option(&command, &name));
        };
        let origin = Origin::Argument(name.replace('-', "_"));
        layers::check(arg, &name, std::slice::from_ref(&value), &origin)?;
        match (layers::is_flag(arg), value.as_str()) {
            (true, "true") => words.push(format!("--{name}")),
            (true, _) => {}
            (false, value) => words.push(format!("--{name}={value}")),
        }
    }
    // Each alone is right: what is left is that some do not go together.
    let refused = |error: clap::Error| {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        Error::input("options", first, "options that go together")
    };
    let matches = command.try_get_matches_from(words).map_err(refused)?;
    T::from_arg_matches(&matches).map_err(refused)
}

/// With what `quality` stands for, where it is not given otherwise.
fn with_preset(mut options: Vec<Given>) -> Vec<Given> {
    let quality = options.iter().find(|(name, _)| name == "quality").map(|(_, value)| value.clone());
    for (name, value) in layers::preset_of(quality.as_deref()) {
        if !options.iter().any(|(given, _)| given == name) {
            options.push(((*name).to_owned(), (*value).to_owned()));
        }
    }
    options
}
