//! `engine infer`: the whole job, from photos and cameras to depth maps and a cloud.

use std::path::{Path, PathBuf};

use clap::Args;
use engine::cpu::network::BsMvsNet;
use engine::cuda::inference::{self, DeviceNetwork};
use engine::export::table::{self, Use};
use engine::files::folder::{OutputOptions, beside, default_folder};
use engine::files::ply_storage::OffsetOption;
use engine::files::subfolders::Subfolders;
use engine::fusion::settings::{FusionOptions, Reprojection, Settings};
use engine::host::interrupt;
use engine::host::progress::Progress;
use engine::maps::consistency::Thresholds;
use engine::net::backend::DepthNetwork;
use engine::net::config::Resolution;
use engine::net::weights::Checkpoint;
use engine::run::calibration::{self, Cameras};
use engine::run::device::Backend;
use engine::run::infer::{infer, infer_photos};
use engine::run::options::InferOptions;
use engine::scene::camera::{DepthRange, Sampling};
use engine::scene::{OpenOptions, Scene, photos_folder};
use engine::shards::mapping::map_shard;
use engine::shards::merging::merge_shard;
use engine::shards::planning::{self, PlanOptions};
use engine::shards::tile_work::TileOptions;
use engine::shards::tiling::fuse_planned_tiles;
use engine::shards::which::ShardOption;
use engine::{Error, Result};

use super::export::{self, ExportHow};
use super::given::Given;
use super::machine::MachineArgs;
use super::options::{self, LimitArgs, OutputArgs, ReportArgs, SceneArgs};
use super::places::{CacheArgs, Places};
use super::quality::Quality;
use super::report;

/// Make depth maps and a point cloud from photos and cameras: the whole job.
///
/// SCENE is a folder with images/ and either cams/ (or cams_1/) and pair.txt (MVSNet layout), or a COLMAP model in
/// sparse/, sparse/0/ or dense/sparse/, or the cameras of another program (--format lists them), or that file itself.
/// Results go to OUT, by default the folder SCENE_engine beside the scene:
/// depth/*.pfm, confidence/*.pfm, preview/*.png, fused.ply and manifest.json. To continue a stopped run, give the same
/// command again.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  engine infer scenes/bust
  engine infer scenes/bust -o out --max-side 800 --planes 96 --views 4
  engine infer scenes/bust --range 0.4,2.5 --sampling inverse --view IMG_0012 --view IMG_0013 --depth-only")]
pub struct InferArgs {
    /// The scene's folder, or its file of cameras
    scene: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    work: InferWork,
    /// SCENE is a folder of photos, without cameras: let an installed COLMAP find these (`colmap` on PATH or named by
    /// ENGINE_COLMAP, else Python's pycolmap). Its model stays beside the results, in OUT_cameras. one: all photos are
    /// of one camera that was not zoomed; each: every photo has its own; auto: one, if all have one size
    #[arg(long, value_name = "CAMERAS", num_args = 0..=1, require_equals = true, default_missing_value = "auto")]
    #[arg(conflicts_with_all = ["sparse", "layout"], help_heading = "Scene")]
    calibrate: Option<Cameras>,
    /// Make only the level maps of this part of the views: I/N, or auto, which takes the number from the task of a
    /// scheduler's array (Slurm, Kubernetes, PBS, AWS Batch, Grid Engine, LSF). Options that are not given are those of
    /// OUT/plan.json (`engine plan`); `engine merge` and `engine fuse` go on from there (docs/CLUSTER.md)
    #[arg(long, value_name = "I/N|auto", conflicts_with_all = ["calibrate", "export", "with_report"])]
    #[arg(help_heading = "Output")]
    shard: Option<ShardOption>,
    /// Export the results to OUT/export in these formats
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = export::format, help = export::to_help())]
    #[arg(help_heading = "Export")]
    export: Vec<&'static str>,
    #[command(flatten)]
    how: ExportHow,
    /// Also write OUT/report.html, one page with cloud, maps and findings, as `engine report` does
    #[arg(long = "report", help_heading = "Output")]
    with_report: bool,
    /// Show the last finished view as a small picture, in terminals that can: those that answer to kitty's or iTerm2's
    /// protocol, or have sixels
    #[arg(long, conflicts_with_all = ["quiet", "json"], help_heading = "Reports")]
    show: bool,
    #[command(flatten)]
    cache: CacheArgs,
    #[command(flatten)]
    pub report: ReportArgs,
}

/// What of the job is not about where its results go: also what `engine bench scene` takes.
#[derive(Args, Debug)]
pub struct InferWork {
    /// Several options at once; those that are given otherwise go before it. fast: --resolution half --planes 48
    /// --views 3 --levels 2; normal: the defaults; high: --planes 128; best: --planes 192 --check-sources 20.
    /// Processor time of the seven views in examples/scene, median error of the depth, and pixels with less than 1 %:
    /// fast 3.0 s, 0.163 %, 92.6 %; normal 8.8 s, 0.037 %, 94.4 %; high 9.0 s, 0.037 %, 94.4 %; best 11.2 s, 0.038 %,
    /// 93.4 %. So shallow a scene needs no more planes than normal has; deeper ones may
    #[arg(long, value_name = "PRESET", help_heading = "Depth")]
    quality: Option<Quality>,
    /// Also write normal maps: normal/*.pfm, three channels, in the world's axes
    #[arg(long, help_heading = "Output")]
    normals: bool,
    /// Whether maps, previews and records go to 256 subfolders (depth/_3f/NAME.pfm: `_` and the first two digits of the
    /// SHA-256 of NAME), which file systems like better than folders of very many files: auto does that for scenes of
    /// more than 4096 views. What is there already stays where it is; every command finds either
    #[arg(long, value_name = "WHEN", default_value = "auto", help_heading = "Output")]
    subfolders: Subfolders,
    /// Read all bytes of the photos and of what an earlier run has made, to see whether they are still the same,
    /// instead of going by size, time and inode
    #[arg(long, help_heading = "Output")]
    verify: bool,
    /// Write depth maps but no point cloud
    #[arg(long, help_heading = "Output")]
    depth_only: bool,

    #[command(flatten)]
    scene_args: SceneArgs,

    /// Views that the network compares for one depth map: the reference and N - 1 sources
    #[arg(long, value_name = "N", default_value = "5", value_parser = options::two_or_more, help_heading = "Depth")]
    views: usize,
    /// Number of depths to try at every pixel [default: what the scene's files say, else 96; with
    /// --resolution quarter 192]
    #[arg(long, value_name = "D", value_parser = options::planes, help_heading = "Depth")]
    planes: Option<usize>,
    /// Nearest and farthest depth, in the scene's units [default: what the scene's files say, else the 1st and 99th
    /// percentile of the depths of the view's sparse points, widened, also to points that only its neighbours track]
    #[arg(long, value_name = "NEAR,FAR", value_parser = options::range, help_heading = "Depth")]
    range: Option<DepthRange>,
    /// Widen a range from sparse points by this fraction at either end: near times 1 - F, far times 1 + F
    #[arg(long, value_name = "F", default_value = "0.1", help_heading = "Depth")]
    #[arg(value_parser = options::proper_fraction)]
    widen_range: f64,
    /// Space the planes evenly in depth or in 1 / depth [default: linear if far / near < 3, else inverse]
    #[arg(long, value_name = "SPACING", help_heading = "Depth")]
    sampling: Option<Sampling>,
    /// Levels of the image pyramid, each half the size of the one before (1 to 8)
    #[arg(long, value_name = "K", default_value = "3", value_parser = options::levels, help_heading = "Depth")]
    levels: usize,
    /// Resolution of the maps, against the photos (as reduced by --max-side)
    #[arg(long, value_name = "SIZE", default_value = "full", help_heading = "Depth")]
    resolution: Resolution,
    /// Let a pixel of a coarser level repair a finer one only above this confidence (0 to 1), and if --min-views agree
    /// [default: 0.03; with raw confidence 0.9]
    #[arg(long, value_name = "0..1", value_parser = options::fraction, help_heading = "Depth")]
    trusted_confidence: Option<f64>,
    /// Repair a pixel of a finer level from the coarser one only below this confidence (0 to 1) [default: 0.3; with
    /// raw confidence 0.5]
    #[arg(long, value_name = "0..1", value_parser = options::fraction, help_heading = "Depth")]
    replaced_confidence: Option<f64>,
    /// Take as confidence the paper's probability of the four hypotheses around the expected one, which depends on
    /// --planes, instead of the calibrated probability that the depth is right
    #[arg(long, help_heading = "Depth")]
    raw_confidence: bool,
    /// Leave depths as the network makes them: do not hold them against the photos (NCC), nor take means over the views
    #[arg(long, help_heading = "Depth")]
    unrefined: bool,
    /// Network weights, a safetensors file [default: the built-in ones]
    #[arg(long, value_name = "FILE", help_heading = "Depth")]
    weights: Option<PathBuf>,

    /// A source view agrees with a pixel if the pixel, projected into the source and back with the depth found there,
    /// moves by less than this many map pixels ...
    #[arg(long, value_name = "PX", default_value_t = Thresholds::default().max_reprojection_px)]
    #[arg(value_parser = options::positive_number, help_heading = "Geometric consistency")]
    max_reprojection_px: f64,
    /// ... and its depth changes by less than this fraction (0.01 is 1 %)
    #[arg(long, value_name = "FRACTION", default_value_t = Thresholds::default().max_depth_error_rel)]
    #[arg(value_parser = options::positive_number, help_heading = "Geometric consistency")]
    max_depth_error_rel: f64,
    /// Source views that must agree on a pixel; if a view has fewer sources, all of them
    #[arg(long, value_name = "N", default_value_t = Thresholds::default().min_views)]
    #[arg(value_parser = options::positive_integer, help_heading = "Geometric consistency")]
    min_views: usize,
    /// Source views to check a pixel against, best first; the network itself compares only --views
    #[arg(long, value_name = "N", default_value_t = Settings::default().check_sources)]
    #[arg(value_parser = options::positive_integer, help_heading = "Geometric consistency")]
    check_sources: usize,
    /// Make points only of pixels above this confidence (0 to 1)
    #[arg(long, value_name = "0..1", default_value_t = FusionOptions::default().min_confidence)]
    #[arg(value_parser = options::fraction, help_heading = "Fusion")]
    min_confidence: f64,
    /// Keep pixels of later views even if an accepted point already explains them
    #[arg(long, help_heading = "Fusion")]
    keep_duplicates: bool,
    /// Keep one point for each cube of this side, in the scene's units: the mean of its points [default: keep all]
    #[arg(long, value_name = "SIZE", value_parser = options::positive_number, help_heading = "Fusion")]
    thin: Option<f64>,
    /// Take this from the coordinates in fused.ply, so that floats hold them: X,Y,Z, or auto (only where they lie far
    /// from the origin), or none (doubles there). The file's header and the manifest name it
    #[arg(long, value_name = "X,Y,Z|auto|none", default_value_t, help_heading = "Fusion", allow_hyphen_values = true)]
    ply_offset: OffsetOption,

    #[command(flatten)]
    machine: MachineArgs,
    /// Whether maps that are missing are an error.
    #[arg(skip)]
    only_finish: bool,
}

impl InferArgs {
    /// What may be addresses.
    pub fn places(&mut self) -> Places<'_> {
        let folders = std::iter::once(&mut self.scene).chain(&mut self.output.out).collect();
        Places { folders, cache: self.cache.cache.as_deref(), ..Places::default() }
    }
}

/// Does it. `given` are the job's options, for a shard that has to make the plan.
pub fn run(args: InferArgs, given: Vec<Given>, progress: &Progress) -> Result<()> {
    interrupt::install()?;
    let with_pictures = args.show.then(|| progress.with_pictures());
    let progress = with_pictures.as_ref().unwrap_or(progress);
    let output = args.output.options();
    if let Some(shard) = args.shard {
        return args.work.run(Task::Shard(&args.scene, shard, given), output, progress);
    }
    if args.work.depth_only
        && let Some(name) =
            args.export.iter().find(|name| table::named(name).is_some_and(|format| format.cloud == Use::Needed))
    {
        let found = "a format of the cloud, which --depth-only does not make";
        return Err(Error::input(format!("--export {name}"), found, "formats of maps only, or no --depth-only"));
    }
    let folder = output.out.clone().map_or_else(|| default_folder(&args.scene), Ok)?;
    let mut work = args.work;
    if let Some(cameras) = args.calibrate {
        let kept = beside(&folder, "_cameras")?;
        progress.note(&calibration::calibrate(&photos_folder(&args.scene), cameras, &kept, progress)?);
        work.scene_args.sparse = Some(kept.join(calibration::MODELS));
    }
    work.run(Task::Files(&args.scene), output, progress)?;
    export::after(&folder, args.export, &args.how, progress)?;
    if args.with_report { report::after(&folder, progress) } else { Ok(()) }
}

/// What is done with a scene.
pub enum Task<'a> {
    /// The whole job, of one in files.
    Files(&'a Path),
    /// The whole job, of one in memory.
    Photos(Box<Scene>),
    /// It is divided.
    Plan(&'a Path, PlanOptions),
    /// The maps of a shard, by the options that were given.
    Shard(&'a Path, ShardOption, Vec<Given>),
    /// The views of a shard, or of all, are merged.
    Merge(&'a Path, Option<ShardOption>),
    /// Merged views are fused tile by tile.
    Tiles(&'a Path, TileOptions),
}

impl Task<'_> {
    fn run<N: DepthNetwork>(self, network: &N, options: &InferOptions, progress: &Progress) -> Result<()> {
        match self {
            Self::Files(path) => infer(path, network, options, progress),
            Self::Photos(scene) => infer_photos(*scene, network, options, progress),
            Self::Plan(path, told) => planning::make(path, network, options, &told, progress),
            Self::Shard(path, shard, given) => map_shard(path, network, options, (shard, &given), progress),
            Self::Merge(path, shard) => merge_shard(path, network, options, shard, progress),
            Self::Tiles(path, told) => fuse_planned_tiles(path, network, options, &told, progress),
        }
    }
}

impl InferWork {
    /// Starts the threads and does a task.
    pub fn run(self, task: Task, output: OutputOptions, progress: &Progress) -> Result<()> {
        self.machine.limits.apply()?;
        self.run_task(task, output, progress)
    }

    /// The same job with other means.
    pub fn on_machine(self, machine: MachineArgs) -> Self {
        Self { machine, ..self }
    }

    /// The same job with other limits.
    pub fn within(mut self, limits: LimitArgs) -> Self {
        self.machine.limits = limits;
        self
    }

    /// The same job, refused where maps are missing.
    pub fn only_finish(self) -> Self {
        Self { only_finish: true, ..self }
    }

    /// How the scene's files are read.
    pub fn open_options(&self) -> OpenOptions {
        self.scene_args.open_options(self.range.is_some())
    }

    /// How much of the machine it takes.
    pub fn limits(&self) -> &LimitArgs {
        &self.machine.limits
    }

    /// Does a task, after the threads have been started.
    pub fn run_task(self, task: Task, output: OutputOptions, progress: &Progress) -> Result<()> {
        if let Some(quality) = self.quality {
            progress.note(&quality.told());
        }
        let devices = self.machine.device.open(progress)?;
        let _decoder = self.machine.jpeg.begin(&devices)?;
        let Self { max_reprojection_px, max_depth_error_rel, min_views, keep_duplicates, .. } = self;
        let thresholds = Thresholds { max_reprojection_px, max_depth_error_rel, min_views };
        let constants = Reprojection { thresholds, keep_duplicates, ..Reprojection::default() };
        let fusion = FusionOptions::reprojection(self.min_confidence, constants);
        let weights = self.weights.as_deref();
        let options = InferOptions {
            output,
            normals: self.normals,
            subfolders: self.subfolders,
            unrefined: self.unrefined,
            depth_only: self.depth_only,
            open: self.open_options(),
            max_side: self.scene_args.max_side,
            only: self.scene_args.only,
            views: self.views,
            planes: self.planes,
            range: self.range,
            widen_range: self.widen_range,
            sampling: self.sampling,
            levels: self.levels,
            resolution: self.resolution,
            trusted_confidence: self.trusted_confidence,
            replaced_confidence: self.replaced_confidence,
            settings: Settings { check_sources: self.check_sources, fusion },
            thin: self.thin,
            ply_offset: self.ply_offset,
            memory: self.machine.limits.memory,
            verify: self.verify,
            only_finish: self.only_finish,
            backend: devices.first().map_or(Backend::Host, |(_, first)| Backend::Device(first.clone())),
        };
        let mut checkpoint = weights.map_or_else(Checkpoint::built_in, Checkpoint::read)?;
        if self.raw_confidence {
            checkpoint.confidence = None;
        }
        if devices.is_empty() {
            return task.run(&BsMvsNet::new(&checkpoint)?, &options, progress);
        }
        let on_device = inference::Options {
            element: self.machine.precision.element(),
            vram: self.machine.vram,
            convolutions: self.machine.convolutions,
        };
        task.run(&DeviceNetwork::on_each(devices, &checkpoint, on_device)?, &options, progress)
    }
}
