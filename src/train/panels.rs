//! Pictures of a validation view as training goes on: photo, truth, depth, error and confidence side by side, drawn
//! like the previews of a reconstruction.
//!
//! Truth and depth share one scale, the whole range that was searched, and the error's has a fixed end, so that the
//! pictures of one view at different steps can be laid over each other. Pixels without a truth are dark grey in truth
//! and error, pixels without a depth light grey in depth and error.

use super::split_metrics::significant;
use crate::draw::canvas::Canvas;
use crate::draw::colours::{NO_DEPTH, NO_TRUTH};
use crate::draw::map_panels::MapPanels;
use crate::error::{Error, Result};
use crate::evaluation::depth_metrics::{CONFIDENT, DepthMetrics};
use crate::files::map::Map;
use crate::scene::camera::DepthRange;
use crate::scene::photo::Photo;

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
    let summary = metrics.summary();
    let share = 100.0 * metrics.pixels() as f64 / truth.data.len() as f64;
    let size = format!("map {} × {}", truth.width, truth.height);
    let mean =
        summary.mean_error_intervals.map_or(String::new(), |m| format!("mean error {} intervals", significant(m)));
    let confident = summary.confident_share.map(|s| format!("{:.0} % over {CONFIDENT}", 100.0 * s));
    let ends = Some((range.near, range.far));
    let mut panels = MapPanels::new(truth, LEAST_ROWS, 5);
    panels.photo(photo, &[size, format!("{share:.0} % with truth"), mean]);
    panels.depth("truth", truth, ends, NO_TRUTH);
    panels.depth("depth", depth, ends, NO_DEPTH);
    panels.error(truth, depth, Some(interval));
    panels.confidence(confidence, &confident.unwrap_or_default());
    panels.canvas()
}
