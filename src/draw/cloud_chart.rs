//! A picture of a comparison of two clouds: how distances are distributed, and precision and recall at every threshold.

use crate::draw::canvas::{Canvas, Row};
use crate::evaluation::cloud::Comparison;

/// Width and height of each of the two panels.
const PANEL: (usize, usize) = (640, 360);
/// Pixels of a histogram's bar.
const BAR: usize = 8;
/// The picture reaches this many times as far as the largest threshold.
const REACH: f64 = 2.0;

/// Blue and orange of Okabe and Ito, which can be told apart without colour vision.
const MEASURED: [u8; 3] = [0, 114, 178];
const REFERENCE: [u8; 3] = [213, 94, 0];
const BOTH: [u8; 3] = [110, 84, 92];
const GROUND: [u8; 3] = [246, 246, 248];
const GRID: [u8; 3] = [214, 216, 222];

/// Left, how many of each cloud's points lie how far from the other cloud, the fullest bar as high as the panel;
/// right, the share of points nearer than a threshold, with grid lines at every quarter and at the thresholds. Points
/// beyond the right end are not shown.
pub fn plot(found: &Comparison) -> Canvas {
    let (width, height) = PANEL;
    let furthest = found.scores.iter().fold(0.0, |far: f64, score| far.max(score.threshold));
    // A reference of one point has no extent, and no thresholds from it.
    let reach = if furthest > 0.0 { REACH * furthest } else { 1.0 };
    let clouds = [&found.to_reference, &found.from_reference].map(|distances| columns(distances, reach));
    let mut row = Row::new(PANEL);
    row.remarks = true;
    let mut canvas = row.canvas(2);

    let bars = clouds.each_ref().map(|columns| {
        let bars: Vec<f64> = columns.chunks(BAR).map(|bar| bar.iter().sum()).collect();
        bars
    });
    let tallest = bars.iter().flatten().fold(0.0, |top: f64, &bar| top.max(bar));
    row.panel(&mut canvas, 0, "points by distance", |x, y| {
        let above = (height - y) as f64 / height as f64;
        let reaches = bars.each_ref().map(|bars| tallest > 0.0 && bars[x / BAR] / tallest >= above);
        match reaches {
            [true, true] => BOTH,
            [true, false] => MEASURED,
            [false, true] => REFERENCE,
            [false, false] => GROUND,
        }
    });

    // Row of the picture where each curve is at each column.
    let curves = clouds.map(|columns| {
        let sums = columns.iter().scan(0.0, |sum, share| {
            *sum += share;
            Some(*sum)
        });
        let heights: Vec<usize> =
            sums.map(|sum| ((1.0 - sum) * (height - 2) as f64).round().max(0.0) as usize).collect();
        heights
    });
    let on_curve = |curve: &[usize], x: usize, y: usize| {
        let (here, before) = (curve[x], curve[x.saturating_sub(1)]);
        (here.min(before)..=here.max(before) + 1).contains(&y)
    };
    let column = |threshold: f64| (threshold / reach * width as f64) as usize;
    let thresholds: Vec<usize> = found.scores.iter().map(|score| column(score.threshold)).collect();
    row.panel(&mut canvas, 1, "share nearer than a threshold", |x, y| match () {
        () if on_curve(&curves[0], x, y) => MEASURED,
        () if on_curve(&curves[1], x, y) => REFERENCE,
        () if y % (height / 4) == 0 || thresholds.contains(&x) => GRID,
        () => GROUND,
    });

    for (panel, names) in [["accuracy", "completeness"], ["precision", "recall"]].into_iter().enumerate() {
        row.scale(&mut canvas, panel, (0.0, reach), |_| GRID);
        let top = row.remark_top();
        canvas.text(row.left(panel), top, names[0], MEASURED);
        canvas.text(row.left(panel) + row.column / 2, top, names[1], REFERENCE);
    }
    canvas
}

/// The share of distances in each column of a panel from 0 to `reach`.
fn columns(distances: &[f64], reach: f64) -> Vec<f64> {
    let mut shares = vec![0.0; PANEL.0];
    for distance in distances {
        // Infinite distances become the largest index.
        if let Some(share) = shares.get_mut((distance / reach * PANEL.0 as f64) as usize) {
            *share += 1.0 / distances.len() as f64;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::cloud::{CloudSettings, compare};

    #[test]
    fn distances_are_where_they_belong() {
        let shares = columns(&[0.0, 0.5, 0.5, 2.0, f64::INFINITY], 1.0);
        assert_eq!((shares[0], shares[PANEL.0 / 2]), (0.2, 0.4));
        assert!((shares.iter().sum::<f64>() - 0.6).abs() < 1e-15);
    }

    #[test]
    fn both_clouds_are_drawn() {
        // One of four points is 0.3 off, the others meet; one point of the reference is beyond the picture.
        let reference = [[0.0f32, 0.0, 0.0], [1.0, 0.0, 0.0], [2.0, 0.0, 0.0], [9.0, 0.0, 0.0]];
        let cloud = vec![[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [2.0, 0.0, 0.0], [2.0, 0.3, 0.0]];
        let settings = CloudSettings { thresholds: vec![0.4], ..Default::default() };
        let canvas = plot(&compare(cloud, reference.to_vec(), &settings).unwrap());
        let mut png = Vec::new();
        canvas.write_png(&mut png).unwrap();
        let picture = image::load_from_memory(&png).unwrap().into_rgb8();
        let count = |colour: [u8; 3]| picture.pixels().filter(|p| p.0 == colour).count();
        // The bar at 0 belongs to both; that at 0.3 is the measured cloud's alone, a third as high: 8 x 120 pixels.
        assert_eq!(count(BOTH), BAR * PANEL.1);
        assert!(count(MEASURED) >= BAR * PANEL.1 / 3 + PANEL.0, "{}", count(MEASURED));
        assert!(count(REFERENCE) >= PANEL.0, "{}", count(REFERENCE));
    }
}
