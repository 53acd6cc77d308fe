//! `engine synth`: scenes with exact depth, made from nothing but a seed, photos and meshes.

use std::path::PathBuf;

use clap::Args;
use engine::Result;
use engine::host::interrupt;
use engine::host::progress::Progress;
use engine::synth::rig::Rig;
use engine::synth::write::{self, PhotoFormat, WriteOptions};
use engine::synth::{Generator, GeneratorOptions, LARGEST_SIDE, SMALLEST_SIDE};

use super::options::{self, LimitArgs, ReportArgs, positive_integer};

/// Render synthetic scenes with exact depth, for training and experiments.
///
/// Writes OUT/scene_00000, OUT/scene_00001, ... in MVSNet layout: images/, cams/, pair.txt, depths/*.pfm (true depth
/// of every fourth pixel, 0 where there is none) and truth.ply (the visible surfaces). The same options and seed give
/// the same bytes on any number of threads. To continue a stopped run, give the same command again.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  engine synth made --scenes 10 --views 5 --size 640x512 --textures photos
  engine synth scan --views 49 --size 1600x1200 --rig arc --mesh bunny.ply --textures photos
  engine infer scan/scene_00000")]
pub struct SynthArgs {
    /// Folder for the scenes, created if missing
    out: PathBuf,

    /// Number of scenes
    #[arg(long, value_name = "N", default_value = "1", value_parser = positive_integer, help_heading = "Scenes")]
    scenes: usize,
    /// Views per scene [default: 49 on the arc, else 5]
    #[arg(long, value_name = "V", value_parser = options::views, help_heading = "Scenes")]
    views: Option<usize>,
    /// Width and height of the photos in pixels
    #[arg(long, value_name = "WxH", default_value = "640x512", value_parser = size, help_heading = "Scenes")]
    size: (usize, usize),
    /// Arrangement of the cameras. arc: 49 positions on a cap 650 mm away with depths of 450 to 950 mm, as in the DTU
    /// set; circle: a walk around the scene; cluster: around a reference view; mixed: one of these at random
    #[arg(long, value_name = "RIG", default_value = "arc", help_heading = "Scenes")]
    rig: Rig,
    /// Seed of the random scenes
    #[arg(long, value_name = "S", default_value = "0", help_heading = "Scenes")]
    seed: u64,
    /// Folder of photos to use as textures beside computed patterns [default: patterns only]
    #[arg(long, value_name = "DIR", help_heading = "Scenes")]
    textures: Option<PathBuf>,
    /// Triangle meshes (.obj, .ply) to place in the scenes
    #[arg(long, value_name = "FILE", num_args = 1.., help_heading = "Scenes")]
    mesh: Vec<PathBuf>,
    /// Share of surfaces with little texture or nearly none (0 to 1)
    #[arg(long, value_name = "0..1", default_value = "0.25", value_parser = options::fraction, help_heading = "Scenes")]
    low_texture: f64,
    /// Share of scenes that are one thing before a blank or black backdrop (0 to 1)
    #[arg(long, value_name = "0..1", default_value = "0", value_parser = options::fraction, help_heading = "Scenes")]
    alone: f64,
    /// Strength of the differences in exposure, colour, noise and blur between the photos of a scene (0 to 1)
    #[arg(long, value_name = "0..1", default_value = "1", value_parser = options::fraction, help_heading = "Scenes")]
    variation: f64,

    /// Number of planes to state in the camera files
    #[arg(long, value_name = "D", default_value = "192", value_parser = options::planes, help_heading = "Output")]
    planes: usize,
    /// Format of the photos: lossless PNG, or JPEG of quality 95
    #[arg(long, value_name = "FORMAT", default_value = "png", help_heading = "Output")]
    photos: PhotoFormat,
    /// Also write the depth of every pixel: depths_full/*.pfm
    #[arg(long, help_heading = "Output")]
    full_depth: bool,
    /// Pixels from one point of truth.ply to the next: 0.7 gives two points for every pixel, so that a cloud of full
    /// resolution is measured against one that is denser
    #[arg(long, value_name = "PX", default_value = "0.7", value_parser = truth_step, help_heading = "Output")]
    truth_step: f64,
    /// Also write texture/*.pfm (standard deviation of the grey values 0..1 around the pixel), slant/*.pfm (angle
    /// between normal and viewing ray, in degrees) and visible/*.pfm (number of other views that see the point)
    #[arg(long, help_heading = "Output")]
    extras: bool,
    /// Write into OUT even if it holds other files or scenes made with other options
    #[arg(long, help_heading = "Output")]
    force: bool,

    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    pub report: ReportArgs,
}

/// `640x512`.
pub(super) fn size(text: &str) -> Result<(usize, usize), String> {
    let side = |t: &str| t.trim().parse::<usize>().ok().filter(|n| (SMALLEST_SIDE..=LARGEST_SIDE).contains(n));
    let sides = text.split_once(['x', 'X']).and_then(|(w, h)| Some((side(w)?, side(h)?)));
    sides
        .ok_or_else(|| format!("expected WIDTHxHEIGHT, each {SMALLEST_SIDE} to {LARGEST_SIDE} pixels, such as 640x512"))
}

/// 0.1 to 64 pixels.
fn truth_step(text: &str) -> Result<f64, String> {
    let step = text.trim().parse::<f64>().ok().filter(|step| (0.1..=64.0).contains(step));
    step.ok_or_else(|| "expected 0.1 to 64 pixels, such as 0.5".into())
}

/// `320x256`, multiples of 4, as training and the measures on rendered scenes need it.
pub(super) fn size_of_4(text: &str) -> Result<(usize, usize), String> {
    let size = size(text)?;
    match size.0 % 4 + size.1 % 4 {
        0 if size.0 >= 32 && size.1 >= 32 => Ok(size),
        _ => Err("expected sides of at least 32 that are multiples of 4, such as 320x256".into()),
    }
}

/// Writes the scenes.
pub fn run(args: SynthArgs, progress: &Progress) -> Result<()> {
    interrupt::install()?;
    args.limits.apply()?;
    let options = WriteOptions {
        photos: args.photos,
        planes: args.planes,
        full_depth: args.full_depth,
        truth_step: args.truth_step,
        extras: args.extras,
    };
    let scenes = GeneratorOptions {
        seed: args.seed,
        views: args.views.unwrap_or(if args.rig == Rig::Arc { 49 } else { 5 }),
        size: args.size,
        rig: args.rig,
        textures: args.textures,
        meshes: args.mesh,
        low_texture: args.low_texture,
        alone: args.alone,
        variation: args.variation,
    };
    args.limits.expect_room(&write::need(&scenes, &options), "a smaller --size or fewer --views would help")?;
    let generator = Generator::new(scenes)?;
    write::write_scenes(&generator, &args.out, args.scenes as u64, &options, args.force, progress)
}
