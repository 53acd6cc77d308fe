//! `engine train`: from random weights, or given ones, to a checkpoint.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use engine::cpu::ops::depth_backward::DepthLoss;
use engine::files::names::in_json;
use engine::host::interrupt;
use engine::host::mpi;
use engine::host::progress::{Progress, Style};
use engine::net::config::{Aggregation, Config, Decoder, Difference, Resolution};
use engine::scene::camera::Sampling;
use engine::synth::GeneratorOptions;
use engine::synth::rig::Rig;
use engine::train::augment::{AugmentOptions, Augmented};
use engine::train::dtu::{Dtu, DtuOptions, Split};
use engine::train::memory::TrainSize;
use engine::train::mix::Mix;
use engine::train::optimizer::AdamOptions;
use engine::train::options::{SamplingChoice, TrainOptions};
use engine::train::prefetch::PrefetchOptions;
use engine::train::run::{self, TrainData};
use engine::train::sample::Dataset;
use engine::train::scenes::{Scenes, ScenesOptions};
use engine::train::schedule::{RateOptions, Schedule};
use engine::train::step::expect_statistics;
use engine::train::synthetic::{Synthetic, SyntheticOptions};
use engine::train::team::Team;
use engine::train::validation::{VALIDATION_SEED, ValidationSet};
use engine::{Error, Result};
use serde_json::json;

use super::machine::{Device, device};
use super::options::{self, LimitArgs, ReportArgs, positive_integer};
use super::synth;
use super::train_data::{self, DataKind, DataSpec};

/// Train the network.
///
/// RUN is the run's folder. It receives weights.safetensors (the latest weights, for `engine infer --weights`),
/// best.safetensors (the best in validation), state.safetensors, log.jsonl, TensorBoard files and panels/*.png. To
/// continue a stopped run (Ctrl-C, kill, power failure), give the same command again: it ends with the same weights,
/// bit for bit.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  engine train run --textures photos                          on scenes made on the fly
  engine train run --data dtu:/data/mvs_training/dtu --preset paper
  engine train run --data dtu:/data/dtu@3 --data synth@1 --data scenes:made@1 --size 320x256
  engine train tuned --init run/best.safetensors --data scenes:mine --rate 0.0002 --steps 2000")]
pub struct TrainArgs {
    /// Folder of the run, created if missing
    run: PathBuf,
    /// Start over even if RUN already holds a run
    #[arg(long)]
    fresh: bool,

    /// Training data: `synth` (scenes rendered on the fly), `dtu:DIR` (the DTU training set in MVSNet layout) or
    /// `scenes:DIR` (a scene in MVSNet layout with depths/, or a folder of such scenes). Repeat to mix; append
    /// `@WEIGHT` for a weight other than 1 [default: synth]
    #[arg(long, value_name = "KIND[:DIR][@WEIGHT]", value_parser = train_data::parser(), help_heading = "Data")]
    data: Vec<DataSpec>,
    /// Size to which samples are cropped, and of rendered scenes [default: 256x192; with --preset paper whole photos,
    /// and rendered scenes of 640x512]
    #[arg(long, value_name = "WxH", value_parser = synth::size_of_4, help_heading = "Data")]
    size: Option<(usize, usize)>,
    /// Reduce photos of scenes:DIR so that the longer side has at most this many pixels
    #[arg(long, value_name = "PIXELS", value_parser = positive_integer, help_heading = "Data")]
    max_side: Option<usize>,
    /// Folder of photos to use as textures in rendered scenes [default: computed patterns only]
    #[arg(long, value_name = "DIR", help_heading = "Data")]
    textures: Option<PathBuf>,
    /// Triangle meshes (.obj, .ply) to place in rendered scenes
    #[arg(long, value_name = "FILE", num_args = 1.., help_heading = "Data")]
    mesh: Vec<PathBuf>,
    /// Share of surfaces with little texture or nearly none in rendered scenes (0 to 1)
    #[arg(long, value_name = "0..1", default_value = "0.25", value_parser = options::fraction, help_heading = "Data")]
    low_texture: f64,
    /// Share of rendered scenes that are one thing before a blank or black backdrop (0 to 1)
    #[arg(long, value_name = "0..1", default_value = "0", value_parser = options::fraction, help_heading = "Data")]
    alone: f64,
    /// Arrangement of the cameras in rendered scenes
    #[arg(long, value_name = "RIG", default_value = "mixed", help_heading = "Data")]
    rig: Rig,
    /// Samples to take from each rendered scene, with different reference views and colours; raise it on machines that
    /// train faster than they render
    #[arg(long, value_name = "N", default_value = "8", value_parser = positive_integer, help_heading = "Data")]
    reuse: usize,
    /// Memory for rendered scenes that wait for reuse, in GB
    #[arg(long, value_name = "GB", default_value = "2", value_parser = options::positive_number, help_heading = "Data")]
    scene_memory: f64,
    /// Do not augment: whole photos (unless --size is given), no flips, unchanged colours and ranges, the best source
    /// views
    #[arg(long, help_heading = "Data")]
    no_augment: bool,
    /// Views per sample, including the reference: a number or a range [default: 3-5; --preset paper: 4]
    #[arg(long, value_name = "N[-M]", value_parser = span, help_heading = "Data")]
    views: Option<(usize, usize)>,
    /// Numbers of hypotheses; each step takes one of them [default: 64,96,128,192; --preset paper: 192]
    #[arg(long, value_name = "D,D,...", value_delimiter = ',', value_parser = options::planes, help_heading = "Data")]
    planes: Vec<usize>,
    /// Spacing of the hypotheses: even in depth, even in 1 / depth, or either at random [default: mixed; --preset
    /// paper: linear]
    #[arg(long, value_name = "SPACING", help_heading = "Data")]
    sampling: Option<SamplingChoice>,

    /// Defaults for options that are not given: the `engine`'s, or the `paper`'s loss, optimizer, schedule and sizes:
    /// L1, rate 0.001 times 0.9 after each of 12 epochs, batch 1, 4 views, 192 planes evenly in depth, whole photos
    /// without augmentation. (The paper's network is --difference signed --decoder trilinear.)
    #[arg(long, value_name = "NAME", default_value = "engine", help_heading = "Training")]
    preset: Preset,
    /// Total number of steps [default: epochs times steps per epoch]
    #[arg(long, value_name = "N", value_parser = positive_integer, help_heading = "Training")]
    steps: Option<usize>,
    /// Number of epochs [default: 12]
    #[arg(long, value_name = "N", conflicts_with = "steps", value_parser = positive_integer, help_heading = "Training")]
    epochs: Option<usize>,
    /// Steps per epoch [default: number of samples divided by the batch size; 1000 if the data is endless]
    #[arg(long, value_name = "N", value_parser = positive_integer, help_heading = "Training")]
    epoch_steps: Option<usize>,
    /// Batch size: samples per step, whose gradients are averaged
    #[arg(long, value_name = "N", default_value = "1", value_parser = options::count, help_heading = "Training")]
    batch: usize,
    /// Initial learning rate [default: 0.001]
    #[arg(long, value_name = "RATE", value_parser = options::positive_number, help_heading = "Training")]
    rate: Option<f64>,
    /// Schedule of the learning rate [default: cosine; --preset paper: step]
    #[arg(long, value_name = "SCHEDULE", help_heading = "Training")]
    schedule: Option<Schedule>,
    /// Warm-up steps, over which the rate rises from near zero [default: 100; --preset paper: 0]
    #[arg(long, value_name = "N", help_heading = "Training")]
    warmup: Option<u64>,
    /// Clip gradients to this norm (0: never) [default: 10; --preset paper: 0]
    #[arg(long, value_name = "NORM", value_parser = not_negative, help_heading = "Training")]
    clip: Option<f64>,
    /// Weight of the L1 loss, in hypothesis intervals [default: 0.5; --preset paper: 1]
    #[arg(long, value_name = "W", value_parser = not_negative, help_heading = "Training")]
    l1: Option<f64>,
    /// Weight of the cross-entropy on the true bin [default: 0.5; --preset paper: 0]
    #[arg(long, value_name = "W", value_parser = not_negative, help_heading = "Training")]
    cross_entropy: Option<f64>,
    /// Decoupled weight decay, for all weights except norms and biases
    #[arg(long, value_name = "D", default_value = "0", value_parser = not_negative, help_heading = "Training")]
    weight_decay: f64,
    /// Decay of the weights' moving average, which is validated and saved (0: no average) [default: 0.999; --preset
    /// paper: 0]
    #[arg(long, value_name = "0..1", value_parser = options::fraction, help_heading = "Training")]
    ema: Option<f64>,
    /// Seed of the initial weights, scenes and random choices
    #[arg(long, value_name = "S", default_value = "0", help_heading = "Training")]
    seed: u64,

    /// Initial weights, a safetensors file [default: random]
    #[arg(long, value_name = "FILE", help_heading = "Network")]
    init: Option<PathBuf>,
    /// How to weigh source views
    #[arg(long, value_name = "KIND", default_value = "voxel", help_heading = "Network")]
    aggregation: Aggregation,
    /// How to take the difference of reference and source features
    #[arg(long, value_name = "KIND", default_value = "squared", help_heading = "Network")]
    difference: Difference,
    /// How the regularizer returns to full resolution
    #[arg(long, value_name = "KIND", default_value = "skip", help_heading = "Network")]
    decoder: Decoder,
    /// Finest resolution of the maps, against the photo [default: full; with --preset paper quarter]. Weights given
    /// by --init for a coarser one are taken over, and narrow stages added
    #[arg(long, help_heading = "Network")]
    resolution: Option<Resolution>,

    /// Validation set, never trained on: dtu:DIR (its validation scans) or scenes:DIR. Rendered scenes and DTU bring
    /// their own
    #[arg(long, value_name = "KIND:DIR", value_parser = train_data::parser(), help_heading = "Validation")]
    validation: Vec<DataSpec>,
    /// Steps between validations (0: only at the end)
    #[arg(long, value_name = "N", default_value = "500", help_heading = "Validation")]
    validate_every: u64,
    /// Views to validate from each set
    #[arg(long, value_name = "N", default_value = "32", value_parser = options::count, help_heading = "Validation")]
    validation_views: usize,
    /// Number of hypotheses in validation [default: the largest of --planes]
    #[arg(long, value_name = "D", value_parser = options::planes, help_heading = "Validation")]
    validation_planes: Option<usize>,
    /// Number of validation views to draw as pictures
    #[arg(long, value_name = "N", default_value = "4", help_heading = "Validation")]
    shown: usize,
    /// Steps between checkpoints (0: only at the end)
    #[arg(long, value_name = "N", default_value = "500", help_heading = "Validation")]
    checkpoint_every: u64,
    /// Steps between log lines
    #[arg(long, value_name = "N", default_value = "50", value_parser = positive_integer, help_heading = "Validation")]
    log_every: usize,

    /// Device for the gradients: auto, cpu, cuda, cuda:N, several such as cuda:0,cuda:2, or cuda:all; auto takes a GPU
    /// if there is one. Several share the samples of a batch, with the same result as one of them. A run may continue
    /// on another kind of device, whose sums differ in the last bits
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    #[arg(value_parser = device, help_heading = "Machine")]
    device: Device,
    #[command(flatten)]
    limits: LimitArgs,
    /// Threads that load or render samples
    #[arg(long, value_name = "N", default_value = "1", value_parser = options::threads, help_heading = "Machine")]
    loaders: usize,
    /// Number of samples to prepare ahead
    #[arg(long, value_name = "N", default_value = "16", value_parser = options::count, help_heading = "Machine")]
    queue: usize,
    #[command(flatten)]
    pub report: ReportArgs,
}

/// Sets of defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Preset {
    /// The engine's own.
    Engine,
    /// The paper's.
    Paper,
}

/// `4`, `3-5`.
fn span(text: &str) -> Result<(usize, usize), String> {
    let (least, most) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| options::two_or_more(text.trim()).ok();
    let found = number(least).zip(number(most)).filter(|(least, most)| least <= most);
    found.ok_or_else(|| "expected a number from 2 to 10000, or the least and the most, such as 3-5".into())
}

fn not_negative(text: &str) -> Result<f64, String> {
    options::number(text, |n| n >= 0.0, "a number of 0 or more")
}

/// Trains, with all processes that were started together.
pub fn run(args: TrainArgs, progress: &Progress) -> Result<()> {
    interrupt::install()?;
    let (processes, note) = mpi::join()?;
    if let Some(note) = note {
        progress.note(&note);
    }
    let team = Team::new(processes);
    let silent = Progress::new(Style::Quiet);
    let progress = if team.is_first() { progress } else { &silent };
    let done = team.work(|team| trained(args, team, progress), |error| progress.error(error));
    done.map_err(|error| match team.is_alone() {
        true => error,
        false => Error::ToldByRank0 { exit_code: error.exit_code() },
    })
}

/// What each of them does.
fn trained(mut args: TrainArgs, team: &Team, progress: &Progress) -> Result<()> {
    args.limits.apply()?;
    if args.data.is_empty() {
        args.data.push(DataSpec { kind: DataKind::Synth, weight: 1.0, typed: "synth".into() });
    }
    let paper = args.preset == Preset::Paper;
    let setup = Setup::new(&args);
    let made = args.data.iter().any(|d| d.kind == DataKind::Synth);
    if let Some(size) = setup.size.or(made.then_some(MADE_SIZE)) {
        for &planes in &setup.planes {
            expect_statistics("samples of --size with --planes", size, planes)?;
        }
        let (planes, views) = (setup.planes.iter().copied().max().unwrap_or(0), setup.views.1);
        let on_host = args.device == Device::Cpu || !engine::cuda::BUILT_IN;
        let (config, queue, ranks) = (setup.config(&args), args.queue, team.collective().ranks());
        let step = TrainSize { config, size, planes, views, queue, on_host, ranks };
        args.limits.expect_room(&step.need()?, "a smaller --size, fewer --planes or a shorter --queue would help")?;
    }
    let default = |typed: Option<f64>, ours: f64, papers: f64| typed.unwrap_or(if paper { papers } else { ours });
    let positive = |v: f64| (v > 0.0).then_some(v);
    let loss = DepthLoss {
        l1: default(args.l1, 0.5, 1.0) as f32,
        cross_entropy: default(args.cross_entropy, 0.5, 0.0) as f32,
    };
    if loss.l1 == 0.0 && loss.cross_entropy == 0.0 {
        return Err(Error::input("--l1 and --cross-entropy", "both 0", "a loss to be trained on"));
    }
    let mut notes = Vec::new();
    let parts = setup.training(&args, &mut notes)?;
    let samples: Option<u64> = parts.iter().map(|(d, _)| d.len()).sum();
    let batch = args.batch as u64;
    let epoch = args.epoch_steps.map_or_else(|| samples.map_or(1000, |n| n.div_ceil(batch)), |n| n as u64);
    let steps = args.steps.map_or(epoch * args.epochs.unwrap_or(12) as u64, |n| n as u64);
    let options = TrainOptions {
        config: setup.config(&args),
        init: args.init.clone(),
        seed: args.seed,
        steps,
        epoch,
        batch,
        planes: setup.planes.clone(),
        views: setup.views,
        sampling: args.sampling.unwrap_or(if paper { SamplingChoice::Linear } else { SamplingChoice::Mixed }),
        loss,
        rate: RateOptions {
            rate: args.rate.unwrap_or(1e-3),
            schedule: args.schedule.unwrap_or(if paper { Schedule::Step } else { Schedule::Cosine }),
            warmup: args.warmup.unwrap_or(if paper { 0 } else { 100 }),
            epoch,
            total: steps,
        },
        clip: positive(default(args.clip, 10.0, 0.0)),
        adam: AdamOptions { weight_decay: args.weight_decay, ..Default::default() },
        average: positive(default(args.ema, 0.999, 0.0)),
        validate_every: args.validate_every,
        shown: args.shown,
        checkpoint_every: args.checkpoint_every,
        log_every: args.log_every as u64,
        prefetch: PrefetchOptions { threads: args.loaders, capacity: args.queue },
        fresh: args.fresh,
    };
    let described = describe(&args, &options, &setup);
    let prepare = || {
        let validation = setup.validation(&args, &mut notes)?;
        let mix = Arc::new(Mix::new(parts, args.seed)?);
        let augment = AugmentOptions { crop: setup.size, ..setup.augment };
        let train = Arc::new(Augmented::new(mix, augment, args.seed)?);
        Ok(TrainData { train, validation, notes, devices: args.device.open(progress)? })
    };
    run::train(&args.run, &options, &described, prepare, team, progress)
}

/// The size of scenes made on the fly where samples are not cut.
const MADE_SIZE: (usize, usize) = (640, 512);

/// What data is opened with.
struct Setup {
    views: (usize, usize),
    planes: Vec<usize>,
    size: Option<(usize, usize)>,
    worse_sources: f64,
    augment: AugmentOptions,
}

impl Setup {
    fn new(args: &TrainArgs) -> Self {
        let paper = args.preset == Preset::Paper;
        let as_is = paper || args.no_augment;
        Self {
            views: args.views.unwrap_or(if paper { (4, 4) } else { (3, 5) }),
            planes: match &args.planes[..] {
                [] if paper => vec![192],
                [] => vec![64, 96, 128, 192],
                given => given.to_vec(),
            },
            size: args.size.or((!as_is).then_some((256, 192))),
            worse_sources: if as_is { 0.0 } else { 0.25 },
            augment: if as_is { AugmentOptions::none() } else { AugmentOptions::default() },
        }
    }

    fn config(&self, args: &TrainArgs) -> Config {
        let TrainArgs { aggregation, difference, decoder, .. } = *args;
        let paper = args.preset == Preset::Paper;
        let resolution = args.resolution.unwrap_or(if paper { Resolution::Quarter } else { Resolution::Full });
        Config { aggregation, difference, decoder, resolution }
    }

    fn generator(&self, args: &TrainArgs, seed: u64, views: usize) -> GeneratorOptions {
        GeneratorOptions {
            seed,
            views,
            size: self.size.unwrap_or(MADE_SIZE),
            rig: args.rig,
            textures: args.textures.clone(),
            meshes: args.mesh.clone(),
            low_texture: args.low_texture,
            alone: args.alone,
            variation: 1.0,
        }
    }

    fn dtu(&self, args: &TrainArgs, split: Split, worse_sources: f64) -> DtuOptions {
        DtuOptions { split, worse_sources, seed: args.seed, ..Default::default() }
    }

    fn scenes(&self, args: &TrainArgs, worse_sources: f64) -> ScenesOptions {
        ScenesOptions { max_side: args.max_side, worse_sources, seed: args.seed, ..Default::default() }
    }

    /// The datasets with their weights.
    fn training(&self, args: &TrainArgs, notes: &mut Vec<String>) -> Result<Vec<(Arc<dyn Dataset>, f64)>> {
        let open = |spec: &DataSpec| -> Result<(Arc<dyn Dataset>, f64)> {
            let dataset: Arc<dyn Dataset> = match &spec.kind {
                DataKind::Synth => {
                    let synthetic = Synthetic::new(SyntheticOptions {
                        generator: self.generator(args, args.seed, self.views.1.max(5)),
                        reuse: args.reuse as u64,
                        memory: (args.scene_memory * 1e9) as u64,
                        worse_sources: self.worse_sources,
                        fine: self.config(args).resolution != Resolution::Quarter,
                        ..Default::default()
                    })?;
                    notes.extend_from_slice(synthetic.generator().notes());
                    Arc::new(synthetic)
                }
                DataKind::Dtu(folder) => {
                    let dtu = Dtu::open(folder, self.dtu(args, Split::Train, self.worse_sources))?;
                    notes.extend_from_slice(dtu.notes());
                    Arc::new(dtu)
                }
                DataKind::Scenes(folder) => {
                    let scenes = Scenes::open(folder, self.scenes(args, self.worse_sources))?;
                    notes.extend_from_slice(scenes.notes());
                    Arc::new(scenes)
                }
            };
            Ok((dataset, spec.weight))
        };
        args.data.iter().map(open).collect()
    }

    /// The sets that are only measured: those that the training data brings, and those asked for.
    fn validation(&self, args: &TrainArgs, notes: &mut Vec<String>) -> Result<Vec<ValidationSet>> {
        let planes = args.validation_planes.or(self.planes.iter().copied().max()).unwrap_or(192);
        let mut sets: Vec<ValidationSet> = Vec::new();
        let own = args.data.iter().filter(|d| !matches!(d.kind, DataKind::Scenes(_))).map(|d| (d, true));
        for (spec, brought) in own.chain(args.validation.iter().map(|d| (d, false))) {
            let of_dataset = |name: &str, dataset: &dyn Dataset| {
                let (count, views) = (args.validation_views, self.views.1);
                ValidationSet::of_dataset(name, dataset, count, views, planes, Sampling::Linear)
            };
            let mut set = match &spec.kind {
                DataKind::Synth => {
                    let generator = self.generator(args, VALIDATION_SEED, self.views.1);
                    ValidationSet::rendered(generator, args.validation_views, planes, Sampling::Linear)?
                }
                DataKind::Dtu(folder) => match Dtu::open(folder, self.dtu(args, Split::Validation, 0.0)) {
                    Ok(dtu) => of_dataset("dtu", &dtu)?,
                    // Whoever has only some training scans can train on them all the same.
                    Err(reason) if brought => {
                        notes.push(format!("no validation on DTU: {reason}"));
                        continue;
                    }
                    Err(reason) => return Err(reason),
                },
                DataKind::Scenes(folder) => of_dataset("scenes", &Scenes::open(folder, self.scenes(args, 0.0))?)?,
            };
            let same = sets.iter().filter(|s| s.name.split(' ').next() == Some(&set.name)).count();
            if same > 0 {
                set.name = format!("{} {}", set.name, same + 1);
            }
            sets.push(set);
        }
        if sets.is_empty() {
            notes.push(
                "no validation: scenes:DIR is all trained on, so no weights are known to be the best; \
                 --validation scenes:DIR names others"
                    .into(),
            );
        }
        Ok(sets)
    }
}

/// Everything that the run's results depend on, for `train.json`: a run goes on only with the same.
fn describe(args: &TrainArgs, options: &TrainOptions, setup: &Setup) -> serde_json::Value {
    let typed = |specs: &[DataSpec]| specs.iter().map(|d| d.typed.clone()).collect::<Vec<_>>();
    let lower = |v: &dyn std::fmt::Debug| format!("{v:?}").to_lowercase();
    json!({
        "config": options.config.to_string(),
        "init": options.init.as_deref().map(in_json),
        "data": typed(&args.data),
        "size": setup.size,
        "max_side": args.max_side,
        "textures": args.textures.as_deref().map(in_json),
        "mesh": args.mesh.iter().map(|file| in_json(file)).collect::<Vec<_>>(),
        "low_texture": args.low_texture,
        "alone": args.alone,
        "rig": lower(&args.rig),
        "reuse": args.reuse,
        "scene_memory": args.scene_memory,
        "augment": setup.augment != AugmentOptions::none(),
        "worse_sources": setup.worse_sources,
        "views": options.views,
        "planes": options.planes,
        "sampling": lower(&options.sampling),
        "steps": options.steps,
        "epoch_steps": options.epoch,
        "batch": options.batch,
        "rate": options.rate.rate,
        "schedule": lower(&options.rate.schedule),
        "warmup": options.rate.warmup,
        "clip": options.clip,
        "l1": options.loss.l1,
        "cross_entropy": options.loss.cross_entropy,
        "weight_decay": options.adam.weight_decay,
        "ema": options.average,
        "seed": options.seed,
        "validation": typed(&args.validation),
        "validation_views": args.validation_views,
        "validation_planes": args.validation_planes,
        "validate_every": args.validate_every,
    })
}
