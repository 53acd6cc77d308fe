//! The program's commands: one of them runs, and an error becomes one line and an exit code.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};
use engine::host::memory_limits::save_address_space;
use engine::host::progress::{Progress, Style, output_result, print_error_line};
use engine::remote;
use engine::{Error, Result};

use super::bench::{self, BenchArgs};
use super::calibrate::{self, CalibrateArgs};
use super::config::{self, ConfigArgs};
use super::doctor::{self, DoctorArgs};
use super::eval::{self, EvalArgs};
use super::export::{self, ExportArgs};
use super::fuse::{self, FuseArgs};
use super::infer::{self, InferArgs};
use super::info::{self, InfoArgs};
use super::layers::{self, Resolved, Setting};
use super::map::{self, MapArgs};
use super::merge::{self, MergeArgs};
use super::mesh::{self, MeshArgs};
use super::options::{self, ReportArgs};
use super::places::Places;
use super::plan::{self, PlanArgs};
use super::planned;
use super::report::{self, ReportCommand};
use super::shell::{self, CompletionsArgs, ManArgs};
use super::status::{self, StatusArgs};
use super::synth::{self, SynthArgs};
use super::train::{self, TrainArgs};
use super::view::{self, ViewArgs};

/// Multi-view stereo: calibrated photos in, dense depth maps and one coloured point cloud out.
#[derive(Parser, Debug)]
#[command(name = "engine", version, arg_required_else_help = true, subcommand_required = true)]
#[command(override_usage = "engine <COMMAND>")]
#[command(after_help = "\
Examples:
  engine infer scenes/bust                      depth maps and cloud into scenes/bust_engine
  engine infer scenes/bust -o out --max-side 800 --planes 96
  engine fuse out --scene scenes/bust --min-confidence 0.5
  engine export out --to las,npz                results in the formats of other programs
  engine mesh out --to ply,glb                  its depth maps as a triangle mesh
  engine map out --crs EPSG:32632               surface model and orthophoto, of drones' photos
  engine report out                             one HTML page with cloud, maps and findings
  engine view out                               the same in the browser, for clouds of any size
  engine doctor scenes/bust                     find out what is wrong with a scene or its results
  engine info --width 1600 --height 1200
  engine train run --textures photos --steps 20000
  engine eval cloud out/fused.ply truth.ply

Every option of a command also has an environment variable (--max-side: ENGINE_MAX_SIDE) and a key in engine.toml \
(max-side = 800). The command line goes before the environment, the environment before the file, the file before \
--quality and the defaults; `engine config COMMAND` prints what holds and where each value is from.

Exit codes: 0 done, 1 internal, 2 usage, 3 bad input, 4 files, 5 memory, 6 nothing survived, 7 not finite, 8 device, \
9 not done yet, 130 stopped. docs/ERRORS.md lists every message and what to do.")]
pub struct Cli {
    /// File with values for options [default: ENGINE_CONFIG, else engine.toml in the current folder, if there is one]
    #[arg(long, value_name = "FILE", global = true, help_heading = "Reports")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Bench(BenchArgs),
    Calibrate(CalibrateArgs),
    Completions(CompletionsArgs),
    Config(ConfigArgs),
    Infer(Box<InferArgs>),
    Plan(Box<PlanArgs>),
    Merge(Box<MergeArgs>),
    Status(StatusArgs),
    Fuse(Box<FuseArgs>),
    Export(Box<ExportArgs>),
    Mesh(Box<MeshArgs>),
    Map(Box<MapArgs>),
    Doctor(Box<DoctorArgs>),
    Eval(EvalArgs),
    Info(InfoArgs),
    Man(ManArgs),
    Report(Box<ReportCommand>),
    Synth(Box<SynthArgs>),
    Train(Box<TrainArgs>),
    View(Box<ViewArgs>),
}

impl Command {
    /// What is told of it, where it can be told.
    fn report(&self) -> Option<&ReportArgs> {
        Some(match self {
            Self::Calibrate(args) => &args.report,
            Self::Infer(args) => &args.report,
            Self::Plan(args) => &args.report,
            Self::Merge(args) => &args.report,
            Self::Status(args) => &args.report,
            Self::Fuse(args) => &args.report,
            Self::Export(args) => &args.report,
            Self::Mesh(args) => &args.report,
            Self::Map(args) => &args.report,
            Self::Report(args) => &args.report,
            Self::Doctor(args) => &args.report,
            Self::Eval(args) => args.report(),
            Self::Synth(args) => &args.report,
            Self::Train(args) => &args.report,
            Self::View(args) => &args.report,
            Self::Bench(_) | Self::Completions(_) | Self::Config(_) | Self::Info(_) | Self::Man(_) => return None,
        })
    }

    /// Which of its options may be addresses of object stores.
    fn places(&mut self) -> Places<'_> {
        match self {
            Self::Infer(args) => args.places(),
            Self::Plan(args) => args.places(),
            Self::Merge(args) => args.places(),
            Self::Status(args) => args.places(),
            Self::Fuse(args) => args.places(),
            Self::Export(args) => args.places(),
            Self::Mesh(args) => args.places(),
            Self::Map(args) => args.places(),
            Self::Report(args) => args.places(),
            _ => Places::default(),
        }
    }

    /// Whether more is told than usual.
    fn is_verbose(&self) -> bool {
        self.report().is_some_and(|report| report.verbose)
    }

    /// How it reports.
    fn progress(&self) -> Progress {
        match (self.report(), self) {
            (Some(report), _) => report.progress(),
            (None, Self::Info(args)) if args.json => Progress::new(Style::Json),
            // Results are text or files, whatever the terminal.
            (None, _) => Progress::new(Style::Lines),
        }
    }

    fn run(self, settings: &[Setting], progress: &Progress) -> Result<()> {
        match self {
            Self::Bench(args) => bench::run(args, progress),
            Self::Calibrate(args) => calibrate::run(&args, progress),
            Self::Completions(args) => shell::completions(&args, Cli::command()),
            Self::Config(args) => config::run(args, Cli::command),
            Self::Infer(args) => infer::run(*args, planned::given(settings), progress),
            Self::Plan(args) => plan::run(*args, planned::given(settings), progress),
            Self::Merge(args) => merge::run(*args, progress),
            Self::Status(args) => status::run(&args, progress),
            Self::Fuse(args) => fuse::run(*args, progress),
            Self::Export(args) => export::run(*args, progress),
            Self::Mesh(args) => mesh::run(*args, progress),
            Self::Map(args) => map::run(*args, progress),
            Self::Doctor(args) => doctor::run(*args, progress),
            Self::Eval(args) => eval::run(args, progress),
            Self::Info(args) => info::run(&args),
            Self::Man(args) => shell::man(&args, Cli::command()),
            Self::Report(args) => report::run(*args, progress),
            Self::Synth(args) => synth::run(*args, progress),
            Self::Train(args) => train::run(*args, progress),
            Self::View(args) => view::run(*args, progress),
        }
    }
}

/// Why the program would refuse these words, the first of which is its name: what kind of mistake it is, the value that
/// does not fit, and the words that it would say. `None` where it would take them. Nothing is done.
pub fn refusal(words: impl IntoIterator<Item = OsString>) -> Option<(ErrorKind, String, String)> {
    let error = Cli::command().try_get_matches_from(words).err()?;
    let value = error.get(ContextKind::InvalidValue).map(ToString::to_string).unwrap_or_default();
    Some((error.kind(), value, error.to_string()))
}

/// Runs the program as if these words had been typed, the first of which is the program's name, and gives its exit code
/// (`docs/ERRORS.md`). Everything is told on standard output and standard error.
pub fn command_line(words: impl IntoIterator<Item = OsString>) -> u8 {
    let Resolved { words, settings, file, .. } =
        match layers::resolve(words.into_iter().collect(), Cli::command, planned::plan_of) {
            Ok(resolved) => resolved,
            Err(error) => {
                print_error_line(&format!("error: {error}"));
                // What was brought to look for a plan.
                let _ = remote::finish(&Progress::new(Style::Quiet), false);
                return error.exit_code();
            }
        };
    let cli = match Cli::try_parse_from(&words) {
        Ok(Cli { config, command: Command::Config(args) }) => {
            Cli { config: None, command: Command::Config(args.with_file(config.map(Into::into))) }
        }
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are "errors" with exit code 0; a closed output is no reason for another one.
            let _ = error.print();
            let _ = remote::finish(&Progress::new(Style::Quiet), false);
            return u8::try_from(error.exit_code()).unwrap_or(2);
        }
    };
    save_address_space();
    let progress = cli.command.progress();
    if !matches!(cli.command, Command::Config(_) | Command::Completions(_) | Command::Man(_)) {
        layers::tell(&settings, file.as_deref(), cli.command.is_verbose(), &progress);
    }
    let mut command = cli.command;
    let is_verbose = command.is_verbose();
    let result = command.places().reach(&words).and_then(|()| command.run(&settings, &progress));
    // What was written is on its way until now, also that of a run which was stopped.
    let result = result.and(remote::finish(&progress, is_verbose));
    // A run that failed has a profile, too; its own error counts more.
    let profiled = options::write_profile();
    match result.and(profiled).and_then(|()| output_result()) {
        Ok(()) => 0,
        Err(error @ Error::ToldByRank0 { .. }) => error.exit_code(),
        Err(error) => {
            progress.error(&error);
            error.exit_code()
        }
    }
}
