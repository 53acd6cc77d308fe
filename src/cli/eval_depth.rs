//! `engine eval depth`: how good depth maps are, in numbers and pictures.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PathBufValueParser, TypedValueParser};
use engine::draw::depth_charts;
use engine::draw::error_maps::error_maps;
use engine::error::counted;
use engine::evaluation::depth::{DepthErrors, DepthSummary};
use engine::evaluation::depth_files::{MapFiles, find_maps};
use engine::evaluation::table;
use engine::files::atomic::write_whole;
use engine::files::folder::{make_folder_of, write_json};
use engine::files::names::in_json;
use engine::host::interrupt;
use engine::host::memory::{MemoryNeed, Part, StageMemory};
use engine::host::progress::Progress;
use engine::maps::valid::Invalid;
use engine::{Error, Result};
use rayon::prelude::*;
use serde_json::json;

use super::options::{self, LimitArgs, ReportArgs};

/// Compare depth maps with the true depth.
///
/// MAPS holds depth/NAME.pfm and confidence/NAME.pfm, as `engine infer` writes them. DIR holds NAME.pfm or
/// depth/NAME.pfm, with 0 for unknown depth. Maps of different sizes are compared at the pixels that coincide: every
/// n-th pixel of the finer one, starting at pixel 0. For each view and for all, prints errors in scene units, in
/// hypothesis intervals and relative to the depth; whether confidences are calibrated; and the mean error of the most
/// confident pixels beside the lowest that any ordering could reach.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  engine eval depth out --truth scene/depths
  engine eval depth out --truth truth --plot errors.svg --error-maps maps --out numbers.json")]
pub struct DepthArgs {
    /// The folder with depth/ and confidence/
    maps: PathBuf,
    /// Folder with the true depth maps
    #[arg(long, value_name = "DIR")]
    truth: PathBuf,
    /// Interval between hypotheses, in scene units [default: each view's, from MAPS/manifest.json if it exists]
    #[arg(long, value_name = "X", value_parser = options::positive_number)]
    interval: Option<f64>,
    /// Draw histogram of errors, risk over coverage and reliability into this file, FILE.svg
    #[arg(long, value_name = "FILE", value_parser = PathBufValueParser::new().try_map(options::svg_file))]
    plot: Option<PathBuf>,
    /// Draw truth, depth, error and confidence of each view to this folder, as NAME.png
    #[arg(long, value_name = "DIR")]
    error_maps: Option<PathBuf>,
    /// Write all numbers to this file, as JSON
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    pub report: ReportArgs,
}

/// Measures depth maps.
pub fn run(args: &DepthArgs, progress: &Progress) -> Result<()> {
    interrupt::install()?;
    args.limits.apply()?;
    let found = find_maps(&args.maps, &args.truth, args.interval)?;
    found.notes.iter().for_each(|note| progress.note(note));
    let largest = found.maps.iter().map(MapFiles::bytes).max().unwrap_or(0);
    let at_once = rayon::current_num_threads().min(found.maps.len()) as u64;
    let stage = StageMemory::new("measuring", vec![Part::new("the maps of a view for each thread", largest * at_once)]);
    args.limits.expect_room(&MemoryNeed { stages: vec![stage] }, "fewer --threads or smaller maps would help")?;
    let measured: Vec<Result<Measured>> = found.maps.par_iter().map(|files| measure(files, args)).collect();
    // Collected one by one, so that of several bad files always the first is named.
    let measured: Vec<Measured> = measured.into_iter().collect::<Result<_>>()?;
    let mut notes = found.notes;
    let told = notes.len();
    if let Some((name, how)) =
        found.maps.iter().zip(&measured).find_map(|(files, of)| Some((&files.name, of.resampling.as_ref()?)))
    {
        notes.push(format!("sizes differ (first: {name}); compared at {how}"));
    }
    let invalid = measured.iter().fold(Invalid::default(), |sum, of| sum.and(of.invalid));
    notes.extend(invalid.notes(&args.maps.display().to_string()));
    notes[told..].iter().for_each(|note| progress.note(note));
    let mut all = DepthErrors::new();
    measured.iter().for_each(|of| all.merge(&of.errors));
    let all = all.summary();
    if all.pixels == all.pixels_without_depth {
        return Err(Error::Nothing(format!(
            "{}: of {}, {} with a truth in {} and none of these has a depth, so there is nothing to compare",
            args.maps.display(),
            counted(found.maps.len(), "map"),
            counted(all.pixels as usize, "pixel"),
            args.truth.display(),
        )));
    }
    let views: Vec<(&MapFiles, DepthSummary)> =
        found.maps.iter().zip(measured.iter().map(|of| of.errors.summary())).collect();
    let fields = json!({
        "maps": in_json(&args.maps),
        "truth": in_json(&args.truth),
        "notes": notes,
        "views": views
            .iter()
            .map(|(files, numbers)| json!({ "name": files.name, "interval": files.interval, "numbers": numbers }))
            .collect::<Vec<_>>(),
        "all": all,
    });
    progress.summary(&tables(&views, &all), fields.clone());
    if let Some(file) = &args.plot {
        make_folder_of(file)?;
        let _guard = interrupt::writing();
        write_whole(file, "write the plot", |out| depth_charts::write(&all, out))?;
    }
    args.out.as_deref().map_or(Ok(()), |file| {
        make_folder_of(file)?;
        write_json(file, "write the numbers", &fields)
    })
}

/// One view.
struct Measured {
    errors: DepthErrors,
    /// How sizes were brought together.
    resampling: Option<String>,
    /// Pixels that could not be used.
    invalid: Invalid,
}

fn measure(files: &MapFiles, args: &DepthArgs) -> Result<Measured> {
    interrupt::check()?;
    let maps = files.read()?;
    let mut errors = DepthErrors::new();
    errors.add(&maps.depth, maps.confidence.as_ref(), &maps.truth, files.interval)?;
    if let Some(folder) = &args.error_maps {
        let file = folder.join(format!("{}.png", files.name));
        make_folder_of(&file)?;
        let _guard = interrupt::writing();
        write_whole(&file, "write the map of errors", |out| error_maps(&maps, files.interval).write_png(out))?;
    }
    Ok(Measured { errors, resampling: maps.resampling, invalid: maps.invalid })
}

fn percent(share: Option<f64>) -> String {
    share.map_or("-".into(), |share| format!("{:.1}", 100.0 * share))
}

/// Small shares, with three digits.
fn fine_percent(share: Option<f64>) -> String {
    share.map_or("-".into(), |share| format!("{:.3}", 100.0 * share))
}

/// A length in scene units, whatever they are.
fn units(value: Option<f64>) -> String {
    value.map_or("-".into(), |v| {
        if v == 0.0 {
            return "0".into();
        }
        let digits = 3 - v.abs().max(1e-12).log10().floor() as i32;
        format!("{v:.*}", digits.clamp(0, 12) as usize)
    })
}

fn tables(views: &[(&MapFiles, DepthSummary)], all: &DepthSummary) -> String {
    let head = [
        "view",
        "pixels",
        "no depth, %",
        "mean",
        "median",
        "median, %",
        "< 1 interval, %",
        "< 2, %",
        "< 4, %",
        "< 0.2 %, %",
        "< 0.5 %, %",
        "< 1 %, %",
        "< 2 %, %",
        "confident, %",
        "skill",
    ];
    let row = |name: &str, n: &DepthSummary| {
        let known = n.confidence.as_ref();
        let missing = (n.pixels > 0).then(|| n.pixels_without_depth as f64 / n.pixels as f64);
        let skill = known.and_then(|c| c.confidence_skill);
        vec![
            name.to_owned(),
            n.pixels.to_string(),
            percent(missing),
            units(n.mean_error_units),
            units(n.median_error_units),
            fine_percent(n.median_error_rel),
            percent(n.within_1_interval),
            percent(n.within_2_intervals),
            percent(n.within_4_intervals),
            percent(n.within_0_2_percent),
            percent(n.within_0_5_percent),
            percent(n.within_1_percent),
            percent(n.within_2_percent),
            percent(known.and_then(|c| c.confident_share)),
            skill.map_or("-".into(), |s| format!("{s:.2}")),
        ]
    };
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(views.iter().map(|(files, numbers)| row(&files.name, numbers)));
    rows.push(row("all", all));
    let mut text = table(&rows);
    let Some(confidence) = &all.confidence else { return text };

    let mut rows = vec![["confidence", "pixels", "mean, %", "right, %"].map(str::to_owned).to_vec()];
    rows.extend(confidence.calibration.iter().filter(|bin| bin.pixels > 0).map(|bin| {
        vec![
            format!("{:.1} to {:.1}", bin.from_confidence, bin.to_confidence),
            bin.pixels.to_string(),
            percent(bin.mean_confidence),
            percent(bin.right_share),
        ]
    }));
    text += &format!(
        "\n\n{}\nright: {}; expected calibration error {} %",
        table(&rows),
        confidence.right,
        percent(confidence.calibration_error)
    );
    let mut rows = vec![["most confident, %", "mean error, %", "oracle, %"].map(str::to_owned).to_vec()];
    rows.extend(confidence.risk_coverage.iter().map(|point| {
        vec![
            point.coverage_percent.to_string(),
            fine_percent(point.mean_error_rel),
            fine_percent(point.oracle_mean_error_rel),
        ]
    }));
    rows.push(vec![
        "area".into(),
        fine_percent(confidence.area_under_risk_rel),
        fine_percent(confidence.oracle_area_rel),
    ]);
    let skill = confidence.confidence_skill.map_or("-".into(), |s| format!("{s:.2}"));
    text += &format!(
        "\n\n{}\nskill of the confidence: {skill} (1: it orders pixels as their errors do, 0: it says nothing)",
        table(&rows)
    );
    text
}
