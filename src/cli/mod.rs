//! The command line: what was typed becomes typed options, one library call does the work, and an error becomes one
//! line and an exit code.

mod bench;
mod doctor;
mod eval;
mod eval_clouds;
mod eval_depth;
mod fuse;
mod info;
mod options;
mod synth;
mod train;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use engine::cpu::network::BsMvsNet;
use engine::cuda::inference::{self, DeviceNetwork};
use engine::files::folder::OutputOptions;
use engine::fusion::settings::Settings;
use engine::host::interrupt;
use engine::host::progress::{Progress, Style, print_error_line};
use engine::net::weights::Checkpoint;
use engine::run::device::Backend;
use engine::run::infer;
use engine::run::options::InferOptions;
use engine::scene::camera::{DepthRange, Sampling};
use engine::{Error, Result};
use serde_json::json;

use info::InfoArgs;
use options::{ConsistencyArgs, FusionArgs, MachineArgs, OutputArgs, ReportArgs, SceneArgs};

/// Multi-view stereo: calibrated photos in, dense depth maps and one coloured point cloud out.
#[derive(Parser, Debug)]
#[command(name = "engine", version, arg_required_else_help = true, subcommand_required = true)]
#[command(after_help = "\
Examples:
  engine infer scenes/bust                      depth maps and cloud into scenes/bust_engine
  engine infer scenes/bust -o out --max-side 800 --planes 96
  engine fuse out --scene scenes/bust --min-confidence 0.5
  engine doctor scenes/bust                     what is wrong with a scene, or with its results
  engine info --width 1600 --height 1200
  engine train run --textures photos --steps 20000
  engine eval cloud out/fused.ply truth.ply

Exit codes: 0 done, 1 internal, 2 usage, 3 bad input, 4 files, 5 memory, 6 nothing survived, 7 not finite, 8 device, 130 stopped.")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Bench(bench::BenchArgs),
    Infer(Box<InferArgs>),
    Fuse(Box<fuse::FuseArgs>),
    Doctor(Box<doctor::DoctorArgs>),
    Eval(eval::EvalArgs),
    Info(InfoArgs),
    Synth(Box<synth::SynthArgs>),
    Train(Box<train::TrainArgs>),
}

/// Photos and cameras to depth maps and a point cloud: the whole job.
///
/// SCENE is a folder with images/ and either cams/ (or cams_1/) and pair.txt (MVSNet layout), or a COLMAP model in
/// sparse/, sparse/0/ or dense/sparse/. Results go to OUT, by default the folder SCENE_engine beside the scene:
/// depth/*.pfm, confidence/*.pfm, preview/*.png, fused.ply and manifest.json. A run that was stopped goes on with what
/// is left when the same command is given again.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  engine infer scenes/bust
  engine infer scenes/bust -o out --max-side 800 --planes 96 --views 4
  engine infer scenes/bust --range 0.4,2.5 --sampling inverse --view IMG_0012 --view IMG_0013 --depth-only")]
struct InferArgs {
    /// The scene's folder
    scene: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    work: InferWork,
    #[command(flatten)]
    report: ReportArgs,
}

/// What of the job is not about where its results go: also what `engine bench scene` takes.
#[derive(Args, Debug)]
struct InferWork {
    /// Also write normal maps: normal/*.pfm, three channels, in the world's axes
    #[arg(long, help_heading = "Output")]
    normals: bool,
    /// Write depth maps but no point cloud
    #[arg(long, help_heading = "Output")]
    depth_only: bool,

    #[command(flatten)]
    scene_args: SceneArgs,

    /// Views that the network looks at for one depth map: the reference and N - 1 sources
    #[arg(long, value_name = "N", default_value = "5", value_parser = options::two_or_more, help_heading = "Depth")]
    views: usize,
    /// Depths that are tried at every pixel [default: what the scene's files say, else 192]
    #[arg(long, value_name = "D", value_parser = options::planes, help_heading = "Depth")]
    planes: Option<usize>,
    /// Nearest and farthest depth, in the scene's units [default: what the scene's files say, else 1st to 99th
    /// percentile of the depths of the view's sparse points, widened]
    #[arg(long, value_name = "NEAR,FAR", value_parser = options::range, help_heading = "Depth")]
    range: Option<DepthRange>,
    /// Fraction by which a range from sparse points is widened at either end: near times 1 - F, far times 1 + F
    #[arg(long, value_name = "F", default_value = "0.1", value_parser = options::proper_fraction, help_heading = "Depth")]
    widen_range: f64,
    /// Planes evenly spaced in depth or in 1 / depth [default: linear where far / near < 3, else inverse]
    #[arg(long, value_name = "SPACING", help_heading = "Depth")]
    sampling: Option<Sampling>,
    /// Levels of the image pyramid, each half the size of the one before (1 to 8)
    #[arg(long, value_name = "K", default_value = "3", value_parser = options::levels, help_heading = "Depth")]
    levels: usize,
    /// A pixel of a coarser level may repair a finer one only above this confidence (0 to 1), if --min-views agree
    #[arg(long, value_name = "0..1", default_value = "0.9", value_parser = options::fraction, help_heading = "Depth")]
    trusted_confidence: f64,
    /// A pixel of a finer level is repaired from the coarser one only below this confidence (0 to 1)
    #[arg(long, value_name = "0..1", default_value = "0.5", value_parser = options::fraction, help_heading = "Depth")]
    replaced_confidence: f64,
    /// Network weights, a safetensors file [default: the ones in the program]
    #[arg(long, value_name = "FILE", help_heading = "Depth")]
    weights: Option<PathBuf>,

    #[command(flatten)]
    consistency: ConsistencyArgs,
    #[command(flatten)]
    fusion: FusionArgs,
    #[command(flatten)]
    machine: MachineArgs,
}

/// Runs the command that was typed.
pub fn run(cli: Cli) -> ExitCode {
    let (result, progress) = match cli.command {
        Command::Infer(args) => {
            let progress = args.report.progress();
            (infer(*args, progress), progress)
        }
        Command::Fuse(args) => {
            let progress = args.report.progress();
            (fuse::run(*args, &progress), progress)
        }
        Command::Doctor(args) => {
            let progress = args.report.progress();
            (doctor::run(*args, &progress), progress)
        }
        Command::Synth(args) => {
            let progress = args.report.progress();
            (synth::run(*args, &progress), progress)
        }
        Command::Train(args) => {
            let progress = args.report.progress();
            (train::run(*args, &progress), progress)
        }
        Command::Eval(args) => match args.what {
            eval::What::Synth(args) => {
                let progress = args.report.progress();
                (eval::synth(&args, &progress), progress)
            }
            eval::What::Dtu(args) => {
                let progress = args.report.progress();
                (eval_clouds::dtu(&args, &progress), progress)
            }
            eval::What::Cloud(args) => {
                let progress = args.report.progress();
                (eval_clouds::cloud(&args, &progress), progress)
            }
            eval::What::Depth(args) => {
                let progress = args.report.progress();
                (eval_depth::run(&args, &progress), progress)
            }
        },
        Command::Bench(args) => {
            let progress = args.progress();
            (bench::run(args, &progress), progress)
        }
        Command::Info(args) => {
            let progress = Progress::new(if args.json { Style::Json } else { Style::Lines });
            (info::run(&args), progress)
        }
    };
    // A run that failed has a profile, too; its own error counts more.
    let profiled = options::write_profile();
    match result.and(profiled) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress.event("error", json!({ "message": error.to_string(), "exit_code": error.exit_code() }));
            print_error_line(&format!("error: {error}"));
            ExitCode::from(error.exit_code())
        }
    }
}

fn infer(args: InferArgs, progress: Progress) -> Result<()> {
    interrupt::install()?;
    args.work.run(&args.scene, args.output.options(), &progress)
}

impl InferWork {
    /// The whole job.
    fn run(self, scene: &Path, output: OutputOptions, progress: &Progress) -> Result<()> {
        use_threads(self.machine.threads)?;
        let device = self.machine.device.open(progress)?;
        let options = InferOptions {
            output,
            normals: self.normals,
            depth_only: self.depth_only,
            open: self.scene_args.open_options(),
            max_side: self.scene_args.max_side,
            only: self.scene_args.only,
            views: self.views,
            planes: self.planes,
            range: self.range,
            widen_range: self.widen_range,
            sampling: self.sampling,
            levels: self.levels,
            trusted_confidence: self.trusted_confidence,
            replaced_confidence: self.replaced_confidence,
            settings: Settings {
                check_sources: self.consistency.check_sources,
                fusion: self.fusion.options(self.consistency.thresholds()),
            },
            memory: self.machine.memory.map(bytes),
            backend: device.clone().map_or(Backend::Host, Backend::Device),
        };
        match device {
            None => infer::infer(scene, &network(self.weights.as_deref())?, &options, progress),
            Some(driver) => {
                let checkpoint = checkpoint(self.weights.as_deref())?;
                let on_device = inference::Options {
                    element: self.machine.precision.element(),
                    vram: self.machine.vram.map(bytes),
                    convolutions: self.machine.convolutions,
                };
                let network = DeviceNetwork::new(driver, &checkpoint, on_device)?;
                infer::infer(scene, &network, &options, progress)
            }
        }
    }
}

fn bytes(gigabytes: f64) -> u64 {
    (gigabytes * 1e9) as u64
}

/// The network with the weights of a file, or with those in the program.
fn network(weights: Option<&std::path::Path>) -> Result<BsMvsNet> {
    weights.map_or_else(BsMvsNet::built_in, BsMvsNet::from_file)
}

/// The checkpoint of a file, or the one in the program.
fn checkpoint(weights: Option<&std::path::Path>) -> Result<Checkpoint> {
    weights.map_or_else(Checkpoint::built_in, Checkpoint::read)
}

fn use_threads(threads: Option<usize>) -> Result<()> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0));
    pool.build_global().map_err(|e| Error::input("--threads", e.to_string(), "a number of threads that can be started"))
}
