//! Charts of measured depth maps: how errors are distributed, and whether the confidence knows of them.
//!
//! The errors' maps are drawn by [`super::error_maps`].

use std::io::{self, Write};

use super::chart::{Axis, Panel, Series, Shape, write_svg};
use super::colours::{BLUE, GREEN, GREY, VERMILION};
use crate::evaluation::depth::{ConfidenceSummary, DepthSummary, HISTOGRAM_FROM, HISTOGRAM_TO};

/// Width and height of a panel.
const PANEL: (i32, i32) = (400, 400);

/// Writes the charts as SVG: the histogram and, where there is confidence, risk over coverage and reliability.
///
/// # Errors
/// The system's reason where it cannot be written.
pub fn write(found: &DepthSummary, out: impl Write) -> io::Result<()> {
    let mut panels = vec![histogram(found)];
    if let Some(confidence) = &found.confidence {
        panels.push(risk_coverage(confidence, found.mean_error_rel));
        panels.push(reliability(confidence));
    }
    write_svg(&panels, PANEL, out)
}

/// How many pixels have which relative error; decades of the error have one width.
fn histogram(found: &DepthSummary) -> Panel {
    let pixels: u64 = found.histogram.iter().map(|bar| bar.pixels).sum();
    let share = |pixels_of_bar: u64| 100.0 * pixels_of_bar as f64 / pixels.max(1) as f64;
    let bars: Vec<(f64, f64)> = found.histogram.iter().map(|b| (b.from_rel.log10(), share(b.pixels))).collect();
    let tallest = bars.iter().fold(0.0, |top: f64, bar| top.max(bar.1));
    // Powers of ten of the depth, in per cent of it.
    let ticks = (HISTOGRAM_FROM..=HISTOGRAM_TO).map(|e| (f64::from(e), 10f64.powi(e + 2).to_string())).collect();
    let ends = (f64::from(HISTOGRAM_FROM), f64::from(HISTOGRAM_TO));
    let errors = Axis { name: "error, % of the true depth".into(), ends, ticks };
    Panel {
        title: "Distribution of errors".into(),
        axes: [errors, Axis::up_to("pixels, %", tallest)],
        series: vec![Series::new("", BLUE, Shape::Steps(bars))],
        labels: Vec::new(),
    }
}

/// The mean error of the most confident pixels over their share, beside the oracle's and that of pixels in any order.
fn risk_coverage(confidence: &ConfidenceSummary, mean: Option<f64>) -> Panel {
    let points = |risk: &dyn Fn(usize) -> Option<f64>| -> Vec<(f64, f64)> {
        let points = confidence.risk_coverage.iter().enumerate();
        points.filter_map(|(i, at)| Some((at.coverage_percent.into(), 100.0 * risk(i)?))).collect()
    };
    let measured = points(&|i| confidence.risk_coverage[i].mean_error_rel);
    let oracle = points(&|i| confidence.risk_coverage[i].oracle_mean_error_rel);
    let mean = 100.0 * mean.unwrap_or(0.0);
    let largest = measured.iter().fold(mean, |top, point| top.max(point.1));
    Panel {
        title: "Errors of the most confident pixels".into(),
        axes: [
            Axis::across("most confident pixels, %", (0.0, 100.0), PANEL.0),
            Axis::up_to("mean error, % of the true depth", largest),
        ],
        series: vec![
            Series::new("random", GREY, Shape::Dashes(vec![(0.0, mean), (100.0, mean)])),
            Series::new("oracle", GREEN, Shape::Line(oracle)),
            Series::new("by confidence", BLUE, Shape::Line(measured)),
        ],
        labels: Vec::new(),
    }
}

/// The share of right pixels over the confidence, against the diagonal where probabilities would be.
fn reliability(confidence: &ConfidenceSummary) -> Panel {
    let bins = confidence.calibration.iter();
    let points: Vec<(f64, f64)> =
        bins.filter_map(|bin| Some((bin.mean_confidence?, 100.0 * bin.right_share?))).collect();
    Panel {
        title: "Reliability of the confidence".into(),
        axes: [Axis::across("confidence", (0.0, 1.0), PANEL.0), Axis::up("right pixels, %", (0.0, 100.0))],
        series: vec![
            Series::new("", VERMILION, Shape::Line(points.clone())),
            Series::new(format!("right: {}", confidence.right), VERMILION, Shape::Dots(points, 4)),
            Series::new("ideal", GREY, Shape::Dashes(vec![(0.0, 0.0), (1.0, 100.0)])),
        ],
        labels: Vec::new(),
    }
}
