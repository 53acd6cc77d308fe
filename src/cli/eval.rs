//! `engine eval`: how good networks, point clouds and depth maps are, in numbers. Here: networks; `eval_clouds` has
//! the clouds, `eval_depth` the maps.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use engine::cpu::network::BsMvsNet;
use engine::files::folder::write_json;
use engine::host::interrupt;
use engine::host::memory::{MemoryNeed, Part, StageMemory};
use engine::host::progress::{Progress, duration, one_line};
use engine::scene::camera::Sampling;
use engine::synth::GeneratorOptions;
use engine::synth::rig::Rig;
use engine::train::memory::photos_bytes;
use engine::train::validation::{EVALUATION_SEED, ValidationSet};
use engine::{Error, Result};
use serde_json::json;

use super::eval_clouds::{self, CloudArgs, DtuArgs};
use super::eval_depth::{self, DepthArgs};
use super::options::{self, LimitArgs, ReportArgs};
use super::synth;

/// Score weights, point clouds and depth maps.
#[derive(Args, Debug)]
pub struct EvalArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    Synth(SynthArgs),
    Dtu(DtuArgs),
    Cloud(CloudArgs),
    Depth(DepthArgs),
}

/// Score weights on rendered scenes with exact depth.
///
/// A seed that no training run uses fixes the scenes, so scores of different weights can be compared. Prints the
/// errors of all pixels and of groups: by texture (standard deviation of the grey values around the pixel), by slant
/// (angle between normal and viewing ray) and by the number of other views that see the point. Units are those of the
/// scenes: millimetres on the arc.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  engine eval synth
  engine eval synth --weights run/best.safetensors --weights other.safetensors --pictures out")]
struct SynthArgs {
    /// Weights to score; repeat for more than one file [default: the built-in ones]
    #[arg(long, value_name = "FILE")]
    weights: Vec<PathBuf>,
    /// Number of scenes, one reference view each
    #[arg(long, value_name = "N", default_value = "48", value_parser = options::count)]
    scenes: usize,
    /// Views that the network compares, including the reference
    #[arg(long, value_name = "N", default_value = "4", value_parser = options::two_or_more)]
    views: usize,
    /// Number of depths to try at every pixel
    #[arg(long, value_name = "D", default_value = "128", value_parser = options::planes)]
    planes: usize,
    /// Spacing of the depths
    #[arg(long, value_name = "SPACING", default_value = "linear")]
    sampling: Sampling,
    /// Width and height of the photos, multiples of 4
    #[arg(long, value_name = "WxH", default_value = "320x256", value_parser = synth::size_of_4)]
    size: (usize, usize),
    /// Arrangement of the cameras
    #[arg(long, value_name = "RIG", default_value = "mixed")]
    rig: Rig,
    /// Folder of photos to use as textures [default: computed patterns only, the same on every machine]
    #[arg(long, value_name = "DIR")]
    textures: Option<PathBuf>,
    /// Write photo, truth, depth, error and confidence of the first views side by side to this folder, as
    /// weightsN_viewI.png, counted from 0
    #[arg(long, value_name = "DIR")]
    pictures: Option<PathBuf>,
    /// Write all numbers to this file, as JSON
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print the tables as Markdown
    #[arg(long)]
    markdown: bool,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    report: ReportArgs,
}

/// Pictures that are made of each set of weights.
const PICTURES: usize = 8;

impl EvalArgs {
    /// How the run reports.
    pub fn report(&self) -> &ReportArgs {
        match &self.what {
            What::Synth(args) => &args.report,
            What::Dtu(args) => &args.report,
            What::Cloud(args) => &args.report,
            What::Depth(args) => &args.report,
        }
    }
}

/// Measures.
pub fn run(args: EvalArgs, progress: &Progress) -> Result<()> {
    match args.what {
        What::Synth(args) => synth(&args, progress),
        What::Dtu(args) => eval_clouds::dtu(&args, progress),
        What::Cloud(args) => eval_clouds::cloud(&args, progress),
        What::Depth(args) => eval_depth::run(&args, progress),
    }
}

fn synth(args: &SynthArgs, progress: &Progress) -> Result<()> {
    interrupt::install()?;
    args.limits.apply()?;
    let mut networks: Vec<BsMvsNet> =
        args.weights.iter().map(|file| BsMvsNet::from_file(file)).collect::<Result<_>>()?;
    if networks.is_empty() {
        networks.push(BsMvsNet::built_in()?);
    }
    let began = std::time::Instant::now();
    let threads = rayon::current_num_threads();
    let plan = |net: &BsMvsNet| net.memory_plan(args.size, args.planes, threads, net.config().resolution);
    let parts = vec![
        Part::new("the network", networks.iter().map(|net| plan(net).peak(args.views)).max().unwrap_or(0)),
        Part::new("the photos of all scenes", args.scenes as u64 * photos_bytes(args.size, args.views)),
    ];
    let need = MemoryNeed { stages: vec![StageMemory::new("measuring", parts)] };
    args.limits.expect_room(&need, "a smaller --size, fewer --planes, --views or --scenes would help")?;
    let options = GeneratorOptions {
        seed: EVALUATION_SEED,
        views: args.views,
        size: args.size,
        rig: args.rig,
        textures: args.textures.clone(),
        ..Default::default()
    };
    let set = ValidationSet::rendered(options, args.scenes, args.planes, args.sampling)?;
    progress.note(&format!(
        "{} scenes of {} views of {} x {}, {} planes, made in {}",
        args.scenes,
        args.views,
        args.size.0,
        args.size.1,
        args.planes,
        duration(began.elapsed().as_secs_f64())
    ));
    let mut all = Vec::new();
    for (number, network) in networks.iter().enumerate() {
        interrupt::check()?;
        let shown = if args.pictures.is_some() { PICTURES } else { 0 };
        let found = set.measure_while(network, args.views, shown, &interrupt::check)?;
        let name = network.weights_name();
        let split = found.split.ok_or_else(|| Error::Nothing("no scene was made".into()))?;
        let table = if args.markdown { split.markdown() } else { split.text() };
        let fields = json!({ "weights": name, "sha256": network.weights_hash(), "rows": split.rows });
        progress.summary(&format!("{}\n{table}", one_line(name)), fields.clone());
        all.push(fields);
        if let Some(folder) = &args.pictures {
            std::fs::create_dir_all(folder).map_err(Error::io("create the folder", folder))?;
            for (i, maps) in found.shown.iter().enumerate() {
                let (png, _) = set.picture(i, maps)?;
                let file = folder.join(format!("weights{number}_view{i}.png"));
                engine::files::atomic::write_whole(&file, "write the picture", |out| {
                    std::io::Write::write_all(out, &png)
                })?;
            }
        }
    }
    if let Some(file) = &args.out {
        write_json(file, "write the numbers", &json!({ "scenes": args.scenes, "weights": all }))?;
    }
    Ok(())
}
