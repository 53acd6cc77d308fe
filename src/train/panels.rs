//! Pictures of a validation view as training goes on: photo, truth, depth, error and confidence side by side, drawn
//! like the previews of a reconstruction.
//!
//! Truth and depth share one scale, the whole range that was searched, and the error's has a fixed end, so that the
//! pictures of one view at different steps can be laid over each other. Pixels without a truth are dark grey in truth
//! and error, pixels without a depth light grey in depth and error.

use super::split_metrics::significant;
use crate::draw::canvas::{
    Canvas, NO_DEPTH, NO_TRUTH, Row, confidence_colour, depth_colour, error_colour, panel_size, scaled_photo,
};
use crate::error::{Error, Result};
use crate::evaluation::depth_metrics::{CONFIDENT, DepthMetrics};
use crate::files::map::Map;
use crate::scene::camera::DepthRange;
use crate::scene::photo::Photo;

/// Errors of so many intervals and more have the last colour: two are still right as far as the confidence goes.
pub const ERROR_CLIP_INTERVALS: f64 = 4.0;

/// Panels have so many rows to half as many more: five of them should fit on a screen.
const LEAST_ROWS: usize = 240;

/// Draws the picture and returns it as a PNG with its width and height; `interval` is the mean distance of two
/// hypotheses.
///
/// The three maps have one size, the photo may have any.
///
/// # Errors
/// [`Error::Shape`] where the maps differ in size, anything is empty, or range and interval are not finite with 0 <
/// near < far and interval > 0.
pub fn panel(
    photo: &Photo,
    truth: &Map,
    depth: &Map,
    confidence: &Map,
    range: DepthRange,
    interval: f64,
) -> Result<(Vec<u8>, (usize, usize))> {
    let wrong = |problem: String| Err(Error::Shape { op: "panels::panel", problem });
    let mut metrics = DepthMetrics::new();
    metrics.add(depth, confidence, truth, interval)?;
    if truth.data.is_empty() || photo.rgb.is_empty() || photo.rgb.len() != 3 * photo.width * photo.height {
        return wrong(format!(
            "a photo of {} x {} and maps of {} x {}; expected both with pixels",
            photo.width, photo.height, truth.width, truth.height
        ));
    }
    let DepthRange { near, far } = range;
    if !(near > 0.0 && far > near && far.is_finite()) {
        return wrong(format!("a range of {near} to {far}; expected 0 < near < far"));
    }
    let canvas = draw(photo, [truth, depth, confidence], range, interval, &metrics);
    let mut png = Vec::new();
    canvas.write_png(&mut png).map_err(|e| Error::Shape { op: "panels::panel", problem: e.to_string() })?;
    Ok((png, (canvas.width, canvas.height)))
}

fn draw(
    photo: &Photo,
    [truth, depth, confidence]: [&Map; 3],
    range: DepthRange,
    interval: f64,
    metrics: &DepthMetrics,
) -> Canvas {
    let row = Row { remarks: true, ..Row::new(panel_size(truth.width, truth.height, LEAST_ROWS)) };
    let (width, height) = row.panel;
    let mut canvas = row.canvas(5);
    let summary = metrics.summary();

    let scaled = scaled_photo(photo, width, height);
    row.panel(&mut canvas, 0, "photo", |x, y| scaled[y * width + x]);
    let share = 100.0 * metrics.pixels() as f64 / truth.data.len() as f64;
    let mean = summary.mean_error_intervals.map_or(String::new(), |m| format!("mean error {}", significant(m)));
    let size = format!("map {} x {}", truth.width, truth.height);
    row.words(&mut canvas, 0, &[&size, &format!("{share:.0} % with truth"), &mean]);

    // Nearest pixels, not interpolated ones: what is shown are the maps' own values.
    let at = |map: &Map, x: usize, y: usize| f64::from(map.at(x * map.width / width, y * map.height / height));
    let is_depth = |d: f64| d.is_finite() && d > 0.0;
    for (place, name, map, missing) in [(1, "truth", truth, NO_TRUTH), (2, "depth", depth, NO_DEPTH)] {
        row.panel(&mut canvas, place, name, |x, y| match at(map, x, y) {
            d if is_depth(d) => depth_colour((d - range.near) / (range.far - range.near)),
            _ => missing,
        });
        row.scale(&mut canvas, place, (range.near, range.far), depth_colour);
        row.remark(&mut canvas, place, "scene units");
    }

    row.panel(&mut canvas, 3, "error", |x, y| match (at(truth, x, y), at(depth, x, y)) {
        (truth, _) if !is_depth(truth) => NO_TRUTH,
        (_, depth) if !is_depth(depth) => NO_DEPTH,
        (truth, depth) => error_colour((depth - truth).abs() / interval / ERROR_CLIP_INTERVALS),
    });
    row.scale(&mut canvas, 3, (0.0, ERROR_CLIP_INTERVALS), error_colour);
    row.remark(&mut canvas, 3, &format!("intervals, {ERROR_CLIP_INTERVALS}+"));

    row.panel(&mut canvas, 4, "confidence", |x, y| match at(confidence, x, y) {
        c if c.is_nan() => NO_DEPTH,
        c => confidence_colour(c),
    });
    row.scale(&mut canvas, 4, (0.0, 1.0), confidence_colour);
    let confident = summary.confident_share.map(|s| format!("{:.0} % over {CONFIDENT}", 100.0 * s));
    row.remark(&mut canvas, 4, &confident.unwrap_or_default());
    canvas
}
