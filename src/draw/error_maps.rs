//! Maps of one view's errors: truth, depth, error and, where there is one, confidence side by side.

use super::canvas::Canvas;
use super::colours::{NO_DEPTH, NO_TRUTH};
use super::map_panels::MapPanels;
use crate::evaluation::depth_files::Overlaid;
use crate::maps::consistency::is_depth;

/// Panels have so many rows to half as many more.
const LEAST_ROWS: usize = 300;

/// Draws them; truth and depth on the scale of the truth, errors in intervals or, without one, in per cent.
pub fn error_maps(maps: &Overlaid, interval: Option<f64>) -> Canvas {
    let Overlaid { depth, confidence, truth, .. } = maps;
    let known = truth.data.iter().filter(|&&d| is_depth(d)).map(|&d| f64::from(d));
    let (near, far) = known.fold((f64::MAX, 0f64), |(near, far), d| (near.min(d), far.max(d)));
    // A truth without a pixel, or a wall that is looked at straight on.
    let ends = if far > near { (near, far) } else { (0.0, far.max(1.0)) };
    let mut panels = MapPanels::new(truth, LEAST_ROWS, if confidence.is_some() { 4 } else { 3 });
    panels.depth("truth", truth, Some(ends), NO_TRUTH);
    panels.depth("depth", depth, Some(ends), NO_DEPTH);
    panels.error(truth, depth, interval);
    if let Some(confidence) = confidence {
        panels.confidence(confidence, "");
    }
    panels.canvas()
}
