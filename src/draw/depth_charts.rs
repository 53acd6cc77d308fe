//! Pictures of measured depth maps: how errors are distributed, whether the confidence knows of them, and maps of
//! errors.

use crate::draw::canvas::{Canvas, NO_DEPTH, NO_TRUTH, Row, confidence_colour, depth_colour, error_colour, panel_size};
use crate::evaluation::depth::{BINS_PER_DECADE, DepthSummary, HISTOGRAM_FROM, HISTOGRAM_TO};
use crate::evaluation::depth_files::Overlaid;
use crate::files::map::Map;

/// Width and height of each panel of the plot: a whole number of pixels for each bar, and ten for the bins of
/// confidence.
const PANEL: (usize, usize) = (600, 400);
/// Rows of a panel of [`error_maps`], or up to half as many more.
const LEAST_ROWS: usize = 300;
/// Errors of so many intervals and more have the last colour: two are still right as far as the confidence goes.
const CLIP_INTERVALS: f64 = 4.0;
/// Without intervals, errors of so many per cent of the depth and more have the last colour.
const CLIP_PERCENT: f64 = 2.0;

/// Blue, orange and green of Okabe and Ito, which can be told apart without colour vision.
const MEASURED: [u8; 3] = [0, 114, 178];
const ORACLE: [u8; 3] = [213, 94, 0];
const CHANCE: [u8; 3] = [0, 158, 115];
const GROUND: [u8; 3] = [246, 246, 248];
const GRID: [u8; 3] = [214, 216, 222];

/// Left, how many pixels have which relative error (logarithmic). In the middle, the mean error of the most confident
/// pixels over their share, beside the oracle's and that of pixels chosen by chance. Right, the share of right pixels
/// in each bin of confidence against the diagonal, where it would be if confidences were probabilities. The last two
/// only where there is confidence.
pub fn plot(found: &DepthSummary) -> Canvas {
    let (width, height) = PANEL;
    let mut row = Row::new(PANEL);
    row.remarks = true;
    let panels = if found.confidence.is_some() { 3 } else { 1 };
    let mut canvas = row.canvas(panels);

    let tallest = found.histogram.iter().map(|bar| bar.pixels).max().unwrap_or(0).max(1) as f64;
    let decade = width / (HISTOGRAM_TO - HISTOGRAM_FROM) as usize;
    row.panel(&mut canvas, 0, "pixels by error / depth", |x, y| {
        let bar = found.histogram[(x * BINS_PER_DECADE / decade).min(found.histogram.len() - 1)];
        let above = (height - y) as f64 / height as f64;
        match bar.pixels as f64 / tallest >= above {
            true => MEASURED,
            false if x % decade == 0 => GRID,
            false => GROUND,
        }
    });
    row.scale(&mut canvas, 0, (f64::from(HISTOGRAM_FROM), f64::from(HISTOGRAM_TO)), |_| GRID);
    row.remark(&mut canvas, 0, "10 to the power of");

    let Some(confidence) = &found.confidence else { return canvas };
    let mean = found.mean_error_rel.unwrap_or(0.0);
    // Heights over the coverage, between the points that are known; left of the first one as high as that.
    let points = |risk: &dyn Fn(usize) -> Option<f64>| -> Vec<f64> {
        (0..width)
            .map(|x| {
                let at = ((x as f64 + 0.5) / width as f64 * 10.0 - 1.0).clamp(0.0, 9.0);
                let (low, part) = (at as usize, at.fract());
                let [a, b] = [low, (low + 1).min(9)].map(|i| risk(i).unwrap_or(0.0));
                a + (b - a) * part
            })
            .collect()
    };
    let measured = points(&|i| confidence.risk_coverage[i].mean_error_rel);
    let oracle = points(&|i| confidence.risk_coverage[i].oracle_mean_error_rel);
    let top = measured.iter().chain([&mean]).fold(0.0, |top: f64, &v| top.max(v)).max(f64::MIN_POSITIVE);
    let at_row = |v: f64| ((1.0 - v / top) * (height - 3) as f64).round() as usize;
    let on = |curve: &[f64], x: usize, y: usize| {
        let (here, before) = (at_row(curve[x]), at_row(curve[x.saturating_sub(1)]));
        (here.min(before)..=here.max(before) + 2).contains(&y)
    };
    row.panel(&mut canvas, 1, "mean error of most confident", |x, y| match () {
        () if on(&measured, x, y) => MEASURED,
        () if on(&oracle, x, y) => ORACLE,
        () if (at_row(mean)..=at_row(mean) + 1).contains(&y) => CHANCE,
        () if x % (width / 10) == 0 || y % (height / 4) == 0 => GRID,
        () => GROUND,
    });
    row.scale(&mut canvas, 1, (0.0, 100.0), |_| GRID);
    let line = row.remark_top();
    let letters = row.column / 16;
    for (part, (name, colour)) in
        [("by confidence", MEASURED), ("oracle", ORACLE), ("by chance", CHANCE)].into_iter().enumerate()
    {
        let column = [0, letters * 45 / 100, letters * 70 / 100][part] * 16;
        canvas.text(row.left(1) + column, line, name, colour);
    }
    let panel_left = row.left(1) + (row.column - width) / 2;
    canvas.text(panel_left + 8, row.top + 8, &format!("top: {:.3} %", 100.0 * top), [125, 130, 138]);

    let bins = &confidence.calibration;
    let bin_width = width / bins.len();
    let on_diagonal = |x: usize, y: usize| (x * height / width).abs_diff(height - 1 - y) <= 1;
    row.panel(&mut canvas, 2, "right pixels by confidence", |x, y| {
        let bin = &bins[(x / bin_width).min(bins.len() - 1)];
        let above = (height - y) as f64 / height as f64;
        let gap = x % bin_width < 2;
        match bin.right_share {
            _ if on_diagonal(x, y) => ORACLE,
            Some(right) if right >= above && !gap => MEASURED,
            _ if y % (height / 4) == 0 => GRID,
            _ => GROUND,
        }
    });
    row.scale(&mut canvas, 2, (0.0, 1.0), |_| GRID);
    canvas.text(row.left(2), line, &confidence.right, [125, 130, 138]);
    canvas
}

/// Truth, depth, error and, where there is one, confidence side by side; truth and depth on the scale of the truth.
pub fn error_maps(maps: &Overlaid, interval: Option<f64>) -> Canvas {
    let Overlaid { depth, confidence, truth, .. } = maps;
    let row = Row { remarks: true, ..Row::new(panel_size(truth.width, truth.height, LEAST_ROWS)) };
    let (width, height) = row.panel;
    let mut canvas = row.canvas(if confidence.is_some() { 4 } else { 3 });
    let is_depth = |d: f64| d.is_finite() && d > 0.0;
    let known = truth.data.iter().map(|&d| f64::from(d)).filter(|&d| is_depth(d));
    let (near, far) = known.fold((f64::MAX, 0f64), |(near, far), d| (near.min(d), far.max(d)));
    // A truth without a pixel, or a wall that is looked at straight on.
    let (near, far) = if far > near { (near, far) } else { (0.0, far.max(1.0)) };
    // Nearest pixels, not interpolated ones: what is shown are the maps' own values.
    let at = |map: &Map, x: usize, y: usize| f64::from(map.at(x * map.width / width, y * map.height / height));
    for (place, name, map, missing) in [(0, "truth", truth, NO_TRUTH), (1, "depth", depth, NO_DEPTH)] {
        row.panel(&mut canvas, place, name, |x, y| match at(map, x, y) {
            d if is_depth(d) => depth_colour((d - near) / (far - near)),
            _ => missing,
        });
        row.scale(&mut canvas, place, (near, far), depth_colour);
        row.remark(&mut canvas, place, "scene units");
    }
    let clip = if interval.is_some() { CLIP_INTERVALS } else { CLIP_PERCENT };
    row.panel(&mut canvas, 2, "error", |x, y| match (at(truth, x, y), at(depth, x, y)) {
        (truth, _) if !is_depth(truth) => NO_TRUTH,
        (_, depth) if !is_depth(depth) => NO_DEPTH,
        (truth, depth) => error_colour((depth - truth).abs() / interval.unwrap_or(truth / 100.0) / clip),
    });
    row.scale(&mut canvas, 2, (0.0, clip), error_colour);
    let unit = if interval.is_some() { "intervals" } else { "% of depth" };
    row.remark(&mut canvas, 2, &format!("{unit}, {clip}+"));
    if let Some(confidence) = confidence {
        row.panel(&mut canvas, 3, "confidence", |x, y| match at(confidence, x, y) {
            c if c.is_nan() => NO_DEPTH,
            c => confidence_colour(c),
        });
        row.scale(&mut canvas, 3, (0.0, 1.0), confidence_colour);
    }
    canvas
}
