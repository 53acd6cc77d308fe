//! `engine doctor`: looks at a scene before and after a run and says what is wrong with it, in words that name the
//! mistake.
//!
//! Each check is a file of its own; those of matches between photos work on [`crate::matching`], and [`mistakes`] has
//! the mistakes that are recognised by trying their correction. Every [`finding`] says what was found, what was
//! expected and what to do. Every number with which it is graded stands in its check with the reason beside it. Nothing
//! is repaired here.

use std::path::{Path, PathBuf};

use finding::{Finding, Grade};
use known_depths::KnownDepths;
use serde::Serialize;

use crate::cpu::network::BsMvsNet;
use crate::error::{Error, Result};
use crate::files::folder;
use crate::host::interrupt;
use crate::manifest::{Manifest, made};
use crate::run::options::InferOptions;
use crate::run::{opening, plan};
use crate::scene::Layout;

pub mod depths;
pub mod files;
pub mod finding;
pub mod intrinsics;
pub mod known_depths;
pub mod maps;
pub mod memory;
pub mod mistakes;
pub mod observations;
pub mod pairs;
pub mod photos;
pub mod poses;
pub mod run;

/// What the doctor can be told.
#[derive(Clone, Debug)]
pub struct DoctorOptions {
    /// As a run would be told; only what concerns scene, depth and memory is used.
    pub infer: InferOptions,
    /// The folder of a run's results; `None`: the default folder beside the scene, if there is one.
    pub run: Option<PathBuf>,
    /// Whether photos are decoded and matched.
    pub match_photos: bool,
}

/// Everything that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// In the order of the checks.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Findings of a grade.
    pub fn count(&self, grade: Grade) -> usize {
        self.findings.iter().filter(|f| f.grade == grade).count()
    }

    /// The findings of a name.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Finding> {
        self.findings.iter().filter(move |f| f.name == name)
    }
}

/// Looks at the scene in the folder `path`, and at a run's results.
///
/// What is wrong with the scene is a finding, also where it keeps the scene from being read at all.
///
/// # Errors
/// A `--run` folder without a manifest; an interrupt.
pub fn examine(path: &Path, network: &BsMvsNet, options: &DoctorOptions) -> Result<Report> {
    let mut findings = Vec::new();
    let run = finished_run(path, options, &mut findings)?;
    let mut scene = match opening::open(path, &options.infer.open) {
        Ok((scene, _)) => scene,
        Err(Error::Interrupted) => return Err(Error::Interrupted),
        Err(error) => {
            files::unreadable(path, &options.infer.open, &error, &mut findings);
            return Ok(Report { findings });
        }
    };
    files::check(&scene, &mut findings);
    intrinsics::check(&scene, &mut findings);
    poses::check(&scene, &mut findings);
    interrupt::check()?;
    let planned = plan::plan(&mut scene, &options.infer);
    let mut known = KnownDepths::default();
    if scene.layout == Layout::Colmap {
        observations::check(&scene, &options.infer.open, &mut findings, &mut known)?;
    }
    let mut fit = None;
    if options.match_photos {
        fit = photos::check(&scene, &mut findings, &mut known)?;
    }
    interrupt::check()?;
    match &planned {
        Ok(plan) => {
            pairs::check(&scene, plan, &known, &mut findings);
            interrupt::check()?;
            depths::check(&scene, plan, options.infer.open.depth_numbers, &known, &mut findings);
            memory::check(&scene, plan, network, &options.infer, &mut findings);
        }
        Err(error) => findings.push(files::refused("plan", "no-plan", error)),
    }
    if let Some(run) = &run {
        maps::check(run, &mut findings)?;
        run::check(&scene, run, fit.as_ref(), &known, &mut findings)?;
    }
    Ok(Report { findings })
}

/// The run that is asked for, or the one in the default folder.
fn finished_run(scene: &Path, options: &DoctorOptions, findings: &mut Vec<Finding>) -> Result<Option<Manifest>> {
    // Where no default folder can be named there is no run in it.
    let Some(folder) = options.run.clone().or_else(|| folder::default_folder(scene).ok()) else { return Ok(None) };
    let unfinished = "no manifest.json: a run has begun in it and has not come to its end";
    let expected = "the folder of a run's results, such as `engine infer` writes";
    match Manifest::read(&folder)? {
        Some(run) => Ok(Some(run)),
        None if options.run.is_some() => {
            let found = if made::is_unfinished(&folder) { unfinished } else { "no manifest.json" };
            Err(Error::input(folder.display().to_string(), found, expected))
        }
        None => {
            if made::is_unfinished(&folder) {
                let found = format!("{}: {unfinished}", folder.display());
                let advice = "give the same `engine infer` again to go on";
                findings.push(Finding::new(Grade::Note, "run", "unfinished", found, "", advice));
            }
            Ok(None)
        }
    }
}
