//! One view's pictures in a report: the photo, and what its maps say of each pixel, at a size that a page can hold.
//!
//! Depth is kept as a number of steps of its logarithm above the least depth, so that it is known to one share of
//! itself everywhere: half of [`STEP`]. Of maps that are reduced, the pixel in the middle of each area is kept, since a
//! mean over an edge is the depth of nothing.
//!
//! The bytes of the maps are planes, row by row: low and high bytes of the steps plus 1, or of 0 where there is no
//! depth, as the difference from the pixel to the left (in the first column from the one above) modulo 2^16; then
//! confidence times 255 as such a difference modulo 256.

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder};

use crate::error::{Error, Result};
use crate::files::map::Map;
use crate::maps::consistency::is_depth;
use crate::report::options::VIEW_PIXELS;
use crate::report::pack::deflated;
use crate::scene::photo::Photo;

/// From one depth that can be said to the next: a share of it, about what good maps are wrong by.
pub const STEP: f64 = 5e-4;
/// Steps that there are: 0 is no depth.
const LAST_STEP: f64 = 65_534.0;
/// Of the photos; grain and edges survive.
const JPEG_QUALITY: u8 = 82;

/// A view as the page has it.
pub struct Picture {
    /// Width and height of photo and maps.
    pub size: (usize, usize),
    /// The photo as a JPEG, where it is there.
    pub photo: Option<Vec<u8>>,
    /// The maps, deflated.
    pub maps: Vec<u8>,
    /// The least depth, in scene units.
    pub near: f64,
    /// The step of the logarithm.
    pub step: f64,
}

/// The size of the pictures of a view: the map's, or less so that all views together have [`VIEW_PIXELS`], or so that
/// the longest side is `side`.
pub fn size_of((width, height): (usize, usize), views: usize, side: Option<usize>) -> (usize, usize) {
    let scale = match side {
        Some(side) => side as f64 / width.max(height) as f64,
        None => (VIEW_PIXELS / (views.max(1) * width * height) as f64).sqrt(),
    };
    let reduced = |length: usize| ((length as f64 * scale.min(1.0)).round() as usize).max(1);
    (reduced(width), reduced(height))
}

/// Makes the pictures of a view; the photo has the maps' size.
///
/// # Errors
/// None in practice: nothing is written but memory.
pub fn picture(depth: &Map, confidence: &Map, photo: Option<Photo>, size: (usize, usize)) -> Result<Picture> {
    let photo = photo.map(|photo| jpeg(photo, size)).transpose()?;
    let PackedMaps { near, step, bytes } = pack(depth, confidence, size);
    Ok(Picture { size, photo, maps: deflated(&bytes)?, near, step })
}

/// The maps of a view, before they are deflated.
pub struct PackedMaps {
    /// The least depth, in scene units.
    pub near: f64,
    /// The step of the logarithm.
    pub step: f64,
    /// The planes.
    pub bytes: Vec<u8>,
}

/// Packs the maps of a view at a size.
pub fn pack(depth: &Map, confidence: &Map, size: (usize, usize)) -> PackedMaps {
    let depths = every(depth, size);
    let seen = depths.iter().copied().filter(|&d| is_depth(d)).map(f64::from);
    let (near, far) = seen.fold((f64::INFINITY, 0f64), |(near, far), d| (near.min(d), far.max(d)));
    let near = if near.is_finite() { near } else { 1.0 };
    let step = STEP.max((far.max(near) / near).ln() / LAST_STEP);
    let steps = depths.iter().map(|&d| match is_depth(d) {
        true => 1 + ((f64::from(d) / near).ln() / step).round().clamp(0.0, LAST_STEP) as u16,
        false => 0,
    });
    let steps: Vec<u16> = steps.collect();
    let sure: Vec<u8> = every(confidence, size).iter().map(|c| (c.clamp(0.0, 1.0) * 255.0).round() as u8).collect();
    let before = |i: usize| if i.is_multiple_of(size.0) { i.checked_sub(size.0) } else { Some(i - 1) };
    let differences = (0..steps.len()).map(|i| steps[i].wrapping_sub(before(i).map_or(0, |j| steps[j])).to_le_bytes());
    let [low, high]: [Vec<u8>; 2] = [0, 1].map(|byte| differences.clone().map(|bytes| bytes[byte]).collect());
    let sure = (0..sure.len()).map(|i| sure[i].wrapping_sub(before(i).map_or(0, |j| sure[j]))).collect();
    PackedMaps { near, step, bytes: [low, high, sure].concat() }
}

/// The value in the middle of each area.
fn every(map: &Map, (width, height): (usize, usize)) -> Vec<f32> {
    let middle = |i: usize, new: usize, old: usize| (2 * i + 1) * old / (2 * new);
    let row = |y: usize| (0..width).map(move |x| map.at(middle(x, width, map.width), middle(y, height, map.height)));
    (0..height).flat_map(row).collect()
}

/// A photo, reduced to a size, as a JPEG.
///
/// # Errors
/// None in practice: nothing is written but memory.
pub fn jpeg(photo: Photo, size: (usize, usize)) -> Result<Vec<u8>> {
    let photo = photo.area_averaged(size.0, size.1);
    let mut bytes = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY);
    let (width, height) = (photo.width as u32, photo.height as u32);
    let written = encoder.write_image(photo.colours().as_flattened(), width, height, ExtendedColorType::Rgb8);
    written.map_err(|e| Error::Bug { place: "the photo of a report", problem: e.to_string() })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn depth_comes_back_to_half_a_step() {
        let (width, height) = (7, 5);
        let value = |i: usize| if i.is_multiple_of(6) { 0.0 } else { 0.5 * 1.3f32.powi(i as i32) };
        let depth = Map { width, height, data: (0..width * height).map(value).collect() };
        let confidence = Map { width, height, data: (0..width * height).map(|i| i as f32 / 34.0).collect() };
        let made = picture(&depth, &confidence, None, (width, height)).unwrap();
        assert_eq!((made.step, made.photo), (STEP, None));
        let mut bytes = Vec::new();
        flate2::read::ZlibDecoder::new(&made.maps[..]).read_to_end(&mut bytes).unwrap();
        let count = width * height;
        assert_eq!(bytes.len(), 3 * count);
        let (mut steps, mut sure) = (vec![0u16; count], vec![0u8; count]);
        for i in 0..count {
            let (step, of) = match i % width {
                0 if i == 0 => (0, 0),
                0 => (steps[i - width], sure[i - width]),
                _ => (steps[i - 1], sure[i - 1]),
            };
            steps[i] = step.wrapping_add(u16::from_le_bytes([bytes[i], bytes[count + i]]));
            sure[i] = of.wrapping_add(bytes[2 * count + i]);
            assert!((f32::from(sure[i]) / 255.0 - confidence.data[i]).abs() <= 0.5 / 255.0 + 1e-6);
            match depth.data[i] {
                0.0 => assert_eq!(steps[i], 0),
                d => {
                    let found = made.near * (f64::from(steps[i] - 1) * made.step).exp();
                    // exp(step / 2) - 1, and the rounding of f32.
                    assert!((found / f64::from(d) - 1.0).abs() <= 0.5 * STEP * 1.001 + 1e-6, "{found} {d}");
                }
            }
        }
    }

    #[test]
    fn pictures_share_what_pixels_there_are() {
        assert_eq!(size_of((640, 480), 3, None), (640, 480));
        // 3 million by 8 million, and the root of it.
        assert_eq!(size_of((4000, 2000), 1, None), (2449, 1225));
        assert_eq!(size_of((4000, 2000), 75, None), (283, 141));
        assert_eq!(size_of((4000, 2000), 75, Some(1000)), (1000, 500));
        assert_eq!(size_of((640, 480), 3, Some(1000)), (640, 480));
        assert_eq!(size_of((4000, 1), 1000, Some(10)), (10, 1));
    }
}
