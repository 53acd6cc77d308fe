//! `engine calibrate`: weights whose confidence is the probability that a depth is right.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use engine::Result;
use engine::cpu::network::BsMvsNet;
use engine::files::atomic::write_whole;
use engine::files::input;
use engine::files::names::in_json;
use engine::host::interrupt;
use engine::host::memory::{MemoryNeed, Part, StageMemory};
use engine::host::progress::{Progress, print_line};
use engine::net::confidence::{Confidence, Measured};
use engine::net::weights::Checkpoint;
use engine::synth::GeneratorOptions;
use engine::train::calibrate::{CalibrateOptions, LARGEST_LOOK, calibrate};
use serde_json::json;

use super::options::{self, LimitArgs, ReportArgs, positive_integer};

/// Fit the confidence of trained weights on rendered scenes.
///
/// Confidence becomes the probability that a depth is right: that its error moves the point by less than a pixel of the
/// photo in a middling source view. The fit becomes part of the weights' file. To be done once, after training.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  engine calibrate run/best.safetensors -o weights.safetensors --textures photos")]
pub struct CalibrateArgs {
    /// Weights, a safetensors file
    weights: PathBuf,
    /// File for the calibrated weights
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// Folder of photos to use as textures in rendered scenes [default: computed patterns only]
    #[arg(long, value_name = "DIR")]
    textures: Option<PathBuf>,
    /// Number of scenes to fit on
    #[arg(long, value_name = "N", default_value = "240", value_parser = positive_integer)]
    scenes: usize,
    /// Number of other scenes to measure on
    #[arg(long, value_name = "N", default_value = "120", value_parser = positive_integer)]
    measured: usize,
    /// Share of surfaces with little texture or nearly none in rendered scenes (0 to 1)
    #[arg(long, value_name = "0..1", default_value = "0.25", value_parser = options::fraction)]
    low_texture: f64,
    /// Share of rendered scenes that are one thing before a blank or black backdrop (0 to 1)
    #[arg(long, value_name = "0..1", default_value = "0.1", value_parser = options::fraction)]
    alone: f64,
    /// Seed of the scenes
    #[arg(long, value_name = "S", default_value = "20261127")]
    seed: u64,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    pub report: ReportArgs,
}

/// Fits, measures and writes.
pub fn run(args: &CalibrateArgs, progress: &Progress) -> Result<()> {
    interrupt::install()?;
    args.limits.apply()?;
    let bytes = input::read(&args.weights, "read the weights")?;
    let checkpoint = Checkpoint::uncalibrated(in_json(&args.weights), &bytes)?;
    let options = CalibrateOptions {
        scenes: args.scenes as u64,
        measured: args.measured as u64,
        generator: GeneratorOptions {
            textures: args.textures.clone(),
            low_texture: args.low_texture,
            alone: args.alone,
            ..Default::default()
        },
        seed: args.seed,
    };
    let network = BsMvsNet::new(&checkpoint)?;
    let (size, planes) = LARGEST_LOOK;
    let plan = network.memory_plan(size, planes, rayon::current_num_threads(), network.config().resolution);
    let stage = StageMemory::new("calibration", vec![Part::new("the network, at the largest scene", plan.peak(0))]);
    args.limits.expect_room(&MemoryNeed { stages: vec![stage] }, "fewer --threads would help")?;
    let looks = options.looks(network.config().resolution) as usize;
    let mut stage = progress.stage("calibrate", looks, looks as u64);
    let fits = calibrate(network, &options, &mut |what| stage.step(what, 1, json!({ "scene": what })))?;
    drop(stage);
    let made = Checkpoint::file_with(&bytes, &fits)?;
    write_whole(&args.out, "write the weights", |out| out.write_all(&made))?;
    progress.event("calibrated", json!({ "weights": in_json(&args.out), "measured": fits.measured }));
    report(&fits);
    Ok(())
}

fn report(fits: &Confidence) {
    for Measured { resolution, pixels, right, calibration_error, points } in &fits.measured {
        print_line(&format!(
            "{resolution}: {:.1} % of {pixels} depths are right; calibration error {:.2} %",
            100.0 * right,
            100.0 * calibration_error
        ));
        for point in points {
            print_line(&format!(
                "  above {:.3}: at most {:.0} % wrong, {:.1} % of the right ones",
                point.confidence,
                100.0 * point.wrong,
                100.0 * point.completeness
            ));
        }
    }
}
