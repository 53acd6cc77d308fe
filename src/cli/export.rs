//! `engine export`: a finished run into the files of other programs; and what `engine infer --export` shares with it.

use std::path::{Path, PathBuf};

use clap::Args;
use engine::Result;
use engine::export::crs::CrsOption;
use engine::export::exporting::export;
use engine::export::options::{ExportOptions, PhotoFormat, PlyNames};
use engine::export::table::{FORMATS, named};
use engine::files::folder::OutputOptions;
use engine::host::interrupt;
use engine::host::progress::Progress;

use super::options::{self, LimitArgs, ReportArgs};
use super::places::{CacheArgs, Places};

/// Write a finished run's cloud, maps, cameras and photos in the formats of other programs.
///
/// OUT is the folder of results of `engine infer` (or of `engine fuse`). Exports go to FOLDER, by default OUT/export;
/// export.json there lists them. docs/EXPORT.md says what each format keeps.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  engine export out --to las,npz
  engine export survey_engine --to laz --crs EPSG:32632
  engine export out --to ply,glb --outliers --spacing 0.01 -o for_viewers")]
pub struct ExportArgs {
    /// The folder with the results of a finished run
    #[arg(value_name = "OUT")]
    results: PathBuf,
    /// Formats, with commas between
    #[arg(long, value_name = "LIST", required = true, value_delimiter = ',', value_parser = format, help = to_help())]
    to: Vec<&'static str>,
    /// Folder for the exports, created if missing [default: OUT/export]
    #[arg(short, long, value_name = "FOLDER", help_heading = "Output")]
    out: Option<PathBuf>,
    /// The scene's folder, for photos, if it is no longer where the run has found it
    #[arg(long, value_name = "SCENE", help_heading = "Export")]
    scene: Option<PathBuf>,
    /// Write into FOLDER even if it holds other files or the exports of another run
    #[arg(long, help_heading = "Output")]
    force: bool,
    #[command(flatten)]
    how: ExportHow,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    cache: CacheArgs,
    #[command(flatten)]
    pub report: ReportArgs,
}

/// How results are exported.
#[derive(Args, Debug)]
#[command(next_help_heading = "Export")]
pub struct ExportHow {
    /// Coordinate system of las, laz and copc: EPSG:n, a projected one or EPSG:4978. It is named there; where the
    /// scene's files say where on earth it lies (OpenSfM, OpenDroneMap, Metashape, OPF), coordinates become those of
    /// the system. scene leaves these as they are [default: there, the files' own system, or UTM's zone]
    #[arg(long, value_name = "EPSG:N")]
    crs: Option<CrsOption>,
    /// What confidence and number of views are called in cloud.ply: as in fused.ply, or scalar_confidence and
    /// scalar_views, which CloudCompare takes as scalar fields
    #[arg(long, value_name = "WHOSE", default_value = "engine")]
    ply_names: PlyNames,
    /// Depth 0 in maps where a pixel has too little confidence to become a point, or too few views confirm it, by the
    /// limits of the run
    #[arg(long)]
    filtered_depth: bool,
    /// Leave out points of the cloud whose 16 nearest neighbours are on average farther than the mean of the cloud and
    /// this many standard deviations
    #[arg(long, value_name = "DEVIATIONS", num_args = 0..=1, default_missing_value = "2", require_equals = true)]
    #[arg(value_parser = options::positive_number)]
    outliers: Option<f64>,
    /// Thin the cloud to one point, the mean, a cube of this side, in the scene's units
    #[arg(long, value_name = "SIZE", value_parser = options::positive_number)]
    spacing: Option<f64>,
    /// Thin the cloud to at most this many points, evenly in its order
    #[arg(long, value_name = "N", value_parser = options::positive_integer)]
    max_points: Option<usize>,
    /// How undistorted photos are stored: png, jpeg (quality 95) or jpeg:QUALITY (1 to 100)
    #[arg(long, value_name = "HOW", default_value = "jpeg")]
    photos: PhotoFormat,
}

impl ExportHow {
    /// Into this folder, to these formats.
    pub fn options(&self, to: Vec<&'static str>, output: OutputOptions) -> ExportOptions {
        let Self { crs, ply_names, filtered_depth, outliers, spacing, max_points, photos } = *self;
        ExportOptions { output, to, scene: None, crs, ply_names, filtered_depth, outliers, spacing, max_points, photos }
    }
}

/// A format of the table.
pub fn format(text: &str) -> Result<&'static str, String> {
    named(text).map(|format| format.name).ok_or_else(|| {
        let names: Vec<&str> = FORMATS.iter().map(|format| format.name).collect();
        format!("expected formats from {}, with commas between", names.join(", "))
    })
}

/// What the table says.
pub fn to_help() -> String {
    let lines = FORMATS.iter().map(|format| format!("{} ({})", format.name, format.what));
    format!("Formats, with commas between: {}", lines.collect::<Vec<_>>().join("; "))
}

/// Exports a run that has just been made, if there is a format to export it to.
pub fn after(folder: &Path, to: Vec<&'static str>, how: &ExportHow, progress: &Progress) -> Result<()> {
    if to.is_empty() {
        return Ok(());
    }
    export(folder, &how.options(to, OutputOptions::default()), progress)
}

impl ExportArgs {
    /// What may be addresses.
    pub fn places(&mut self) -> Places<'_> {
        let results = self.scene.is_none().then(|| self.results.clone());
        let folders = std::iter::once(&mut self.results).chain(&mut self.scene).chain(&mut self.out).collect();
        Places { folders, results, cache: self.cache.cache.as_deref(), ..Places::default() }
    }
}

/// Does it.
pub fn run(args: ExportArgs, progress: &Progress) -> Result<()> {
    interrupt::install()?;
    args.limits.apply()?;
    let output = OutputOptions { out: args.out, force: args.force };
    let options = ExportOptions { scene: args.scene, ..args.how.options(args.to, output) };
    export(&args.results, &options, progress)
}
