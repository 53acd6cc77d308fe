//! `engine map`: a finished run of a scene seen from above as a surface model and an orthophoto.

use std::path::PathBuf;

use clap::Args;
use engine::Result;
use engine::export::crs::Crs;
use engine::files::folder::OutputOptions;
use engine::host::interrupt;
use engine::host::progress::Progress;
use engine::ortho::mapping::map;
use engine::ortho::options::{FILL_CELLS, MapOptions, Up, numbers};
use glam::DVec3;

use super::options::{self, LimitArgs, ReportArgs};
use super::places::{CacheArgs, Places};

/// Map a finished run of a scene that was seen from above: surface model and true orthophoto.
///
/// OUT is the folder of results of `engine infer` (or of `engine fuse`). dsm.tif has the height of the highest surface
/// in every cell, ortho.tif its colour from the photo that sees it best, both as cloud-optimised GeoTIFF. They go to
/// FOLDER, by default OUT/map; map.json there tells of them. docs/MAP.md says how they are made and how good they are.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  engine map out
  engine map survey_engine --gsd 0.05 --crs EPSG:32632
  engine map out --up y --bounds=-20,-20,20,20 --fill 0 --no-ortho")]
pub struct MapArgs {
    /// The folder with the results of a finished run
    #[arg(value_name = "OUT")]
    results: PathBuf,
    /// Folder for the map, created if missing [default: OUT/map]
    #[arg(short, long, value_name = "FOLDER", help_heading = "Output")]
    out: Option<PathBuf>,
    /// Write into FOLDER even if it holds other files or the map of another run
    #[arg(long, help_heading = "Output")]
    force: bool,
    #[command(flatten)]
    how: MapHow,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    cache: CacheArgs,
    #[command(flatten)]
    pub report: ReportArgs,
}

/// How a map is made.
#[derive(Args, Debug)]
#[command(next_help_heading = "Map")]
struct MapHow {
    /// Ground sample distance: side of a cell, in the scene's units [default: what a pixel of the depth maps covers on
    /// the ground, in the median]
    #[arg(long, value_name = "SIZE", value_parser = options::positive_number)]
    gsd: Option<f64>,
    /// Coordinate system of the scene's coordinates: EPSG:n, a projected one. It changes no coordinate; up is z then
    #[arg(long, value_name = "EPSG:N", value_parser = projected)]
    crs: Option<Crs>,
    /// Add this to the scene's coordinates, where they are local ones
    #[arg(long, value_name = "X,Y,Z", value_parser = offset, allow_hyphen_values = true)]
    offset: Option<DVec3>,
    /// The scene's direction up: x, -x, y, -y, z, -z, X,Y,Z, or cameras: across the plane that they lie in, or against
    /// their mean view [default: z with --crs and where the scene's format says so, else cameras]
    #[arg(long, value_name = "DIRECTION", allow_hyphen_values = true)]
    up: Option<Up>,
    /// Left, lower, right and upper side of the map, in its coordinates [default: all that views confirm]
    #[arg(long, value_name = "X0,Y0,X1,Y1", value_parser = bounds, allow_hyphen_values = true)]
    bounds: Option<[f64; 4]>,
    /// Close holes where surface is so many cells away or nearer all around; 0: none
    #[arg(long, value_name = "CELLS", value_parser = fill, default_value_t = FILL_CELLS)]
    fill: usize,
    /// Leave the orthophoto out; the photos are not read then
    #[arg(long, conflicts_with = "scene")]
    no_ortho: bool,
    /// The scene's folder, for photos, if it is no longer where the run has found it
    #[arg(long, value_name = "SCENE")]
    scene: Option<PathBuf>,
}

/// A system with a plane to map onto.
fn projected(text: &str) -> Result<Crs, String> {
    let crs: Crs = text.parse()?;
    if crs.is_geocentric() {
        return Err("expected a projected system, such as EPSG:32632 (UTM): in EPSG:4978 no plane is level; \
                    without --crs the map has coordinates of its own"
            .into());
    }
    Ok(crs)
}

/// Three numbers.
fn offset(text: &str) -> Result<DVec3, String> {
    numbers::<3>(text).map(DVec3::from).ok_or_else(|| "expected X,Y,Z, three numbers".into())
}

/// A rectangle.
fn bounds(text: &str) -> Result<[f64; 4], String> {
    let is_one = |[left, lower, right, upper]: &[f64; 4]| left < right && lower < upper;
    numbers::<4>(text).filter(is_one).ok_or_else(|| "expected X0,Y0,X1,Y1 with X0 < X1 and Y0 < Y1".into())
}

/// How far holes are closed.
fn fill(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n <= 100).ok_or_else(|| "expected a whole number from 0 to 100".into())
}

impl MapArgs {
    /// What may be addresses.
    pub fn places(&mut self) -> Places<'_> {
        let results = self.how.scene.is_none().then(|| self.results.clone());
        let folders = std::iter::once(&mut self.results).chain(&mut self.how.scene).chain(&mut self.out).collect();
        Places { folders, results, cache: self.cache.cache.as_deref(), ..Places::default() }
    }
}

/// Does it.
pub fn run(args: MapArgs, progress: &Progress) -> Result<()> {
    interrupt::install()?;
    args.limits.apply()?;
    let MapHow { gsd, crs, offset, up, bounds, fill, no_ortho, scene } = args.how;
    let options = MapOptions {
        output: OutputOptions { out: args.out, force: args.force },
        gsd,
        crs,
        offset: offset.unwrap_or_default(),
        up: up.unwrap_or_default(),
        bounds,
        fill,
        photo: !no_ortho,
        scene,
        memory: args.limits.memory,
    };
    map(&args.results, &options, progress)
}
