//! A grid of fusion settings scored against a reference cloud: `engine fuse --sweep`. The maps are read once; settings
//! are tried one after the other, each with all threads, and of their clouds one at most is kept.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;
use serde_json::json;

use crate::draw;
use crate::error::{Error, Result, counted};
use crate::evaluation::cloud::{COMPARED_POINT, CloudSettings, Comparison, Reference, Score, diagonal};
use crate::evaluation::pareto::pareto;
use crate::evaluation::{Statistics, shown, table};
use crate::files::atomic::write_whole;
use crate::files::names::in_json;
use crate::files::ply::{self, Point};
use crate::files::ply_storage::OffsetOption;
use crate::files::{folder, ply_points};
use crate::fusion::fuse::fuse as fuse_views;
use crate::fusion::grid::Setting;
use crate::fusion::origin::Origin;
use crate::fusion::settings::Settings;
use crate::host::interrupt;
use crate::host::memory::{self, Part};
use crate::host::progress::{Progress, duration, one_line};
use crate::manifest::{MachineSummary, SceneSummary};
use crate::run::fuse::{self, Job};
use crate::run::options::{MapsOptions, parameters};

/// The file of the scores, which vouches for the others.
const SCORES: &str = "sweep.json";

/// Share of the reference's diagonal below which a distance counts as near, unless told otherwise.
pub const THRESHOLD_SHARE: f64 = 0.002;

/// The cloud that is kept: `best.ply`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Best {
    /// The greatest F-score.
    FScore,
    /// The least mean accuracy.
    Accuracy,
    /// The least mean completeness.
    Completeness,
    /// The least mean of accuracy and completeness (DTU's "overall").
    Overall,
}

/// Everything that [`fuse_grid`] can be told.
#[derive(Clone, Debug)]
pub struct GridOptions {
    /// Which maps, and where to.
    pub maps: MapsOptions,
    /// Names of the axes, the heads of the table's columns.
    pub axes: Vec<String>,
    /// What is tried, in order.
    pub settings: Vec<Setting>,
    /// The cloud to score against.
    pub reference: PathBuf,
    /// Distances from here on are left out of means and medians.
    pub max_distance: Option<f64>,
    /// Distances below count as near; `None`: [`THRESHOLD_SHARE`] of the reference's diagonal.
    pub threshold: Option<f64>,
    /// Which cloud is written.
    pub keep_best: Option<Best>,
}

/// What one setting gave. Numbers of an empty cloud are not numbers: `null` in JSON.
#[derive(Clone, Debug, Serialize)]
struct Scored {
    /// Its place in the table, from 1.
    number: usize,
    preset: Option<&'static str>,
    /// Method and constants.
    settings: Settings,
    points: usize,
    /// Of the fusion alone.
    seconds: f64,
    accuracy: Statistics,
    completeness: Statistics,
    score: Score,
    pareto: bool,
}

impl Scored {
    /// The value that is to be small.
    fn cost(&self, best: Best) -> f64 {
        match best {
            Best::FScore => -self.score.f_score,
            Best::Accuracy => self.accuracy.mean,
            Best::Completeness => self.completeness.mean,
            Best::Overall => (self.accuracy.mean + self.completeness.mean) / 2.0,
        }
    }
}

/// Fuses the maps with every setting, scores each cloud, and writes `sweep.json`, `pareto.svg` and, where asked for,
/// `best.ply`.
///
/// # Errors
/// Maps or a reference that cannot be read, files that cannot be written, and [`Error::Nothing`] where every cloud is
/// empty.
pub fn fuse_grid(scene: &Path, options: &GridOptions, progress: &Progress) -> Result<()> {
    let began = Instant::now();
    let extra = [reference_memory(&options.reference)?];
    // A second cloud where one is kept.
    let bytes_a_point = COMPARED_POINT + if options.keep_best.is_some() { size_of::<Point>() as u64 } else { 0 };
    let job = Job { command: "sweep", scene, suffix: "_sweep", extra: &extra, bytes_a_point, stream: None };
    let all: Vec<_> = options.settings.iter().map(|s| s.settings).collect();
    let mut input = fuse::read(&job, &options.maps, &all, progress)?;
    let reference = read_reference(options, progress)?;
    input.claim(progress)?;
    let out = input.folder.path().to_owned();
    let origin = Origin::near(input.views.held());
    origin.enter(input.views.held());
    folder::remove(&out.join(SCORES), "remove the earlier scores")?;

    let mut stage = progress.stage("sweep", options.settings.len(), options.settings.len() as u64);
    let mut scored: Vec<Scored> = Vec::new();
    let mut kept: Option<(usize, Vec<Point>)> = None;
    for (at, setting) in options.settings.iter().enumerate() {
        interrupt::check()?;
        input.set_sources(setting.settings.check_sources);
        let start = Instant::now();
        let mut points = fuse_views(input.views.held(), &setting.settings.fusion)?.points;
        origin.leave(&mut points);
        if let Some(region) = input.scene.region {
            points.retain(|point| region.contains(point.position.into()));
        }
        let seconds = start.elapsed().as_secs_f64();
        interrupt::check()?;
        let of_setting = score(at + 1, setting, &points, seconds, &reference)?;
        let text = format!("{}, {}", counted(points.len(), "point"), duration(start.elapsed().as_secs_f64()));
        stage.step(&text, 1, json!({ "result": of_setting }));
        if let Some(best) = options.keep_best {
            let cost = of_setting.cost(best);
            let is_better = kept.as_ref().is_none_or(|(before, _)| cost < scored[*before].cost(best));
            if !points.is_empty() && !cost.is_nan() && is_better {
                kept = Some((at, points));
            }
        }
        scored.push(of_setting);
    }
    drop(stage);
    let clouds: Vec<(f64, f64)> = scored.iter().map(|s| (s.accuracy.mean, s.completeness.mean)).collect();
    scored.iter_mut().zip(pareto(&clouds)).for_each(|(scored, optimal)| scored.pareto = optimal);

    let mut outputs = vec!["pareto.svg", SCORES];
    write_chart(&out.join("pareto.svg"), &clouds)?;
    let best = out.join("best.ply");
    match &kept {
        Some((at, points)) => {
            let comments = [format!("made by engine {}, setting {} of sweep.json", env!("CARGO_PKG_VERSION"), at + 1)];
            let storage = ply::storage_of(points, OffsetOption::None);
            if let Some(note) = storage.note("best.ply") {
                progress.note(&note);
                input.notes.push(note);
            }
            let _guard = interrupt::writing();
            ply::write(&best, points, storage, &comments)?;
            outputs.push("best.ply");
        }
        // One of an earlier grid is not this one's.
        None => folder::remove(&best, "remove the earlier best cloud")?,
    }
    let fields = json!({
        "program": "engine",
        "version": env!("CARGO_PKG_VERSION"),
        "command": "sweep",
        "scene": SceneSummary::new(&input.scene),
        "notes": input.notes,
        "machine": MachineSummary { memory_peak: memory::peak(), ..MachineSummary::now(Some(input.need.clone())) },
        "parameters": parameters(&input.options),
        "reference": in_json(&options.reference),
        "max_distance": options.max_distance,
        "keep_best": options.keep_best,
        "best": kept.as_ref().map(|(at, _)| at + 1),
        "seconds": began.elapsed().as_secs_f64(),
        "results": scored,
        "outputs": outputs,
    });
    folder::write_json(&out.join(SCORES), "write the scores", &fields)?;
    let lines = [
        table_of(&options.axes, &options.settings, &scored),
        format!(
            "* Pareto-optimal in mean accuracy and completeness; F-score at {:.6}",
            scored.first().map_or(f64::NAN, |s| s.score.threshold)
        ),
        format!("written to {}: {}", one_line(&out.display().to_string()), outputs.join(" ")),
    ];
    progress.summary(&lines.join("\n"), fields);
    if scored.iter().all(|s| s.points == 0) {
        return Err(Error::Nothing(
            "every cloud is empty: loosen the settings; `engine fuse` with one of them says where its pixels are lost"
                .into(),
        ));
    }
    Ok(())
}

fn reference_memory(path: &Path) -> Result<Part> {
    Ok(Part::new("the reference and its distances", ply_points::vertices(path)? * COMPARED_POINT))
}

fn read_reference(options: &GridOptions, progress: &Progress) -> Result<Reference> {
    let path = &options.reference;
    let cloud = ply_points::read(path)?;
    cloud.notes(path).iter().for_each(|note| progress.note(note));
    let threshold = options.threshold.unwrap_or_else(|| match THRESHOLD_SHARE * diagonal(&cloud.points) {
        share if share > 0.0 => share,
        // A reference of a single point has no extent.
        _ => f64::MIN_POSITIVE,
    });
    let settings = CloudSettings { thresholds: vec![threshold], max_distance: options.max_distance, voxel: None };
    Reference::new(cloud.points, &settings)
}

fn score(number: usize, setting: &Setting, points: &[Point], seconds: f64, reference: &Reference) -> Result<Scored> {
    let none = Statistics::of(Vec::new());
    let (accuracy, completeness, score) = if points.is_empty() {
        let threshold = reference.thresholds()[0];
        (none, none, Score { threshold, precision: 0.0, recall: 0.0, f_score: 0.0 })
    } else {
        // As the file would have them.
        let storage = ply::storage_of(points, OffsetOption::None);
        let positions = points.iter().map(|p| storage.read_back(p.position)).collect();
        let Comparison { accuracy, completeness, scores, .. } = reference.compare(positions)?;
        (accuracy, completeness, scores[0])
    };
    Ok(Scored {
        number,
        preset: setting.preset,
        settings: setting.settings,
        points: points.len(),
        seconds,
        accuracy,
        completeness,
        score,
        pareto: false,
    })
}

fn write_chart(path: &Path, clouds: &[(f64, f64)]) -> Result<()> {
    let _guard = interrupt::writing();
    write_whole(path, "write the plot", |out| draw::pareto::write(clouds, out))
}

fn table_of(axes: &[String], settings: &[Setting], scored: &[Scored]) -> String {
    let precise = |value: f64| if value.is_nan() { "-".into() } else { format!("{value:.6}") };
    let mut head = vec!["#".to_owned()];
    head.extend(axes.iter().cloned());
    let numbers = ["points", "accuracy", "median", "completeness", "median", "F-score", "seconds", ""];
    head.extend(numbers.map(str::to_owned));
    let mut rows = vec![head];
    for (setting, scored) in settings.iter().zip(scored) {
        let mut row = vec![scored.number.to_string()];
        row.extend(setting.words.iter().cloned());
        row.push(scored.points.to_string());
        let Scored { accuracy, completeness, .. } = scored;
        row.extend([accuracy.mean, accuracy.median, completeness.mean, completeness.median].map(precise));
        row.push(shown(scored.score.f_score));
        row.push(format!("{:.2}", scored.seconds));
        row.push(if scored.pareto { "*" } else { "" }.into());
        rows.push(row);
    }
    table(&rows)
}
