//! Charts of a comparison of two clouds: how distances are distributed, and precision and recall at every threshold.
//!
//! Points that are further away than the charts reach are counted, but not shown.

use std::io::{self, Write};

use super::chart::{Axis, Panel, Series, Shape, write_svg};
use super::colours::{BLUE, GREY, VERMILION};
use crate::evaluation::cloud::Comparison;

/// Width and height of a panel.
const PANEL: (i32, i32) = (500, 400);
/// Steps of a curve.
const STEPS: usize = 400;
/// Steps of a curve in a histogram's bar.
const BAR: usize = 8;
/// The charts reach this many times as far as the largest threshold.
const REACH: f64 = 2.0;

/// Writes the charts as SVG: the histogram of each cloud's distances to the other, and their cumulative curves with
/// the thresholds.
///
/// # Errors
/// The system's reason where it cannot be written.
pub fn write(found: &Comparison, out: impl Write) -> io::Result<()> {
    let furthest = found.scores.iter().fold(0.0, |far: f64, score| far.max(score.threshold));
    // A reference of one point has no extent, and no thresholds from it.
    let reach = if furthest > 0.0 { REACH * furthest } else { 1.0 };
    let shares = [&found.to_reference, &found.from_reference].map(|distances| shares(distances, reach));
    let at = |step: usize| reach * step as f64 / STEPS as f64;

    let bars = shares.each_ref().map(|shares| -> Vec<(f64, f64)> {
        shares.chunks(BAR).enumerate().map(|(i, bar)| (at(i * BAR), bar.iter().sum())).collect()
    });
    let tallest = bars.iter().flatten().fold(0.0, |top: f64, bar| top.max(bar.1));
    let [accuracy, completeness] = bars;
    let histogram = Panel {
        title: "Distances".into(),
        axes: [
            Axis::across("distance, in the clouds' units", (0.0, reach), PANEL.0),
            Axis::up_to("points, %", tallest),
        ],
        series: vec![
            Series::new("cloud to reference (accuracy)", BLUE, Shape::Steps(accuracy)),
            Series::new("reference to cloud (completeness)", VERMILION, Shape::Steps(completeness)),
        ],
        labels: Vec::new(),
    };

    let [precision, recall] = shares.map(|shares| -> Vec<(f64, f64)> {
        let sums = shares.iter().scan(0.0, |sum, share| {
            *sum += share;
            Some(*sum)
        });
        std::iter::once((0.0, 0.0)).chain(sums.enumerate().map(|(i, sum)| (at(i + 1), sum))).collect()
    });
    let threshold = |(i, threshold): (usize, f64)| {
        let name = if i == 0 { "thresholds" } else { "" };
        Series::new(name, GREY, Shape::Dashes(vec![(threshold, 0.0), (threshold, 100.0)]))
    };
    let mut series: Vec<Series> = found.scores.iter().map(|score| score.threshold).enumerate().map(threshold).collect();
    series.push(Series::new("of the cloud (precision)", BLUE, Shape::Line(precision)));
    series.push(Series::new("of the reference (recall)", VERMILION, Shape::Line(recall)));
    let cumulative = Panel {
        title: "Points nearer than a threshold".into(),
        axes: [
            Axis::across("threshold, in the clouds' units", (0.0, reach), PANEL.0),
            Axis::up("points, %", (0.0, 100.0)),
        ],
        series,
        labels: Vec::new(),
    };
    write_svg(&[histogram, cumulative], PANEL, out)
}

/// The share of distances in each of [`STEPS`] steps from 0 to `reach`, in per cent.
fn shares(distances: &[f64], reach: f64) -> Vec<f64> {
    let mut shares = vec![0.0; STEPS];
    for distance in distances {
        // Infinite distances become the largest index.
        if let Some(share) = shares.get_mut((distance / reach * STEPS as f64) as usize) {
            *share += 100.0 / distances.len() as f64;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_where_they_belong() {
        let shares = shares(&[0.0, 0.5, 0.5, 2.0, f64::INFINITY], 1.0);
        assert_eq!((shares[0], shares[STEPS / 2]), (20.0, 40.0));
        assert!((shares.iter().sum::<f64>() - 60.0).abs() < 1e-12);
    }
}
