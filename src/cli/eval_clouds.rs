//! `engine eval dtu` and `engine eval cloud`: how good point clouds are, in numbers.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{ArgGroup, Args};
use engine::Result;
use engine::draw::cloud_chart;
use engine::evaluation::cloud::{self, CloudSettings, Comparison, THRESHOLD_SHARES, compare};
use engine::evaluation::dtu::{DtuSettings, MeanNumbers, Scan, ScanNumbers, evaluate};
use engine::evaluation::dtu_files::{ReferenceFiles, find_prediction, write_error_cloud};
use engine::evaluation::{Statistics, shown, table};
use engine::files::atomic::write_whole;
use engine::files::folder::{make_folder_of, write_json};
use engine::files::names::in_json;
use engine::files::ply_points;
use engine::host::interrupt;
use engine::host::progress::{Progress, duration};
use engine::train::dtu::{TEST_SCANS, TRAIN_SCANS, VALIDATION_SCANS};
use serde_json::{Value, json};

use super::options::{self, LimitArgs, ReportArgs};

/// Score point clouds of DTU scans by the data set's own protocol.
///
/// INPUT is the cloud of one scan (with --scan) or a folder with one cloud per scan (with --scans), named
/// METHODnnn_l3.ply, scanN/fused.ply or scanN.ply. The cloud is thinned to 0.2 mm. Accuracy covers its points inside
/// the observability mask, completeness the reference's points above the ground plane; both exclude distances of 20 mm
/// and more. Numbers are in mm. The score of several scans is the mean of their means.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("which").required(true).args(["scan", "scans"]))]
#[command(after_help = "\
Examples:
  engine eval dtu out/fused.ply --scan 9 --data dtu
  engine eval dtu results --scans evaluation --data dtu --out scores.json")]
pub struct DtuArgs {
    /// Cloud, or folder of clouds
    input: PathBuf,
    /// Number of the cloud's scan
    #[arg(long, value_name = "N")]
    scan: Option<u32>,
    /// Scans to score: evaluation (22), validation (18), training (79), or numbers separated by commas
    #[arg(long, value_name = "SCANS", value_parser = scans)]
    scans: Option<Scans>,
    /// The data set's folder, with Points/stl/stlNNN_total.ply, ObsMask/ObsMaskN_10.mat and ObsMask/PlaneN.mat
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Write all numbers to this file, as JSON
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write the clouds, coloured by error, to this folder: scanN_Data2Stl.ply and scanN_Stl2Data.ply
    #[arg(long, value_name = "DIR")]
    error_clouds: Option<PathBuf>,
    /// Do not thin the prediction; the numbers then deviate from the protocol
    #[arg(long)]
    no_thinning: bool,
    /// Seed of the random thinning order
    #[arg(long, value_name = "N", default_value = "0")]
    seed: u64,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    pub report: ReportArgs,
}

/// Compare a point cloud with a reference.
///
/// Accuracy is the distance from CLOUD's points to REFERENCE, completeness the distance from REFERENCE's points to
/// CLOUD. Precision and recall are the shares of these distances below a threshold; the F-score is their harmonic
/// mean. The clouds must share one frame: nothing is aligned.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  engine eval cloud out/fused.ply truth.ply --thresholds 0.01,0.02 --voxel 0.005")]
pub struct CloudArgs {
    /// Cloud to score, a PLY file
    cloud: PathBuf,
    /// Reference cloud, a PLY file
    reference: PathBuf,
    /// Thresholds for precision and recall, separated by commas, in the clouds' units [default: 0.001, 0.002 and 0.005
    /// of the diagonal of REFERENCE's bounding box]
    #[arg(long, value_name = "T,T,...", value_delimiter = ',', value_parser = options::positive_number)]
    thresholds: Vec<f64>,
    /// Exclude distances of this length or more from means and medians; for precision and recall such points count as
    /// wrong [default: include all]
    #[arg(long, value_name = "D", value_parser = options::positive_number)]
    max_distance: Option<f64>,
    /// First reduce both clouds to one point per voxel of this edge length, the mean of its points [default: keep all
    /// points]
    #[arg(long, value_name = "EDGE", value_parser = options::positive_number)]
    voxel: Option<f64>,
    /// Draw the distances and the precision and recall at every threshold into this file, FILE.svg
    #[arg(long, value_name = "FILE", value_parser = PathBufValueParser::new().try_map(options::svg_file))]
    plot: Option<PathBuf>,
    /// Write all numbers to this file, as JSON
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    pub report: ReportArgs,
}

/// Numbers of scans.
#[derive(Clone, Debug, PartialEq)]
struct Scans(Vec<u32>);

fn scans(text: &str) -> Result<Scans, String> {
    let named = match text {
        "evaluation" => TEST_SCANS.to_vec(),
        "validation" => VALIDATION_SCANS.to_vec(),
        "training" => TRAIN_SCANS.to_vec(),
        numbers => {
            let parsed = numbers.split(',').map(|n| n.trim().parse());
            let mut numbers: Vec<u32> = parsed.collect::<Result<_, _>>().map_err(|_| {
                "expected evaluation, validation, training or numbers of scans such as 1,4,9".to_owned()
            })?;
            numbers.sort_unstable();
            if let Some(twice) = numbers.windows(2).find(|pair| pair[0] == pair[1]) {
                return Err(format!("scan {} is there twice; expected each scan once", twice[0]));
            }
            numbers
        }
    };
    Ok(Scans(named))
}

/// What helps where clouds do not fit.
const FEWER_POINTS: &str = "clouds of fewer points (`engine fuse --thin`) or a machine with more memory would help";

/// A cloud's finite points.
fn read_cloud(path: &Path, progress: &Progress) -> Result<Vec<[f64; 3]>> {
    let cloud = ply_points::read(path)?;
    cloud.notes(path).iter().for_each(|note| progress.note(note));
    Ok(cloud.points)
}

/// Measures clouds of DTU scans.
pub fn dtu(args: &DtuArgs, progress: &Progress) -> Result<()> {
    interrupt::install()?;
    args.limits.apply()?;
    let scans: Vec<u32> = match (args.scan, &args.scans) {
        (Some(scan), _) => vec![scan],
        (None, Some(scans)) => scans.0.clone(),
        (None, None) => Vec::new(),
    };
    // Every file is looked for before the first one is read.
    let mut work = Vec::new();
    for &scan in &scans {
        let cloud = if args.scan.is_some() { args.input.clone() } else { find_prediction(&args.input, scan)? };
        work.push((scan, cloud, ReferenceFiles::find(&args.data, scan)?));
    }
    let settings = DtuSettings { thinning: !args.no_thinning, seed: args.seed };
    for (_, cloud, files) in &work {
        let points = [ply_points::vertices(cloud)?, ply_points::vertices(&files.points)?];
        args.limits.expect_room(&cloud::need(points, settings.thinning), FEWER_POINTS)?;
    }
    let mut stage = progress.stage("evaluate", work.len(), work.len() as u64);
    let mut all = Vec::new();
    let mut details = Vec::new();
    for (scan, cloud, files) in &work {
        interrupt::check()?;
        let began = Instant::now();
        let reference = files.read()?;
        let found = evaluate(read_cloud(cloud, progress)?, reference, settings);
        // A scan that was stopped in the middle has no numbers.
        interrupt::check()?;
        if let Some(folder) = &args.error_clouds {
            write_error_clouds(folder, *scan, &found)?;
        }
        let numbers = found.numbers;
        let seconds = began.elapsed().as_secs_f64();
        let fields = json!({ "scan": scan, "cloud": in_json(cloud), "numbers": numbers, "seconds": seconds });
        let text = format!("scan {scan}, overall {}, {}", shown(numbers.overall), duration(seconds));
        stage.step(&text, 1, fields.clone());
        details.push(fields);
        all.push((*scan, numbers));
    }
    drop(stage);
    let mut notes = Vec::new();
    for (scan, numbers) in &all {
        notes.extend(numbers.why_empty().into_iter().map(|why| format!("scan {scan}: {why}")));
    }
    if !notes.is_empty() && args.scan.is_none() {
        notes.push("a scan without a number leaves the mean over scans without one".into());
    }
    notes.iter().for_each(|note| progress.note(note));
    let numbers: Vec<ScanNumbers> = all.iter().map(|(_, numbers)| *numbers).collect();
    let mean = MeanNumbers::of(&numbers);
    let fields = json!({ "scans": details, "mean": mean, "settings": settings, "notes": notes });
    progress.summary(&dtu_table(&all, args.scan.is_none().then_some(mean)), fields.clone());
    write_numbers(args.out.as_deref(), &fields)
}

fn write_numbers(file: Option<&Path>, fields: &Value) -> Result<()> {
    file.map_or(Ok(()), |file| write_json(file, "write the numbers", fields))
}

fn write_error_clouds(folder: &Path, scan: u32, found: &Scan) -> Result<()> {
    let clouds = [
        ("Data2Stl", &found.data, "distances from the prediction to the reference"),
        ("Stl2Data", &found.reference, "distances from the reference to the prediction"),
    ];
    for (name, cloud, what) in clouds {
        let file = folder.join(format!("scan{scan}_{name}.ply"));
        make_folder_of(&file)?;
        let _guard = interrupt::writing();
        write_error_cloud(&file, cloud, what)?;
    }
    Ok(())
}

fn dtu_table(scans: &[(u32, ScanNumbers)], mean: Option<MeanNumbers>) -> String {
    let head = ["scan", "accuracy", "median", "completeness", "median", "overall", "points", "of reference"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(scans.iter().map(|(scan, n)| {
        let mut row = vec![scan.to_string()];
        row.extend([n.accuracy.mean, n.accuracy.median].map(shown));
        row.extend([n.completeness.mean, n.completeness.median, n.overall].map(shown));
        row.extend([n.accuracy.count, n.completeness.count].map(|count| count.to_string()));
        row
    }));
    rows.extend(mean.map(|m| {
        let numbers = [m.accuracy, m.accuracy_median, m.completeness, m.completeness_median, m.overall];
        std::iter::once("mean".to_owned()).chain(numbers.map(shown)).collect()
    }));
    table(&rows)
}

/// Measures one cloud against another.
pub fn cloud(args: &CloudArgs, progress: &Progress) -> Result<()> {
    interrupt::install()?;
    args.limits.apply()?;
    let settings =
        CloudSettings { thresholds: args.thresholds.clone(), max_distance: args.max_distance, voxel: args.voxel };
    let points = [ply_points::vertices(&args.cloud)?, ply_points::vertices(&args.reference)?];
    args.limits.expect_room(&cloud::need(points, args.voxel.is_some()), FEWER_POINTS)?;
    let measured = read_cloud(&args.cloud, progress)?;
    let reference = read_cloud(&args.reference, progress)?;
    interrupt::check()?;
    let found = compare(measured, reference, &settings)?;
    if args.thresholds.is_empty() {
        let shares = THRESHOLD_SHARES.map(|share| share.to_string()).join(", ");
        progress.note(&format!(
            "thresholds: {shares} of the diagonal of the reference's box, which is {:.6}",
            found.diagonal
        ));
    }
    if found.accuracy.count == 0 || found.completeness.count == 0 {
        progress.note("no distance is below --max-distance in one direction: no mean and median there");
    }
    let fields = json!({
        "cloud": in_json(&args.cloud),
        "reference": in_json(&args.reference),
        "numbers": found,
        "settings": { "max_distance": args.max_distance, "voxel": args.voxel },
    });
    progress.summary(&cloud_table(&found), fields.clone());
    if let Some(file) = &args.plot {
        make_folder_of(file)?;
        let _guard = interrupt::writing();
        write_whole(file, "write the plot", |out| cloud_chart::write(&found, out))?;
    }
    write_numbers(args.out.as_deref(), &fields)
}

fn cloud_table(found: &Comparison) -> String {
    let precise = |value: f64| if value.is_nan() { "-".into() } else { format!("{value:.6}") };
    let row = |name: &str, numbers: Statistics, of: usize| {
        vec![name.into(), precise(numbers.mean), precise(numbers.median), format!("{} of {of}", numbers.count)]
    };
    let distances = table(&[
        ["", "mean", "median", "points"].map(str::to_owned).to_vec(),
        row("accuracy", found.accuracy, found.points),
        row("completeness", found.completeness, found.reference_points),
    ]);
    let mut rows = vec![["threshold", "precision", "recall", "F-score"].map(str::to_owned).to_vec()];
    rows.extend(found.scores.iter().map(|score| {
        let shares = [score.precision, score.recall, score.f_score].map(shown);
        std::iter::once(precise(score.threshold)).chain(shares).collect()
    }));
    format!("{distances}\n\n{}", table(&rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scans_are_named_or_listed() {
        assert_eq!(scans("4, 1"), Ok(Scans(vec![1, 4])));
        assert_eq!(scans("evaluation").map(|s| s.0.len()), Ok(22));
        assert_eq!(scans("validation").map(|s| s.0.len()), Ok(18));
        assert_eq!(scans("training").map(|s| s.0.len()), Ok(79));
        assert_eq!(scans("1,4,1").unwrap_err(), "scan 1 is there twice; expected each scan once");
        for bad in ["", "all", "1,", "-1", "1.5"] {
            assert!(scans(bad).is_err(), "{bad}");
        }
    }
}
