//! `engine doctor`: looks at a scene before and after a run and says what is wrong with it, in words that name the
//! mistake.
//!
//! Each check is a file: [`files`] (layout, sizes, depth numbers), [`intrinsics`] (K against the photo), [`poses`]
//! (cameras against each other), [`observations`] (sparse points through the cameras), [`photos`] (matches between the
//! photos through the cameras, from [`corners`] and [`tracks`]), [`pairs`] (angles and overlap of sources), [`depths`]
//! (range, planes, resolution), [`memory`] and [`run`] (what became of the pixels). [`mistakes`] has the mistakes that
//! are recognised by trying their correction.
//!
//! Every finding says what was found, what was expected and what to do. A *problem* makes results wrong or impossible,
//! a *warning* makes them worse than they need be, a *note* is worth knowing. Every number with which a finding is
//! graded stands in its check with the reason beside it.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};

use crate::cpu::network::BsMvsNet;
use crate::error::{Error, Result};
use crate::files::folder;
use crate::manifest::Manifest;
use crate::run::options::InferOptions;
use crate::run::plan;
use crate::scene::camera::DepthRange;
use crate::scene::{Layout, Scene};

pub mod corners;
pub mod depths;
pub mod files;
pub mod intrinsics;
pub mod memory;
pub mod mistakes;
pub mod observations;
pub mod pairs;
pub mod photos;
pub mod poses;
pub mod run;
pub mod tracks;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// Results will be worse than they could be.
    Warning,
    /// Results will be wrong or missing.
    Problem,
}

impl Grade {
    /// The grade in one word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One thing that a check has found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub grade: Grade,
    /// What was looked at: `intrinsics`, `range`.
    pub check: &'static str,
    /// The finding's fixed name, for programs: `scaled-intrinsics`.
    pub name: &'static str,
    /// What was found.
    pub found: String,
    /// What was expected; empty where all is well.
    pub expected: String,
    /// What to do; empty where nothing has to be done.
    pub advice: String,
    /// Names of the views that it is about; empty where it is about all.
    pub views: Vec<String>,
    /// The numbers behind it.
    pub numbers: Value,
}

impl Finding {
    /// All is well.
    pub fn ok(check: &'static str, name: &'static str, found: impl Into<String>) -> Self {
        Self::new(Grade::Ok, check, name, found, "", "")
    }

    /// A finding about all views.
    pub fn new(
        grade: Grade,
        check: &'static str,
        name: &'static str,
        found: impl Into<String>,
        expected: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        let [found, expected, advice] = [found.into(), expected.into(), advice.into()];
        Self { grade, check, name, found, expected, advice, views: Vec::new(), numbers: Value::Null }
    }

    /// With the views that it is about.
    pub fn of_views(mut self, views: Vec<String>) -> Self {
        self.views = views;
        self
    }

    /// With the numbers behind it.
    pub fn with(mut self, numbers: Value) -> Self {
        self.numbers = numbers;
        self
    }

    /// `warning  range: 3 of 7 views ...; expected ...; do ...`.
    pub fn line(&self) -> String {
        let mut line = format!("{:<8} {}: {}", self.grade.word(), self.check, self.found);
        for (before, part) in [("; expected ", &self.expected), ("; ", &self.advice)] {
            if !part.is_empty() {
                line += before;
                line += part;
            }
        }
        line
    }
}

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

/// Names for a message: all of a few, else the first.
pub(crate) fn names(views: &[String]) -> String {
    const SHOWN: usize = 4;
    let more = if views.len() > SHOWN { ", ..." } else { "" };
    format!("{}{more}", views[..views.len().min(SHOWN)].join(", "))
}

/// The lower median; `None` of nothing. Infinite values are larger than any other.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    let middle = values.len().checked_sub(1)? / 2;
    Some(*values.select_nth_unstable_by(middle, f64::total_cmp).1)
}

/// Looks at the scene in the folder `path`, and at a run's results.
///
/// What is wrong with the scene is a finding, also where it keeps the scene from being read at all.
///
/// # Errors
/// A `--run` folder without a manifest; an interrupt.
pub fn examine(path: &Path, network: &BsMvsNet, options: &DoctorOptions) -> Result<Report> {
    let run = finished_run(path, options)?;
    let mut findings = Vec::new();
    let mut scene = match Scene::open(path, &options.infer.open) {
        Ok(scene) => scene,
        Err(error) => {
            files::unreadable(path, &error, &mut findings);
            return Ok(Report { findings });
        }
    };
    files::check(&scene, &mut findings);
    intrinsics::check(&scene, &mut findings);
    poses::check(&scene, &mut findings);
    let planned = plan::plan(&mut scene, &options.infer);
    let mut known = KnownDepths::default();
    if scene.layout == Layout::Colmap {
        observations::check(&scene, &mut findings, &mut known)?;
    }
    let mut fit = None;
    if options.match_photos {
        fit = photos::check(&scene, &mut findings, &mut known)?;
    }
    match &planned {
        Ok(plan) => {
            pairs::check(&scene, plan, &known, &mut findings);
            depths::check(&scene, plan, options, &known, &mut findings);
            memory::check(&scene, plan, network, &options.infer, &mut findings);
        }
        Err(error) => findings.push(files::refused("plan", "no-plan", error)),
    }
    if let Some(run) = &run {
        run::check(&scene, run, fit.as_ref(), &known, &mut findings)?;
    }
    Ok(Report { findings })
}

/// The run that is asked for, or the one in the default folder.
fn finished_run(scene: &Path, options: &DoctorOptions) -> Result<Option<Manifest>> {
    if let Some(folder) = &options.run {
        return Manifest::read(folder)?.map(Some).ok_or_else(|| {
            Error::input(
                folder.display().to_string(),
                "no manifest.json",
                "the folder of a run's results, such as `engine infer` writes",
            )
        });
    }
    // Where no default folder can be named there is no run in it.
    folder::default_folder(scene).ok().map_or(Ok(None), |folder| Manifest::read(&folder))
}

/// Depths that surfaces are known to have, by view: from sparse points or from matched photos.
#[derive(Clone, Debug, Default)]
pub struct KnownDepths {
    /// `[view]`: depths in front of it, unsorted.
    pub of_views: Vec<Vec<f64>>,
    /// What they are from, for messages: `sparse points`.
    pub from: &'static str,
}

impl KnownDepths {
    /// Fewer say nothing about a view's range.
    pub const FEWEST: usize = 20;

    /// The 1st and 99th percentile of a view's known depths, where enough are known.
    pub fn span(&self, view: usize) -> Option<DepthRange> {
        let mut depths = self.of_views.get(view)?.clone();
        if depths.len() < Self::FEWEST {
            return None;
        }
        depths.sort_unstable_by(f64::total_cmp);
        let at = |percent: usize| depths[(depths.len() - 1) * percent / 100];
        Some(DepthRange { near: at(1), far: at(99) })
    }

    /// The share of a view's known depths outside a range, where enough are known.
    pub fn outside(&self, view: usize, range: DepthRange) -> Option<f64> {
        let depths = self.of_views.get(view)?;
        let outside = depths.iter().filter(|&&z| z < range.near || z > range.far).count();
        (depths.len() >= Self::FEWEST).then(|| outside as f64 / depths.len() as f64)
    }
}

/// The name of a view.
pub(crate) fn name_of(scene: &Scene, view: usize) -> String {
    scene.views[view].name.clone()
}

/// A share for a message: `12 %`.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

/// Views by what they have in common, for a finding about several.
pub(crate) fn counted_views(views: &[String], all: usize) -> String {
    match views {
        [one] => format!("view {one}"),
        _ if views.len() == all => format!("all {all} views"),
        _ => format!("{} of {all} views ({})", views.len(), names(views)),
    }
}

/// A length in scene units, whatever they are, to four digits.
pub(crate) fn units(value: f64) -> String {
    let digits = 3 - value.abs().max(1e-12).log10().floor() as i32;
    format!("{value:.*}", digits.clamp(0, 12) as usize)
}

/// A range in scene units.
pub(crate) fn range_text(range: DepthRange) -> String {
    format!("{} to {}", units(range.near), units(range.far))
}

/// A range as numbers.
pub(crate) fn range_json(range: DepthRange) -> Value {
    json!([range.near, range.far])
}
