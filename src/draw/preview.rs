//! A picture to judge a view's result by: photo, depth and confidence side by side, each with its scale.

use std::path::Path;

use crate::draw::canvas::{Canvas, NO_DEPTH, Row, confidence_colour, depth_colour, panel_size, scaled_photo};
use crate::files::atomic::write_whole;
use crate::files::map::Map;
use crate::maps::consistency::is_depth;
use crate::scene::camera::DepthRange;
use crate::scene::photo::Photo;
use crate::{Error, Result};

/// Writes the picture as a PNG: the photo, the depth over a robust part of `range`, and the confidence.
///
/// The panels have the maps' aspect and a height of 400 to 600 pixels (less for very wide maps). Pixels without depth
/// are grey. The photo may have any size.
///
/// # Errors
/// [`Error::Io`], and nothing is left behind; [`Error::Shape`] where depth and confidence differ in size or anything
/// is empty.
pub fn write(path: &Path, photo: &Photo, depth: &Map, confidence: &Map, range: DepthRange) -> Result<()> {
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
    write_whole(path, "write the preview", |out| canvas.write_png(out))
}

fn draw(photo: &Photo, depth: &Map, confidence: &Map, range: DepthRange) -> Canvas {
    let row = Row::new(panel_size(depth.width, depth.height, 400));
    let (width, height) = row.panel;
    let mut canvas = row.canvas(3);

    let scaled = scaled_photo(photo, width, height);
    row.panel(&mut canvas, 0, "photo", |x, y| scaled[y * width + x]);
    let seen = depth.data.iter().filter(|&&d| in_range(d, range)).count();
    let share = format!("{:.0} % with depth", 100.0 * seen as f64 / depth.data.len() as f64);
    row.words(&mut canvas, 0, &[&format!("map {} x {}", depth.width, depth.height), &share]);

    // Nearest pixels, not interpolated ones: what is shown are the map's own values.
    let pixel = |x: usize, y: usize| (y * depth.height / height) * depth.width + x * depth.width / width;
    let shown = robust_range(depth, range);
    row.panel(&mut canvas, 1, "depth", |x, y| {
        let value = depth.data[pixel(x, y)];
        match shown {
            Some((low, high)) if in_range(value, range) => depth_colour((f64::from(value) - low) / (high - low)),
            _ => NO_DEPTH,
        }
    });
    match shown {
        Some(ends) => row.scale(&mut canvas, 1, ends, depth_colour),
        None => row.words(&mut canvas, 1, &["no depth"]),
    }

    row.panel(&mut canvas, 2, "confidence", |x, y| {
        let value = f64::from(confidence.data[pixel(x, y)]);
        if value.is_nan() { NO_DEPTH } else { confidence_colour(value) }
    });
    row.scale(&mut canvas, 2, (0.0, 1.0), confidence_colour);
    canvas
}

fn in_range(depth: f32, range: DepthRange) -> bool {
    let d = f64::from(depth);
    is_depth(depth) && d >= range.near * (1.0 - 1e-6) && d <= range.far * (1.0 + 1e-6)
}

/// The 2nd to 98th percentile of the depths in range, never empty; `None` where there is no depth at all.
fn robust_range(depth: &Map, range: DepthRange) -> Option<(f64, f64)> {
    let mut depths: Vec<f32> = depth.data.iter().copied().filter(|&d| in_range(d, range)).collect();
    depths.sort_unstable_by(f32::total_cmp);
    let at = |share: f64| depths.get((share * depths.len() as f64) as usize).map(|&d| f64::from(d));
    let (low, high) = (at(0.02)?, at(0.98)?);
    let least = 0.01 * low;
    let missing = (least - (high - low)).max(0.0) / 2.0;
    Some((low - missing, high + missing))
}
