//! A picture to judge a view's result by: photo, depth and confidence side by side, each with its scale.

use std::io;
use std::path::Path;

use colorous::Gradient;
use font8x8::{BASIC_FONTS, UnicodeFonts};
use image::{ExtendedColorType, ImageEncoder, ImageError, codecs::png::PngEncoder};

use crate::camera::DepthRange;
use crate::consistency::is_depth;
use crate::formats::output::write_whole;
use crate::map::Map;
use crate::photo::Photo;
use crate::{Error, Result};

/// Both maps are perceptually uniform, so that equal steps look equal, and readable without colour vision. Depth is
/// drawn reversed: near is bright, as if lit from the camera.
const DEPTH_COLOURS: Gradient = colorous::PLASMA;
const CONFIDENCE_COLOURS: Gradient = colorous::VIRIDIS;

const PAPER: [u8; 3] = [255; 3];
const INK: [u8; 3] = [45, 48, 54];
const PALE_INK: [u8; 3] = [125, 130, 138];
/// Neutral grey: in neither colour map.
const NO_DEPTH: [u8; 3] = [176; 3];

/// Pixels around and between panels.
const MARGIN: usize = 24;
/// Side of one letter: the 8 x 8 font, doubled.
const LETTER: usize = 16;
const BAR: usize = 14;
const TICK: usize = 6;

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
    write_whole(path, "write the preview", |out| {
        let (width, height) = (canvas.width as u32, canvas.height as u32);
        let rgb = canvas.rgb.as_flattened();
        PngEncoder::new(out).write_image(rgb, width, height, ExtendedColorType::Rgb8).map_err(|e| match e {
            ImageError::IoError(e) => e,
            e => io::Error::other(e),
        })
    })
}

fn draw(photo: &Photo, depth: &Map, confidence: &Map, range: DepthRange) -> Canvas {
    let (width, height) = panel_size(depth.width, depth.height);
    // A narrow panel stands in the middle of a column that is wide enough for its words.
    let column = width.max(15 * LETTER);
    let top = MARGIN + LETTER + 10;
    let below = top + height + 14;
    let mut canvas = Canvas::new(4 * MARGIN + 3 * column, below + BAR + TICK + 6 + LETTER + MARGIN);
    let left = |panel: usize| MARGIN + panel * (column + MARGIN);
    let inset = (column - width) / 2;

    canvas.text(left(0), MARGIN, "photo", INK);
    let scaled = scaled_photo(photo, width, height);
    canvas.panel(left(0) + inset, top, width, height, |x, y| scaled[y * width + x]);
    let seen = depth.data.iter().filter(|&&d| in_range(d, range)).count();
    let share = format!("{:.0} % with depth", 100.0 * seen as f64 / depth.data.len() as f64);
    canvas.text(left(0), below, &format!("map {} x {}", depth.width, depth.height), PALE_INK);
    canvas.text(left(0), below + LETTER + 8, &share, PALE_INK);

    // Nearest pixels, not interpolated ones: what is shown are the map's own values.
    let pixel = |x: usize, y: usize| (y * depth.height / height) * depth.width + x * depth.width / width;
    canvas.text(left(1), MARGIN, "depth", INK);
    let shown = robust_range(depth, range);
    let depth_colour = |t: f64| colour(DEPTH_COLOURS, 1.0 - t);
    canvas.panel(left(1) + inset, top, width, height, |x, y| {
        let value = depth.data[pixel(x, y)];
        match shown {
            Some((low, high)) if in_range(value, range) => {
                depth_colour((f64::from(value) - low) / (high - low))
            }
            _ => NO_DEPTH,
        }
    });
    match shown {
        Some(ends) => canvas.scale_bar(left(1), below, column, ends, depth_colour),
        None => canvas.text(left(1), below, "no depth", PALE_INK),
    }

    canvas.text(left(2), MARGIN, "confidence", INK);
    let confidence_colour = |t: f64| colour(CONFIDENCE_COLOURS, t);
    canvas.panel(left(2) + inset, top, width, height, |x, y| {
        let value = f64::from(confidence.data[pixel(x, y)]);
        if value.is_nan() { NO_DEPTH } else { confidence_colour(value) }
    });
    canvas.scale_bar(left(2), below, column, (0.0, 1.0), confidence_colour);
    canvas
}

fn colour(gradient: Gradient, t: f64) -> [u8; 3] {
    let c = gradient.eval_continuous(t.clamp(0.0, 1.0));
    [c.r, c.g, c.b]
}

fn in_range(depth: f32, range: DepthRange) -> bool {
    let d = f64::from(depth);
    is_depth(depth) && d >= range.near * (1.0 - 1e-6) && d <= range.far * (1.0 + 1e-6)
}

/// A whole multiple of the map's size if that gives 400 to 600 rows, else 480 rows; at most 1600 columns.
fn panel_size(width: usize, height: usize) -> (usize, usize) {
    let whole = 400usize.div_ceil(height);
    let scale = if (400..=600).contains(&(height * whole)) { whole as f64 } else { 480.0 / height as f64 };
    let scale = scale.min(1600.0 / width as f64);
    let side = |n: usize| ((n as f64 * scale).round() as usize).max(1);
    (side(width), side(height))
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

/// The photo at the panel's size: averaged where it is larger, bilinear where it is smaller.
fn scaled_photo(photo: &Photo, width: usize, height: usize) -> Vec<[u8; 3]> {
    let smaller;
    let source = if photo.width > width && photo.height > height {
        smaller = photo.area_averaged(width, height);
        &smaller
    } else {
        photo
    };
    // Areas map to areas: pixel centres lie at half a pixel from the corner.
    let taps = |to: usize, at: usize, from: usize| {
        let position = (at as f64 + 0.5) * from as f64 / to as f64 - 0.5;
        let position = position.clamp(0.0, (from - 1) as f64);
        let low = position as usize;
        (low, (low + 1).min(from - 1), position - low as f64)
    };
    let columns: Vec<_> = (0..width).map(|x| taps(width, x, source.width)).collect();
    let mut pixels = Vec::with_capacity(width * height);
    for y in 0..height {
        let (y0, y1, fy) = taps(height, y, source.height);
        for &(x0, x1, fx) in &columns {
            let value = |x: usize, y: usize, c: usize| f64::from(source.rgb[(y * source.width + x) * 3 + c]);
            pixels.push([0, 1, 2].map(|c| {
                let top = value(x0, y0, c) * (1.0 - fx) + value(x1, y0, c) * fx;
                let bottom = value(x0, y1, c) * (1.0 - fx) + value(x1, y1, c) * fx;
                (255.0 * (top * (1.0 - fy) + bottom * fy)).round() as u8
            }));
        }
    }
    pixels
}

/// Round numbers between `low` and `high`: at most `most`, at least one, with as many decimals as they need.
fn ticks(low: f64, high: f64, most: usize) -> Vec<(f64, String)> {
    let mut exponent = ((high - low) / most.max(1) as f64).log10().floor() as i32;
    loop {
        for digit in [1.0, 2.0, 5.0] {
            let step = digit * 10f64.powi(exponent);
            let slack = 1e-9 * (high - low);
            let (first, last) = (((low - slack) / step).ceil(), ((high + slack) / step).floor());
            if last - first + 1.0 <= most as f64 {
                let values = (0..=(last - first).max(0.0) as usize).map(|i| (first + i as f64) * step);
                let decimals = (-exponent).max(0) as usize;
                let small = decimals <= 4 && high.abs() < 1e6;
                let label = |v: f64| if small { format!("{v:.decimals$}") } else { format!("{v:.2e}") };
                return values.filter(|v| *v <= high + slack).map(|v| (v, label(v))).collect();
            }
        }
        exponent += 1;
    }
}

/// An RGB picture being drawn.
struct Canvas {
    width: usize,
    height: usize,
    rgb: Vec<[u8; 3]>,
}

impl Canvas {
    fn new(width: usize, height: usize) -> Self {
        Self { width, height, rgb: vec![PAPER; width * height] }
    }

    fn panel(
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

    /// One line of text with its upper left corner at (left, top); what does not fit is cut off.
    fn text(&mut self, left: usize, top: usize, text: &str, ink: [u8; 3]) {
        for (place, letter) in text.chars().enumerate() {
            // Rows from the top; the lowest bit is the leftmost pixel.
            for (row, bits) in BASIC_FONTS.get(letter).unwrap_or([0; 8]).into_iter().enumerate() {
                for dot in (0..8).filter(|dot| bits >> dot & 1 == 1) {
                    let (x, y) = (left + place * LETTER + dot * LETTER / 8, top + row * LETTER / 8);
                    if x + LETTER / 8 <= self.width && y + LETTER / 8 <= self.height {
                        self.panel(x, y, LETTER / 8, LETTER / 8, |_, _| ink);
                    }
                }
            }
        }
    }

    /// A bar from `ends.0` to `ends.1` with ticks and their numbers below.
    fn scale_bar(
        &mut self,
        left: usize,
        top: usize,
        width: usize,
        ends: (f64, f64),
        colour: impl Fn(f64) -> [u8; 3],
    ) {
        let last = (width - 1) as f64;
        self.panel(left, top, width, BAR, |x, _| colour(x as f64 / last));
        // As many ticks as leave two letters between the numbers.
        let fits = |labels: &[(f64, String)]| {
            let longest = labels.iter().map(|(_, label)| label.len()).max().unwrap_or(0);
            labels.len() * (longest + 2) * LETTER <= width + 2 * LETTER
        };
        let labels = (1..=6).rev().map(|most| ticks(ends.0, ends.1, most)).find(|labels| fits(labels));
        for (value, label) in labels.unwrap_or_default() {
            let x = left + ((value - ends.0) / (ends.1 - ends.0) * last).round().clamp(0.0, last) as usize;
            let from = x.saturating_sub(1).max(left).min(left + width - 2);
            self.panel(from, top + BAR, 2, TICK, |_, _| INK);
            // Centred on the tick, but not beyond the ends of the bar.
            let length = label.len() * LETTER;
            let start =
                (x + 1).saturating_sub(length / 2).min((left + width).saturating_sub(length)).max(left);
            self.text(start, top + BAR + TICK + 6, &label, INK);
        }
    }
}
