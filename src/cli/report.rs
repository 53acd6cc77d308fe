//! `engine report`: a finished run as one HTML page; and what `engine infer --report` shares with it.

use std::path::{Path, PathBuf};

use clap::Args;
use engine::Result;
use engine::host::interrupt;
use engine::host::progress::Progress;
use engine::report::making::report;
use engine::report::options::{MOST_POINTS, ReportOptions};

use super::options::{self, LimitArgs, ReportArgs};
use super::places::{CacheArgs, Places};

/// Write a finished run as one HTML page to look at.
///
/// The page has the cloud in 3D, photo, depth and confidence of every view, where pixels were lost, what the doctor
/// finds, and the run's notes, parameters and times. It is one file that needs no net: it can be mailed, and opens by a
/// double click. docs/REPORT.md says how to read it.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  engine report out
  engine report out -o bust.html --max-points 300000 --picture-side 480")]
pub struct ReportCommand {
    /// The folder with the results of a finished run
    #[arg(value_name = "OUT")]
    results: PathBuf,
    /// The page's file [default: OUT/report.html]
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    out: Option<PathBuf>,
    /// Write over FILE even if it is no report
    #[arg(long, help_heading = "Output")]
    force: bool,
    /// The scene's folder, for photos, if it is no longer where the run has found it
    #[arg(long, value_name = "SCENE", help_heading = "Report")]
    scene: Option<PathBuf>,
    /// Show at most this many points of the cloud, taken evenly in its order; a million take some 8.5 MB
    #[arg(long, value_name = "N", default_value_t = MOST_POINTS, value_parser = options::positive_integer)]
    #[arg(help_heading = "Report")]
    max_points: usize,
    /// Longest side of the pictures of views [default: that of the maps, or less so that all together have 3 million
    /// pixels]
    #[arg(long, value_name = "PX", value_parser = options::side, help_heading = "Report")]
    picture_side: Option<usize>,
    /// Do not ask the doctor
    #[arg(long, conflicts_with = "match_photos", help_heading = "Report")]
    no_doctor: bool,
    /// Let the doctor match the photos, too, as `engine doctor` does; it takes longer
    #[arg(long, help_heading = "Report")]
    match_photos: bool,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    cache: CacheArgs,
    #[command(flatten)]
    pub report: ReportArgs,
}

/// Reports a run that has just been made.
pub fn after(folder: &Path, progress: &Progress) -> Result<()> {
    report(folder, &ReportOptions::default(), progress)
}

impl ReportCommand {
    /// What may be addresses.
    pub fn places(&mut self) -> Places<'_> {
        let results = self.scene.is_none().then(|| self.results.clone());
        let folders = std::iter::once(&mut self.results).chain(&mut self.scene).collect();
        Places { folders, file: self.out.as_mut(), results, cache: self.cache.cache.as_deref(), ..Places::default() }
    }
}

/// Does it.
pub fn run(args: ReportCommand, progress: &Progress) -> Result<()> {
    interrupt::install()?;
    args.limits.apply()?;
    let options = ReportOptions {
        file: args.out,
        force: args.force,
        scene: args.scene,
        max_points: args.max_points,
        picture_side: args.picture_side,
        doctor: !args.no_doctor,
        match_photos: args.match_photos,
    };
    report(&args.results, &options, progress)
}
