//! A job that was planned: its options in the plan's file, and back from there.

use std::any::TypeId;
use std::path::{Path, PathBuf};

use clap::{Arg, Args, Command};
use engine::Result;
use engine::files::folder::{OutputOptions, default_folder};
use engine::remote::address::Wanted;
use engine::remote::here;
use engine::shards::plan_file::{PLAN, PlanFile};

use super::given::{Given, parsed};
use super::infer::InferWork;
use super::layers::{Origin, Planned, Setting};

/// Options of the job that say with what means it is done, which every machine decides for itself.
const MEANS: [&str; 7] = ["convolutions", "device", "jpeg", "memory", "threads", "verify", "vram"];

/// The options of the job that were given in whatever way; paths so that they hold in other folders, too.
pub fn given(settings: &[Setting]) -> Vec<Given> {
    let command = InferWork::augment_args(Command::new("options"));
    let of_job = |name: &str| of_job(&command).find(|arg| arg.get_long() == Some(name));
    let mut given = Vec::new();
    for Setting { name, words, origin } in settings {
        // A preset is told by its own name.
        if matches!(origin, Origin::Default(_) | Origin::Quality(_)) {
            continue;
        }
        let Some(arg) = of_job(name) else { continue };
        given.extend(words.iter().map(|word| (name.clone(), anywhere(arg, word))));
    }
    given
}

/// The options that a plan decides.
fn of_job(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| arg.get_long().is_some_and(|name| !MEANS.contains(&name)))
}

/// A path from the root on, anything else as it is.
fn anywhere(arg: &Arg, word: &str) -> String {
    let is_path = arg.get_value_parser().type_id() == TypeId::of::<PathBuf>();
    // A region may be numbers or a file.
    let may_be_path = arg.get_long() == Some("roi") && Path::new(word).exists();
    match std::path::absolute(word) {
        Ok(path) if is_path || may_be_path => path.to_string_lossy().into_owned(),
        _ => word.to_owned(),
    }
}

/// The job of the plan in a folder.
///
/// # Errors
/// No plan, or one with options that do not fit.
pub fn work_of(plan: &PlanFile) -> Result<InferWork> {
    parsed(&plan.options)
}

/// The plan that a command line goes by: that of a shard in the folder that it names.
///
/// # Errors
/// A plan that cannot be read.
pub fn plan_of(path: &[String], settings: &[Setting], scene: Option<&Path>) -> Result<Option<Planned>> {
    let value = |name: &str| {
        let setting = settings.iter().find(|setting| setting.name == name)?;
        setting.words.first().filter(|_| !matches!(setting.origin, Origin::Default(_)))
    };
    if path != ["infer"] || value("shard").is_none() {
        return Ok(None);
    }
    let out = match (value("out"), scene) {
        (Some(out), _) => here(Path::new(out), Wanted::All, value("cache").map(Path::new))?,
        // What is wrong with the scene is told when it is read.
        (None, scene) => match scene.map(default_folder) {
            Some(Ok(out)) => out,
            _ => return Ok(None),
        },
    };
    let Some(plan) = PlanFile::read(&out)? else { return Ok(None) };
    let command = InferWork::augment_args(Command::new("options"));
    let names = of_job(&command).filter_map(|arg| arg.get_long().map(str::to_owned)).collect();
    Ok(Some(Planned { file: out.join(PLAN).display().to_string(), given: plan.options, names }))
}

/// Results in the folder of a plan.
pub fn output_in(out: &Path) -> OutputOptions {
    OutputOptions { out: Some(out.to_owned()), force: false }
}
