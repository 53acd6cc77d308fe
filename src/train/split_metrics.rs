//! The same measures apart for easy and hard pixels: by texture, slant and visibility, where synthetic scenes tell
//! them.

use serde::Serialize;

use crate::error::Result;
use crate::evaluation::depth_metrics::{CONFIDENT, DepthMetrics, MetricsSummary, Pixel, check};
use crate::files::map::Map;
use crate::synth::maps::Extras;

/// Limits of the texture's groups: standard deviation of the grey values 0..1 in the 9 x 9 pixels around. The noise of
/// synthetic photos reaches 0.02 (5 of 255 levels), so that under it there may be nothing else to match; the medians
/// of the first four default scenes of seed 3 are 0.02 to 0.05, so that 0.04 parts what is left.
pub const TEXTURE_LIMITS: [f64; 2] = [0.02, 0.04];
/// Limits of the slant's groups, in degrees.
pub const SLANT_LIMITS: [f64; 2] = [30.0, 60.0];
/// Limits of the visibility's groups: other views that see the point.
pub const VISIBLE_LIMITS: [f64; 3] = [1.0, 2.0, 3.0];

/// The groups, in the order of the limits.
const TEXTURE_NAMES: [&str; 3] = ["under 0.02", "0.02 to 0.04", "0.04 and more"];
const SLANT_NAMES: [&str; 3] = ["0 to 30 degrees", "30 to 60 degrees", "60 to 90 degrees"];
const VISIBLE_NAMES: [&str; 4] = ["no other view", "1 other view", "2 other views", "3 or more"];

/// [`DepthMetrics`] of all pixels and of each group; a pixel belongs to one group of texture, one of slant and one of
/// visibility.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SplitMetrics {
    all: DepthMetrics,
    texture: [DepthMetrics; 3],
    slant: [DepthMetrics; 3],
    visible: [DepthMetrics; 4],
}

/// The index of the group that a value belongs to: the number of limits it reaches. What is not a number reaches none.
fn group(value: f32, limits: &[f64]) -> usize {
    limits.iter().filter(|&&limit| f64::from(value) >= limit).count()
}

impl SplitMetrics {
    /// Adds the pixels of a view, see [`DepthMetrics::add`]; `extras` at the same pixels as the maps.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where the maps differ in size or the interval is not a finite number > 0;
    /// nothing is added then.
    pub fn add(&mut self, depth: &Map, confidence: &Map, truth: &Map, extras: &Extras, interval: f64) -> Result<()> {
        let Extras { texture, slant, visible } = extras;
        let maps = [("depth", depth), ("confidence", confidence), ("truth", truth)];
        let more = [("texture", texture), ("slant", slant), ("visibility", visible)];
        check(&[maps, more].concat(), interval)?;
        for (i, &truth) in truth.data.iter().enumerate() {
            let Some(pixel) = Pixel::new(depth.data[i], confidence.data[i], truth, interval) else {
                continue;
            };
            self.all.count(&pixel);
            self.texture[group(texture.data[i], &TEXTURE_LIMITS)].count(&pixel);
            self.slant[group(slant.data[i], &SLANT_LIMITS)].count(&pixel);
            self.visible[group(visible.data[i], &VISIBLE_LIMITS)].count(&pixel);
        }
        Ok(())
    }

    /// Adds what another has collected.
    pub fn merge(&mut self, other: &Self) {
        let merge = |to: &mut [DepthMetrics], from: &[DepthMetrics]| {
            to.iter_mut().zip(from).for_each(|(to, from)| to.merge(from));
        };
        self.all.merge(&other.all);
        merge(&mut self.texture, &other.texture);
        merge(&mut self.slant, &other.slant);
        merge(&mut self.visible, &other.visible);
    }

    /// What the pixels of all groups together say.
    pub fn overall(&self) -> MetricsSummary {
        self.all.summary()
    }

    /// What the pixels say: all of them first, then group by group.
    pub fn summary(&self) -> SplitSummary {
        let groups = |split: &'static str, names: &'static [&str], metrics: &[DepthMetrics]| {
            let group = |(&group, metrics): (&&'static str, &DepthMetrics)| SplitRow {
                split,
                group,
                metrics: metrics.summary(),
            };
            names.iter().zip(metrics).map(group).collect::<Vec<_>>()
        };
        let mut rows = groups("all", &["pixels with a truth"], std::slice::from_ref(&self.all));
        rows.extend(groups("texture", &TEXTURE_NAMES, &self.texture));
        rows.extend(groups("slant", &SLANT_NAMES, &self.slant));
        rows.extend(groups("seen by", &VISIBLE_NAMES, &self.visible));
        SplitSummary { rows }
    }
}

/// What [`SplitMetrics`] has found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SplitSummary {
    /// All pixels first, then group by group.
    pub rows: Vec<SplitRow>,
}

/// One group of pixels.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SplitRow {
    /// `all`, `texture`, `slant` or `seen by`.
    pub split: &'static str,
    /// Which of the split's groups.
    pub group: &'static str,
    /// Its measures.
    pub metrics: MetricsSummary,
}

/// A column's heading and what it shows of a group.
type Column = (&'static str, fn(&MetricsSummary) -> Option<f64>, Format);

#[derive(Clone, Copy)]
enum Format {
    /// Three significant digits, in the unit of the heading.
    Plain,
    /// A share as per cent.
    Percent,
    /// A small share as per cent.
    FinePercent,
}

/// `units` are scene units.
const COLUMNS: [Column; 11] = [
    ("mean, units", |m| m.mean_error_units, Format::Plain),
    ("mean, intervals", |m| m.mean_error_intervals, Format::Plain),
    ("< 1 unit, %", |m| m.within_1_unit, Format::Percent),
    ("< 2, %", |m| m.within_2_units, Format::Percent),
    ("< 4, %", |m| m.within_4_units, Format::Percent),
    ("< 8, %", |m| m.within_8_units, Format::Percent),
    ("< 1 interval, %", |m| m.within_1_interval, Format::Percent),
    ("< 3, %", |m| m.within_3_intervals, Format::Percent),
    ("median, %", |m| m.median_error_rel, Format::FinePercent),
    ("confident, %", |m| m.confident_share, Format::Percent),
    ("their mean, intervals", |m| m.confident_mean_error_intervals, Format::Plain),
];

impl SplitSummary {
    /// An aligned table to be read on a terminal.
    pub fn text(&self) -> String {
        let cells = self.cells();
        let widths = widths(&cells);
        let line = |row: &Vec<String>| padded(row, &widths).join("  ").trim_end().to_owned() + "\n";
        cells.iter().map(line).collect()
    }

    /// The same as a Markdown table, aligned in its source as well.
    pub fn markdown(&self) -> String {
        let cells = self.cells();
        let widths = widths(&cells);
        let line = |row: &Vec<String>| format!("| {} |\n", padded(row, &widths).join(" | "));
        let rule = widths.iter().enumerate().map(|(column, &width)| match column {
            0 => format!(" {} |", "-".repeat(width)),
            _ => format!(" {}: |", "-".repeat(width - 1)),
        });
        let rule = format!("|{}\n", rule.collect::<String>());
        let mut lines: Vec<String> = cells.iter().map(line).collect();
        lines.insert(1, rule);
        lines.concat()
    }

    /// The heading and a row for each group.
    fn cells(&self) -> Vec<Vec<String>> {
        let headings = ["pixels", "of all, %"].into_iter().chain(COLUMNS.iter().map(|c| c.0));
        let mut cells = vec![std::iter::once("group").chain(headings).map(str::to_owned).collect::<Vec<_>>()];
        let all = self.rows.first().map_or(0, |row| row.metrics.pixels);
        for SplitRow { split, group, metrics } in &self.rows {
            let share = (all > 0).then(|| metrics.pixels as f64 / all as f64);
            let mut row = vec![format!("{split}: {group}"), metrics.pixels.to_string(), cell(share, Format::Percent)];
            row.extend(COLUMNS.iter().map(|(_, value, format)| cell(value(metrics), *format)));
            cells.push(row);
        }
        cells
    }
}

/// A row's cells, each as wide as its column; the first column is text, the others are numbers.
fn padded(row: &[String], widths: &[usize]) -> Vec<String> {
    let of_column = |(column, (cell, &width)): (usize, (&String, &usize))| match column {
        0 => format!("{cell:<width$}"),
        _ => format!("{cell:>width$}"),
    };
    row.iter().zip(widths).enumerate().map(of_column).collect()
}

fn cell(value: Option<f64>, format: Format) -> String {
    match (value, format) {
        (None, _) => "-".to_owned(),
        (Some(value), Format::Percent) => format!("{:.1}", 100.0 * value),
        (Some(value), Format::FinePercent) => significant(100.0 * value),
        (Some(value), Format::Plain) => significant(value),
    }
}

/// About three significant digits: `0.0123`, `1.23`, `12.3`, `1234`.
pub(super) fn significant(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        v if !(1e-4..1e6).contains(&v) => format!("{value:.2e}"),
        v => {
            let decimals = (2 - v.log10().floor() as i32).max(0) as usize;
            format!("{value:.decimals$}")
        }
    }
}

/// The width of each column in letters.
fn widths(cells: &[Vec<String>]) -> Vec<usize> {
    let columns = cells.first().map_or(0, Vec::len);
    (0..columns).map(|c| cells.iter().map(|row| row[c].len()).max().unwrap_or(0)).collect()
}

impl MetricsSummary {
    /// One line for people.
    pub fn line(&self) -> String {
        let percent = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{:.1} %", 100.0 * v));
        let plain = |value: Option<f64>| value.map_or("-".to_owned(), significant);
        if self.pixels == 0 {
            return "no pixel with a truth".to_owned();
        }
        let mut line = format!(
            "mean error {} intervals ({} units), {} within 1 interval, {} within 3, median {} of the depth, \
             {} confident (over {CONFIDENT}) with a mean of {} intervals",
            plain(self.mean_error_intervals),
            plain(self.mean_error_units),
            percent(self.within_1_interval),
            percent(self.within_3_intervals),
            self.median_error_rel.map_or("-".to_owned(), |m| format!("{} %", significant(100.0 * m))),
            percent(self.confident_share),
            plain(self.confident_mean_error_intervals),
        );
        if self.pixels_without_depth > 0 {
            line.push_str(&format!(", {} of {} pixels without a depth", self.pixels_without_depth, self.pixels));
        }
        line
    }
}
