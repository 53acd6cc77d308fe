//! A picture to judge a view's result by: photo, depth and confidence side by side, each with its scale.

use std::path::Path;

use super::canvas::Canvas;
use super::colours::NO_DEPTH;
use super::map_panels::MapPanels;
use crate::files::atomic::write_whole_hashed;
use crate::files::map::Map;
use crate::maps::consistency::is_depth;
use crate::scene::camera::DepthRange;
use crate::scene::photo::Photo;
use crate::{Error, Result};

/// Panels have so many rows to half as many more (less for very wide maps).
const LEAST_ROWS: usize = 400;

/// Writes the picture as a PNG: the photo, the depth over a robust part of `range`, and the confidence.
///
/// The panels have the maps' aspect and a height of 400 to 600 pixels (less for very wide maps). Pixels without depth
/// are grey. The photo may have any size. Gives the SHA-256 of what was written.
///
/// # Errors
/// [`Error::Io`], and nothing is left behind; [`Error::Shape`] where depth and confidence differ in size or anything
/// is empty.
pub fn write(path: &Path, photo: &Photo, depth: &Map, confidence: &Map, range: DepthRange) -> Result<String> {
    let fits = |m: &Map| m.width > 0 && m.height > 0 && m.data.len() == m.width * m.height;
    let photo_fits = photo.width > 0 && photo.height > 0 && photo.rgb.len() == photo.width * photo.height * 3;
    if !fits(depth) || !fits(confidence) || !photo_fits || depth.data.len() != confidence.data.len() {
        let problem = format!(
            "a photo of {} x {}, depth of {} x {} and confidence of {} x {}",
            photo.width, photo.height, depth.width, depth.height, confidence.width, confidence.height
        );
        return Err(Error::Shape { op: "preview::write", problem });
    }
    let canvas = draw(photo, depth, confidence, range);
    write_whole_hashed(path, "write the preview", |out| canvas.write_png(out))
}

fn draw(photo: &Photo, depth: &Map, confidence: &Map, range: DepthRange) -> Canvas {
    let mut shown = depth.clone();
    shown.data.iter_mut().filter(|d| !in_range(**d, range)).for_each(|d| *d = f32::NAN);
    let seen = shown.data.iter().filter(|d| !d.is_nan()).count();
    let share = format!("{:.0} % with depth", 100.0 * seen as f64 / depth.data.len() as f64);
    let mut panels = MapPanels::new(depth, LEAST_ROWS, 3);
    panels.photo(photo, &[format!("map {} × {}", depth.width, depth.height), share]);
    panels.depth("depth", &shown, robust_range(&shown), NO_DEPTH);
    panels.confidence(confidence, "");
    panels.canvas()
}

fn in_range(depth: f32, range: DepthRange) -> bool {
    let d = f64::from(depth);
    is_depth(depth) && d >= range.near * (1.0 - 1e-6) && d <= range.far * (1.0 + 1e-6)
}

/// The 2nd to 98th percentile of the depths, never empty; `None` where there is no depth at all.
fn robust_range(depth: &Map) -> Option<(f64, f64)> {
    let mut depths: Vec<f32> = depth.data.iter().copied().filter(|d| !d.is_nan()).collect();
    depths.sort_unstable_by(f32::total_cmp);
    let at = |share: f64| depths.get((share * depths.len() as f64) as usize).map(|&d| f64::from(d));
    let (low, high) = (at(0.02)?, at(0.98)?);
    let least = 0.01 * low;
    let missing = (least - (high - low)).max(0.0) / 2.0;
    Some((low - missing, high + missing))
}
