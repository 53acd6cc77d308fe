//! `engine fuse`: one cloud from depth maps that exist, or with `--sweep` a grid of settings and their scores.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{ArgGroup, Args};
use engine::Result;
use engine::fusion::Method;
use engine::fusion::grid::{self, Given, Setting};
use engine::fusion::presets::{PRESETS, described};
use engine::host::interrupt;
use engine::host::progress::Progress;
use engine::run::fuse::fuse;
use engine::run::fuse_grid::{Best, SweepOptions, sweep};
use engine::run::options::{FuseOptions, MapsOptions};
use engine::scene::camera::DepthRange;
use serde_json::json;

use super::options::{self, OutputArgs, ReportArgs, SceneArgs};

/// A point cloud from depth maps that exist already, or scores of many.
///
/// MAPS holds depth/NAME.pfm and, where there are any, confidence/NAME.pfm, as `engine infer` writes them; NAME is the
/// image's file name without its extension, and a map's size against its photo's tells its scale. Results go to OUT,
/// by default the folder MAPS_fused beside MAPS: fused.ply and manifest.json. With --sweep they go to MAPS_sweep:
/// sweep.json and pareto.svg.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("sweeping").args(["sweep"]).multiple(true))]
#[command(after_help = "\
Examples:
  engine fuse out --scene scenes/bust -o stricter --min-confidence 0.9 --min-views 4
  engine fuse out --scene scenes/bust --method graph --min-pixels 3
  engine fuse out --scene scenes/bust --preset d2hc --min-confidence 0.5
  engine fuse out --scene scenes/bust --reference truth.ply --sweep min-confidence=0.5,0.7,0.9 --sweep min-views=2,3,4")]
pub struct FuseArgs {
    /// The folder with depth/ and confidence/
    #[arg(required_unless_present = "list_presets")]
    maps: Option<PathBuf>,
    /// The scene's folder, for cameras and colours
    #[arg(long, value_name = "SCENE", required_unless_present = "list_presets")]
    scene: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    scene_args: SceneArgs,

    /// How maps are compared: reprojection (source views bring a pixel back to its place and depth), pyramid (levels
    /// are merged first), dynamic (few views agree closely or many loosely), disparity (fusibile's, used pixels are
    /// marked), graph (COLMAP's, with normals) [default: reprojection, or the preset's]
    #[arg(long, value_name = "METHOD", value_parser = PossibleValuesParser::new(Method::NAMES), hide_possible_values = true, help_heading = "Fusion")]
    method: Option<String>,
    /// Begin with the constants that a program or paper has published; --list-presets shows them
    #[arg(long, value_name = "NAME", help_heading = "Fusion")]
    preset: Option<String>,
    /// Print every preset with its constants and where they are from, and do nothing else
    #[arg(long, conflicts_with = "maps", help_heading = "Fusion")]
    list_presets: bool,
    /// Depths outside this range, in the scene's units, are left out [default: none are]
    #[arg(long, value_name = "NEAR,FAR", value_parser = options::range, help_heading = "Fusion")]
    range: Option<DepthRange>,
    #[command(flatten)]
    constants: ConstantArgs,

    /// Try all of these values of a constant, or of method or preset; given several times, all combinations
    #[arg(long, value_name = "NAME=V,V,...", value_parser = axis, requires = "reference", help_heading = "Sweep")]
    sweep: Vec<Axis>,
    /// The cloud, a PLY file, that a sweep's clouds are scored against; in the scene's frame and units
    #[arg(long, value_name = "FILE", requires = "sweeping", help_heading = "Sweep")]
    reference: Option<PathBuf>,
    /// Leave distances from here on, in the scene's units, out of means and medians [default: none]
    #[arg(long, value_name = "D", value_parser = options::positive_number, requires = "sweeping", help_heading = "Sweep")]
    max_distance: Option<f64>,
    /// Distances below this, in the scene's units, count as near for the F-score [default: 0.002 of the diagonal of the
    /// reference's bounding box]
    #[arg(long, value_name = "D", value_parser = options::positive_number, requires = "sweeping", help_heading = "Sweep")]
    threshold: Option<f64>,
    /// Also write the best cloud, best.ply, by this number; overall is the mean of accuracy and completeness
    #[arg(long, value_name = "BY", requires = "sweeping", help_heading = "Sweep")]
    keep_best: Option<Best>,

    /// Threads to work with [default: one a processor]
    #[arg(long, value_name = "N", value_parser = options::threads, help_heading = "Machine")]
    threads: Option<usize>,
    /// Memory to plan with, in GB (1e9 bytes) [default: what the system has available]
    #[arg(long, value_name = "GB", value_parser = options::positive_number, help_heading = "Machine")]
    memory: Option<f64>,
    #[command(flatten)]
    pub report: ReportArgs,
}

/// The constants of all methods. Defaults in their texts are the methods'; a preset has its own.
#[derive(Args, Debug)]
#[command(next_help_heading = "Constants of the methods")]
struct ConstantArgs {
    /// Pixels are used only above this confidence (0 to 1) [default: 0.8]
    #[arg(long, value_name = "0..1", value_parser = options::fraction)]
    min_confidence: Option<f64>,
    /// Source views that a pixel is checked against, the best ones first [default: 10]
    #[arg(long, value_name = "N", value_parser = options::positive_integer)]
    check_sources: Option<usize>,
    /// reprojection, pyramid: a source view agrees with a pixel if the pixel, sent to the source and back with the
    /// depth found there, moves by less than this many map pixels [default: 1]. graph: the seed falls at most this
    /// many map pixels from a pixel that joins it [default: 2]
    #[arg(long, value_name = "PX", value_parser = options::positive_number)]
    max_reprojection_px: Option<f64>,
    /// reprojection, pyramid: ... and its depth changes by less than this fraction. graph: ... at a depth that differs
    /// by at most this fraction [default: 0.01, which is 1 %]
    #[arg(long, value_name = "FRACTION", value_parser = options::positive_number)]
    max_depth_error_rel: Option<f64>,
    /// reprojection, pyramid: source views that must agree on a pixel; all where a view has fewer [default: 3].
    /// disparity: the same, however few a view has [default: 3]. dynamic: the least number that may do (1 to 16)
    /// [default: 2]
    #[arg(long, value_name = "N", value_parser = options::positive_integer)]
    min_views: Option<usize>,
    /// reprojection, pyramid, dynamic: also write the pixels of later views that an accepted point has already
    /// explained (true or false) [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    keep_duplicates: Option<bool>,
    /// pyramid: levels that are merged, from MAPS/levels/0 on (1 to 8) [default: 3]
    #[arg(long, value_name = "K", value_parser = options::levels)]
    levels: Option<usize>,
    /// pyramid: a pixel of a coarser level may repair a finer one only above this confidence (0 to 1) [default: 0.9]
    #[arg(long, value_name = "0..1", value_parser = options::fraction)]
    trusted_confidence: Option<f64>,
    /// pyramid: a pixel of a finer level is repaired only below this confidence (0 to 1) [default: 0.5]
    #[arg(long, value_name = "0..1", value_parser = options::fraction)]
    replaced_confidence: Option<f64>,
    /// pyramid: --max-reprojection-px of a coarser pixel that may repair, in pixels of its own level [default: 1]
    #[arg(long, value_name = "PX", value_parser = options::positive_number)]
    coarse_reprojection_px: Option<f64>,
    /// pyramid: --max-depth-error-rel of a coarser pixel that may repair, a fraction [default: 0.01]
    #[arg(long, value_name = "FRACTION", value_parser = options::positive_number)]
    coarse_depth_error_rel: Option<f64>,
    /// pyramid: --min-views of a coarser pixel that may repair [default: 3]
    #[arg(long, value_name = "N", value_parser = options::positive_integer)]
    coarse_min_views: Option<usize>,
    /// pyramid: how often merged maps are doubled in size before they are compared (0 to 3) [default: 0]
    #[arg(long, value_name = "N")]
    doublings: Option<usize>,
    /// dynamic: i views agree if they bring a pixel back less than i times this many map pixels away ... [default:
    /// 0.25]
    #[arg(long, value_name = "PX", value_parser = options::positive_number)]
    reprojection_step_px: Option<f64>,
    /// dynamic: ... with a depth that changes by less than i times this fraction [default: 1/1300, about 0.00077]
    #[arg(long, value_name = "FRACTION", value_parser = options::positive_number)]
    depth_error_step_rel: Option<f64>,
    /// dynamic: the greatest i (1 to 16); depths are averaged within its tolerance [default: 10]
    #[arg(long, value_name = "N", value_parser = options::positive_integer)]
    max_views: Option<usize>,
    /// disparity: a source view agrees with a pixel if its depth and the pixel's, as disparities between the two
    /// views, differ by less than this many map pixels [default: 0.25]
    #[arg(long, value_name = "PX", value_parser = options::positive_number)]
    max_disparity_px: Option<f64>,
    /// disparity, graph: ... and its normal is at most this many degrees from the pixel's; from 180 on normals are not
    /// compared [default: 180; graph: 10]
    #[arg(long, value_name = "DEGREES", value_parser = options::positive_number)]
    max_normal_deg: Option<f64>,
    /// graph: pixels of all views that make a point [default: 5]
    #[arg(long, value_name = "N", value_parser = options::positive_integer)]
    min_pixels: Option<usize>,
    /// graph: pixels after which a point is complete [default: 10000]
    #[arg(long, value_name = "N", value_parser = options::positive_integer)]
    max_pixels: Option<usize>,
    /// graph: pixels in a row, each where the one before falls in the next view [default: 100]
    #[arg(long, value_name = "N", value_parser = options::positive_integer)]
    max_traversal_depth: Option<usize>,
}

impl ConstantArgs {
    /// Those that were given, by their names.
    fn given(&self) -> Vec<Given> {
        fn text<T: ToString>(value: Option<T>) -> Option<String> {
            value.map(|v| v.to_string())
        }
        let all = [
            ("min-confidence", text(self.min_confidence)),
            ("check-sources", text(self.check_sources)),
            ("max-reprojection-px", text(self.max_reprojection_px)),
            ("max-depth-error-rel", text(self.max_depth_error_rel)),
            ("min-views", text(self.min_views)),
            ("keep-duplicates", text(self.keep_duplicates)),
            ("levels", text(self.levels)),
            ("trusted-confidence", text(self.trusted_confidence)),
            ("replaced-confidence", text(self.replaced_confidence)),
            ("coarse-reprojection-px", text(self.coarse_reprojection_px)),
            ("coarse-depth-error-rel", text(self.coarse_depth_error_rel)),
            ("coarse-min-views", text(self.coarse_min_views)),
            ("doublings", text(self.doublings)),
            ("reprojection-step-px", text(self.reprojection_step_px)),
            ("depth-error-step-rel", text(self.depth_error_step_rel)),
            ("max-views", text(self.max_views)),
            ("max-disparity-px", text(self.max_disparity_px)),
            ("max-normal-deg", text(self.max_normal_deg)),
            ("min-pixels", text(self.min_pixels)),
            ("max-pixels", text(self.max_pixels)),
            ("max-traversal-depth", text(self.max_traversal_depth)),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

/// A name with the values to try.
#[derive(Clone, Debug, PartialEq)]
struct Axis(String, Vec<String>);

fn axis(text: &str) -> Result<Axis, String> {
    let expected = || "expected a name and its values, such as min-views=2,3,4".to_owned();
    let (name, values) = text.split_once('=').ok_or_else(expected)?;
    let values: Vec<String> = values.split(',').map(|v| v.trim().to_owned()).collect();
    if name.trim().is_empty() || values.iter().any(String::is_empty) {
        return Err(expected());
    }
    Ok(Axis(name.trim().replace('_', "-"), values))
}

/// Makes the cloud, or the table.
pub fn run(args: FuseArgs, progress: &Progress) -> Result<()> {
    // Clap asks for both unless presets are to be listed.
    let (Some(maps), Some(scene)) = (&args.maps, &args.scene) else {
        list_presets(progress);
        return Ok(());
    };
    interrupt::install()?;
    let given = args.constants.given();
    let (method, preset) = (args.method.as_deref(), args.preset.as_deref());
    let with_maps = || MapsOptions {
        output: args.output.options(),
        open: args.scene_args.open_options(),
        max_side: args.scene_args.max_side,
        only: args.scene_args.only.clone(),
        range: args.range,
        memory: args.memory.map(super::bytes),
        maps: maps.clone(),
    };
    let Some(reference) = args.reference.clone() else {
        let Setting { preset, settings, .. } = grid::setting(method, preset, &given)?;
        super::use_threads(args.threads)?;
        let options = FuseOptions { maps: with_maps(), preset, settings };
        return fuse(scene, &options, progress);
    };
    let axes: Vec<(String, Vec<String>)> =
        args.sweep.iter().map(|Axis(name, values)| (name.clone(), values.clone())).collect();
    let settings = grid::grid(method, preset, &given, &axes)?;
    super::use_threads(args.threads)?;
    let options = SweepOptions {
        maps: with_maps(),
        axes: axes.into_iter().map(|(name, _)| name).collect(),
        settings,
        reference,
        max_distance: args.max_distance,
        threshold: args.threshold,
        keep_best: args.keep_best,
    };
    sweep(scene, &options, progress)
}

fn list_presets(progress: &Progress) {
    let text: Vec<String> = PRESETS.iter().map(described).collect();
    let all = PRESETS.iter().map(|p| json!({ "name": p.name, "source": p.source, "settings": p.settings.fields() }));
    progress.summary(&text.join("\n"), json!({ "presets": all.collect::<Vec<_>>() }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_names_with_values() {
        let two = Axis("min-views".into(), vec!["2".into(), "3".into()]);
        assert_eq!(axis("min_views=2, 3"), Ok(two));
        for bad in ["", "min-views", "min-views=", "=2", "min-views=2,,3"] {
            assert!(axis(bad).is_err(), "{bad}");
        }
    }
}
