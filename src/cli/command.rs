//! The program's commands: one of them runs, and an error becomes one line and an exit code.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use engine::Result;
use engine::host::memory_limits::save_address_space;
use engine::host::progress::{Progress, Style, output_result, print_error_line};
use serde_json::json;

use super::bench::{self, BenchArgs};
use super::calibrate::{self, CalibrateArgs};
use super::doctor::{self, DoctorArgs};
use super::eval::{self, EvalArgs};
use super::export::{self, ExportArgs};
use super::fuse::{self, FuseArgs};
use super::infer::{self, InferArgs};
use super::info::{self, InfoArgs};
use super::options;
use super::report::{self, ReportCommand};
use super::synth::{self, SynthArgs};
use super::train::{self, TrainArgs};

/// Multi-view stereo: calibrated photos in, dense depth maps and one coloured point cloud out.
#[derive(Parser, Debug)]
#[command(name = "engine", version, arg_required_else_help = true, subcommand_required = true)]
#[command(after_help = "\
Examples:
  engine infer scenes/bust                      depth maps and cloud into scenes/bust_engine
  engine infer scenes/bust -o out --max-side 800 --planes 96
  engine fuse out --scene scenes/bust --min-confidence 0.5
  engine export out --to las,npz                results in the formats of other programs
  engine report out                             one HTML page with cloud, maps and findings
  engine doctor scenes/bust                     find out what is wrong with a scene or its results
  engine info --width 1600 --height 1200
  engine train run --textures photos --steps 20000
  engine eval cloud out/fused.ply truth.ply

Exit codes: 0 done, 1 internal, 2 usage, 3 bad input, 4 files, 5 memory, 6 nothing survived, 7 not finite, 8 device, \
130 stopped. docs/ERRORS.md lists every message and what to do.")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Bench(BenchArgs),
    Calibrate(CalibrateArgs),
    Infer(Box<InferArgs>),
    Fuse(Box<FuseArgs>),
    Export(Box<ExportArgs>),
    Doctor(Box<DoctorArgs>),
    Eval(EvalArgs),
    Info(InfoArgs),
    Report(Box<ReportCommand>),
    Synth(Box<SynthArgs>),
    Train(Box<TrainArgs>),
}

impl Command {
    /// How it reports.
    fn progress(&self) -> Progress {
        match self {
            // Results are text or files, whatever the terminal.
            Self::Bench(_) => Progress::new(Style::Lines),
            Self::Calibrate(args) => args.report.progress(),
            Self::Infer(args) => args.report.progress(),
            Self::Fuse(args) => args.report.progress(),
            Self::Export(args) => args.report.progress(),
            Self::Doctor(args) => args.report.progress(),
            Self::Eval(args) => args.report().progress(),
            Self::Info(args) => Progress::new(if args.json { Style::Json } else { Style::Lines }),
            Self::Report(args) => args.report.progress(),
            Self::Synth(args) => args.report.progress(),
            Self::Train(args) => args.report.progress(),
        }
    }

    fn run(self, progress: &Progress) -> Result<()> {
        match self {
            Self::Bench(args) => bench::run(args, progress),
            Self::Calibrate(args) => calibrate::run(&args, progress),
            Self::Infer(args) => infer::run(*args, progress),
            Self::Fuse(args) => fuse::run(*args, progress),
            Self::Export(args) => export::run(*args, progress),
            Self::Doctor(args) => doctor::run(*args, progress),
            Self::Eval(args) => eval::run(args, progress),
            Self::Info(args) => info::run(&args),
            Self::Report(args) => report::run(*args, progress),
            Self::Synth(args) => synth::run(*args, progress),
            Self::Train(args) => train::run(*args, progress),
        }
    }
}

/// Runs the command that was typed.
pub fn run(cli: Cli) -> ExitCode {
    save_address_space();
    let progress = cli.command.progress();
    let result = cli.command.run(&progress);
    // A run that failed has a profile, too; its own error counts more.
    let profiled = options::write_profile();
    match result.and(profiled).and_then(|()| output_result()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress.event("error", json!({ "message": error.to_string(), "exit_code": error.exit_code() }));
            print_error_line(&format!("error: {error}"));
            ExitCode::from(error.exit_code())
        }
    }
}
