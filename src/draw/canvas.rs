//! A picture of pixels being drawn: filled rectangles, lines of text, scales, and the PNG file.
//!
//! It knows nothing of maps; [`super::map_panels`] arranges those.

use std::io::{self, Write};

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder, ImageError};

use super::colours::{INK, PAPER};
use super::{font, ticks};

/// Height of a scale's bar.
const BAR: usize = 14;
/// Length of a scale's ticks, and of the gap to their numbers.
const TICK: usize = 6;

/// An RGB picture being drawn.
pub struct Canvas {
    /// Pixels a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    rgb: Vec<[u8; 3]>,
}

impl Canvas {
    /// White.
    pub fn new(width: usize, height: usize) -> Self {
        Self { width, height, rgb: vec![PAPER; width * height] }
    }

    /// Writes it as a PNG.
    ///
    /// # Errors
    /// The system's reason where it cannot be written.
    pub fn write_png(&self, out: impl Write) -> io::Result<()> {
        let (width, height) = (self.width as u32, self.height as u32);
        let rgb = self.rgb.as_flattened();
        PngEncoder::new(out).write_image(rgb, width, height, ExtendedColorType::Rgb8).map_err(|e| match e {
            ImageError::IoError(e) => e,
            e => io::Error::other(e),
        })
    }

    /// Fills a rectangle; `pixel` gives the colour at column and row of it.
    pub fn panel(
        &mut self,
        left: usize,
        top: usize,
        width: usize,
        height: usize,
        pixel: impl Fn(usize, usize) -> [u8; 3],
    ) {
        for y in 0..height {
            for x in 0..width {
                self.rgb[(top + y) * self.width + left + x] = pixel(x, y);
            }
        }
    }

    /// One line of text of a size in pixels; capitals begin at (left, top). What does not fit is cut off.
    pub fn text(&mut self, left: usize, top: usize, text: &str, size: usize, ink: [u8; 3]) {
        let size = size as f64;
        let baseline = top as f64 + (font::CAPITAL * size).round();
        font::draw(text, size, left as f64, baseline, |x, y, share| {
            let inside = (0..self.width as i32).contains(&x) && (0..self.height as i32).contains(&y);
            if inside {
                let pixel = &mut self.rgb[y as usize * self.width + x as usize];
                let mixed = |c: usize| f32::from(pixel[c]) + share * (f32::from(ink[c]) - f32::from(pixel[c]));
                *pixel = [0, 1, 2].map(|c| mixed(c).round() as u8);
            }
        });
    }

    /// A bar from `ends.0` to `ends.1` with ticks and their numbers below, of a size in pixels.
    pub fn scale(
        &mut self,
        (left, top): (usize, usize),
        width: usize,
        size: usize,
        ends: (f64, f64),
        colour: impl Fn(f64) -> [u8; 3],
    ) {
        let last = (width - 1) as f64;
        self.panel(left, top, width, BAR, |x, _| colour(x as f64 / last));
        for (value, label) in ticks::fitting(ends.0, ends.1, size as f64, width as f64) {
            let x = left + ((value - ends.0) / (ends.1 - ends.0) * last).round().clamp(0.0, last) as usize;
            let from = x.saturating_sub(1).max(left).min(left + width - 2);
            self.panel(from, top + BAR, 2, TICK, |_, _| INK);
            // Centred on the tick, but not beyond the ends of the bar.
            let length = font::width(&label, size as f64).ceil() as usize;
            let start = (x + 1).saturating_sub(length / 2).min((left + width).saturating_sub(length)).max(left);
            self.text(start, top + BAR + 2 * TICK, &label, size, INK);
        }
    }
}

/// Rows of a scale with its numbers.
pub fn scale_height(size: usize) -> usize {
    BAR + 2 * TICK + (font::CAPITAL * size as f64).round() as usize
}
