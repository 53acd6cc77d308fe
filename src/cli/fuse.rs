//! `engine fuse`: one cloud from depth maps that exist, or with `--sweep` a grid of settings and their scores.

use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgGroup, ArgMatches, Args, Command, FromArgMatches};
use engine::files::folder::{scene_of_results, sibling};
use engine::files::ply_storage::OffsetOption;
use engine::fusion::constants::{CONSTANTS, Constant};
use engine::fusion::grid::{self, Axis, Given, Setting};
use engine::fusion::presets::{PRESETS, Preset};
use engine::fusion::settings::Method;
use engine::host::interrupt;
use engine::host::progress::Progress;
use engine::run::fuse::{SUFFIX, fuse};
use engine::run::fuse_grid::{Best, GridOptions, fuse_grid};
use engine::run::options::{FuseOptions, MapsOptions};
use engine::run::tile_plan::Tiling;
use engine::scene::camera::DepthRange;
use engine::shards::plan_file::PlanFile;
use engine::shards::tile_work::TileOptions;
use engine::shards::tiling::fuse_tiles;
use engine::shards::which::ShardOption;
use engine::{Error, Result};
use serde_json::json;

use super::export::{self, ExportHow};
use super::infer::Task;
use super::options::{self, LimitArgs, OutputArgs, ReportArgs, SceneArgs};
use super::places::{CacheArgs, Places};
use super::planned;

/// Fuse existing depth maps into a point cloud, or score many settings.
///
/// MAPS holds depth/NAME.pfm and, where there are any, confidence/NAME.pfm, as `engine infer` writes them; NAME is the
/// image's file name without its extension, and a map's size against its photo's tells its scale. MAPS may also be a
/// dense workspace of COLMAP (stereo/depth_maps, geometric maps before photometric ones), given as --scene, too, since
/// its maps are of its own photos; confidence is 1 there. Results go to OUT,
/// by default the folder MAPS_fused beside MAPS: fused.ply and manifest.json. With --sweep they go to MAPS_sweep:
/// sweep.json and pareto.svg. Where MAPS is the folder of `engine plan`, and no option says how or where to, the
/// planned job is brought to its end: cloud and manifest go to MAPS itself.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  engine fuse out --scene scenes/bust -o stricter --min-confidence 0.9 --min-views 4
  engine fuse out --method graph --min-pixels 3
  engine fuse out --scene scenes/bust --preset d2hc --min-confidence 0.5
  engine fuse dense --scene dense -o cloud
  engine fuse out --tiles 40 --shard 3/40
  engine fuse out --join --export laz,copc
  engine fuse out --scene scenes/bust --reference truth.ply --sweep min-confidence=0.5,0.7,0.9 \
  --sweep min-views=2,3,4")]
pub struct FuseArgs {
    /// The folder with depth/ and confidence/, or COLMAP's dense workspace
    #[arg(required_unless_present = "list_presets")]
    maps: Option<PathBuf>,
    /// The scene's folder, for cameras and colours [default: the one that MAPS was made of]
    #[arg(long, value_name = "SCENE")]
    scene: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    scene_args: SceneArgs,

    /// How to compare maps: reprojection (source views bring a pixel back to its place and depth), pyramid (merge
    /// levels first), dynamic (few views agree closely or many loosely), disparity (as fusibile: used pixels are
    /// marked), graph (as COLMAP: with normals) [default: reprojection, or the preset's]
    #[arg(long, value_name = "METHOD", help_heading = "Fusion")]
    #[arg(value_parser = PossibleValuesParser::new(Method::all().map(|m| m.name())), hide_possible_values = true)]
    method: Option<String>,
    /// Start from the published constants of a program or paper; --list-presets shows them
    #[arg(long, value_name = "NAME", help_heading = "Fusion")]
    preset: Option<String>,
    /// List the presets with their constants and sources, then exit
    #[arg(long, conflicts_with = "maps", help_heading = "Fusion")]
    list_presets: bool,
    /// Ignore depths outside this range, in the scene's units [default: use all]
    #[arg(long, value_name = "NEAR,FAR", value_parser = options::range, help_heading = "Fusion")]
    range: Option<DepthRange>,
    /// Keep one point for each cube of this side, in the scene's units: the mean of its points [default: keep all]
    #[arg(long, value_name = "SIZE", value_parser = options::positive_number, help_heading = "Fusion")]
    #[arg(conflicts_with = "sweep")]
    thin: Option<f64>,
    /// Take this from the coordinates in fused.ply, so that floats hold them: X,Y,Z, or auto (only where they lie far
    /// from the origin), or none (doubles there). The file's header and the manifest name it
    #[arg(long, value_name = "X,Y,Z|auto|none", default_value_t, help_heading = "Fusion", allow_hyphen_values = true)]
    #[arg(conflicts_with = "sweep")]
    ply_offset: OffsetOption,
    /// Export the results to OUT/export in these formats, as `engine export` does
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = export::format, help_heading = "Export")]
    #[arg(conflicts_with_all = ["sweep", "shard"])]
    export: Vec<&'static str>,
    #[command(flatten)]
    how: ExportHow,
    #[command(flatten)]
    tiles: TileArgs,
    #[command(flatten)]
    constants: ConstantArgs,
    #[command(flatten)]
    grid: GridArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    cache: CacheArgs,
    #[command(flatten)]
    pub report: ReportArgs,
}

/// Space cut into tiles.
#[derive(Args, Debug)]
#[command(next_help_heading = "Tiles")]
struct TileArgs {
    /// Cut space into tiles and make the points of one after the other, in OUT/tiles: a number, a grid (4x4x2), or
    /// auto. Each reads only the views that see something of it. The cloud is the same, byte for byte [default with
    /// --shard and --join: as OUT/tiles/plan.json says]
    #[arg(long, value_name = "N|NXxNYxNZ|auto", conflicts_with = "sweep")]
    tiles: Option<Tiling>,
    /// Make only the points of this part of the tiles: J/M, or auto, which takes the number from the task of a
    /// scheduler's array
    #[arg(long, value_name = "J/M|auto", conflicts_with = "sweep")]
    shard: Option<ShardOption>,
    /// Join the points of all tiles to the cloud
    #[arg(long, conflicts_with_all = ["sweep", "shard"])]
    join: bool,
}

impl TileArgs {
    fn options(&self) -> Option<TileOptions> {
        TileOptions::told(self.tiles, self.shard, self.join)
    }
}

/// A grid of settings, and what their clouds are scored by.
#[derive(Args, Debug)]
#[command(next_help_heading = "Sweep", group = ArgGroup::new("varied").args(["sweep"]).multiple(true))]
struct GridArgs {
    /// Try each of these values of a constant, or of method or preset; repeat for all combinations
    #[arg(long, value_name = "NAME=V,V,...", requires = "reference")]
    sweep: Vec<Axis>,
    /// Reference cloud to score a sweep against: a PLY file in the scene's frame and units
    #[arg(long, value_name = "FILE", requires = "varied")]
    reference: Option<PathBuf>,
    /// Exclude distances of this length or more, in the scene's units, from means and medians [default: include all]
    #[arg(long, value_name = "D", value_parser = options::positive_number, requires = "varied")]
    max_distance: Option<f64>,
    /// Distance in the scene's units below which a point counts as correct for the F-score [default: 0.002 of the
    /// diagonal of the reference's bounding box]
    #[arg(long, value_name = "D", value_parser = options::positive_number, requires = "varied")]
    threshold: Option<f64>,
    /// Also write the cloud that is best by this score to best.ply; overall is the mean of accuracy and completeness
    #[arg(long, value_name = "BY", requires = "varied")]
    keep_best: Option<Best>,
}

/// The options of all methods' constants: those that were given, by their names.
#[derive(Debug)]
struct ConstantArgs(Vec<Given>);

impl Args for ConstantArgs {
    fn augment_args(command: Command) -> Command {
        let option = |constant: &'static Constant| {
            let arg = Arg::new(constant.name).long(constant.name).value_name(constant.value).help(constant.help());
            let arg = arg.help_heading("Constants of the methods");
            if constant.is_switch() {
                let arg = arg.num_args(0..=1).require_equals(true).default_missing_value("true");
                return arg.value_parser(["true", "false"]);
            }
            arg.value_parser(|text: &str| {
                constant.check(text).map(|()| text.to_owned()).map_err(|expected| format!("expected {expected}"))
            })
        };
        command.args(CONSTANTS.iter().map(option))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ConstantArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given =
            |Constant { name, .. }: &Constant| Some((name.to_string(), matches.get_one::<String>(name)?.clone()));
        Ok(Self(CONSTANTS.iter().filter_map(given).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        Self::from_arg_matches(matches).map(|new| *self = new)
    }
}

impl FuseArgs {
    /// What may be addresses.
    pub fn places(&mut self) -> Places<'_> {
        let results = self.maps.clone().filter(|_| self.scene.is_none());
        let folders = self.maps.iter_mut().chain(&mut self.scene).chain(&mut self.output.out).collect();
        Places { folders, results, cache: self.cache.cache.as_deref(), ..Places::default() }
    }
}

/// Makes the cloud, or the table.
pub fn run(args: FuseArgs, progress: &Progress) -> Result<()> {
    // Clap asks for them unless presets are to be listed.
    let Some(maps) = &args.maps else { return list_presets(progress) };
    interrupt::install()?;
    let ConstantArgs(given) = &args.constants;
    let is_told_how =
        args.method.is_some() || args.preset.is_some() || !given.is_empty() || args.grid.reference.is_some();
    if !is_told_how
        && args.output.out.is_none()
        && let Some(plan) = PlanFile::read(maps)?
    {
        let scene = args.scene.as_ref().unwrap_or(&plan.scene);
        let work = planned::work_of(&plan)?.within(args.limits);
        let (work, task) = match args.tiles.options() {
            None => (work.only_finish(), Task::Files(scene)),
            Some(tiles) => (work, Task::Tiles(scene, tiles)),
        };
        work.run(task, planned::output_in(maps), progress)?;
        return export::after(maps, args.export, &args.how, progress);
    }
    let scene = &args.scene.clone().map_or_else(|| scene_of(maps), Ok)?;
    let (method, preset) = (args.method.as_deref(), args.preset.as_deref());
    let with_maps = MapsOptions {
        output: args.output.options(),
        // Fusion uses no range but the one that is given.
        open: args.scene_args.open_options(true),
        max_side: args.scene_args.max_side,
        only: args.scene_args.only,
        range: args.range,
        memory: args.limits.memory,
        maps: maps.clone(),
    };
    let Some(reference) = args.grid.reference else {
        let Setting { preset, settings, .. } = grid::setting(method, preset, given)?;
        args.limits.apply()?;
        let options = FuseOptions { maps: with_maps, preset, settings, thin: args.thin, ply_offset: args.ply_offset };
        match args.tiles.options() {
            None => fuse(scene, &options, progress)?,
            Some(tiles) => fuse_tiles(scene, &options, &tiles, progress)?,
        }
        let out = options.maps.output.out.map_or_else(|| sibling(maps, SUFFIX), Ok)?;
        return export::after(&out, args.export, &args.how, progress);
    };
    let settings = grid::grid(method, preset, given, &args.grid.sweep)?;
    args.limits.apply()?;
    let options = GridOptions {
        maps: with_maps,
        axes: args.grid.sweep.into_iter().map(|axis| axis.name).collect(),
        settings,
        reference,
        max_distance: args.grid.max_distance,
        threshold: args.grid.threshold,
        keep_best: args.grid.keep_best,
    };
    fuse_grid(scene, &options, progress)
}

/// The scene that maps were made of, by the mark of their folder.
fn scene_of(maps: &Path) -> Result<PathBuf> {
    scene_of_results(maps).ok_or_else(|| {
        let found = "maps that are not said to be of a scene (no .engine.json)";
        Error::input(maps.display().to_string(), found, "the scene's folder: --scene SCENE")
    })
}

fn list_presets(progress: &Progress) -> Result<()> {
    let text = PRESETS.iter().map(Preset::described).collect::<Result<Vec<_>>>()?;
    let fields = |p: &Preset| Ok(json!({ "name": p.name, "source": p.source, "settings": p.settings()? }));
    let all = PRESETS.iter().map(fields).collect::<Result<Vec<_>>>()?;
    progress.summary(&text.join("\n"), json!({ "presets": all }));
    Ok(())
}
