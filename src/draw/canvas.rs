//! Pictures of maps: panels side by side with words and scales, drawn without any system font.

use std::io::{self, Write};

use colorous::Gradient;
use font8x8::{BASIC_FONTS, UnicodeFonts};
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder, ImageError};

use crate::scene::photo::Photo;

/// Maps are drawn in perceptually uniform colours, so that equal steps look equal, readable without colour vision.
/// Depth is drawn reversed ([`depth_colour`]): near is bright, as if lit from the camera.
const DEPTH_COLOURS: Gradient = colorous::PLASMA;
const CONFIDENCE_COLOURS: Gradient = colorous::VIRIDIS;
/// From pale, where all is well, to dark: that nothing is known has no shade of it.
const ERROR_COLOURS: Gradient = colorous::YELLOW_ORANGE_RED;

/// Of pixels without a depth in maps of depth, error and confidence: neutral grey, in none of their colours.
pub const NO_DEPTH: [u8; 3] = [176; 3];
/// Of pixels without a truth in maps of truth and error.
pub const NO_TRUTH: [u8; 3] = [72; 3];

const PAPER: [u8; 3] = [255; 3];
/// Of what is read first.
pub const INK: [u8; 3] = [45, 48, 54];
/// Of remarks.
pub const PALE_INK: [u8; 3] = [125, 130, 138];

/// Pixels around and between panels.
pub const MARGIN: usize = 24;
/// Side of one letter: the 8 x 8 font, doubled.
pub const LETTER: usize = 16;
/// Height of a scale's bar.
const BAR: usize = 14;
/// Length of a scale's ticks.
const TICK: usize = 6;

/// Where things stand in a picture of one row of panels: each in a column with its name above, and two lines of words
/// or a scale below.
pub struct Row {
    /// Width and height of each panel.
    pub panel: (usize, usize),
    /// Width of a column; a narrower panel stands in its middle, so that there is room for words.
    pub column: usize,
    /// Rows above the panels.
    pub top: usize,
    /// Where words and scales under the panels begin.
    pub below: usize,
    /// Whether there is a line for a remark under each scale.
    pub remarks: bool,
}

/// From one line of words to the next.
const LINE: usize = LETTER + 8;

impl Row {
    /// For panels of this size.
    pub fn new(panel: (usize, usize)) -> Self {
        let top = MARGIN + LETTER + 10;
        Self { panel, column: panel.0.max(15 * LETTER), top, below: top + panel.1 + 14, remarks: false }
    }

    /// The empty picture for a number of panels.
    pub fn canvas(&self, panels: usize) -> Canvas {
        let width = MARGIN + panels * (self.column + MARGIN);
        let remark = if self.remarks { LINE } else { 0 };
        Canvas::new(width, self.below + BAR + TICK + 6 + LETTER + remark + MARGIN)
    }

    /// Where a panel's column begins.
    pub fn left(&self, panel: usize) -> usize {
        MARGIN + panel * (self.column + MARGIN)
    }

    /// Draws a panel under its name; `pixel` gives the colour at column and row.
    pub fn panel(&self, canvas: &mut Canvas, panel: usize, name: &str, pixel: impl Fn(usize, usize) -> [u8; 3]) {
        let (width, height) = self.panel;
        canvas.text(self.left(panel), MARGIN, name, INK);
        canvas.panel(self.left(panel) + (self.column - width) / 2, self.top, width, height, pixel);
    }

    /// Draws up to two lines under a panel, three where there are remarks.
    pub fn words(&self, canvas: &mut Canvas, panel: usize, lines: &[&str]) {
        for (i, line) in lines.iter().enumerate() {
            canvas.text(self.left(panel), self.below + i * LINE, line, PALE_INK);
        }
    }

    /// Draws a remark under a panel's scale.
    pub fn remark(&self, canvas: &mut Canvas, panel: usize, text: &str) {
        canvas.text(self.left(panel), self.remark_top(), text, PALE_INK);
    }

    /// Where remarks begin.
    pub fn remark_top(&self) -> usize {
        self.below + BAR + TICK + 6 + LINE
    }

    /// Draws a scale under a panel.
    pub fn scale(&self, canvas: &mut Canvas, panel: usize, ends: (f64, f64), colour: impl Fn(f64) -> [u8; 3]) {
        canvas.scale_bar(self.left(panel), self.below, self.column, ends, colour);
    }
}

/// The colour of a depth, 0 (near) to 1 (far).
pub fn depth_colour(t: f64) -> [u8; 3] {
    colour(DEPTH_COLOURS, 1.0 - t)
}

/// The colour of a confidence, 0..1.
pub fn confidence_colour(t: f64) -> [u8; 3] {
    colour(CONFIDENCE_COLOURS, t)
}

/// The colour of an error, 0 to 1 (as large as the scale goes).
pub fn error_colour(t: f64) -> [u8; 3] {
    colour(ERROR_COLOURS, t)
}

/// The colour at 0..1 of a gradient; what lies beyond has the end's.
pub fn colour(gradient: Gradient, t: f64) -> [u8; 3] {
    let c = gradient.eval_continuous(t.clamp(0.0, 1.0));
    [c.r, c.g, c.b]
}

/// A whole multiple of a map's size if that gives `rows` to 1.5 `rows` rows, else 1.2 `rows`; at most 1600 columns.
pub fn panel_size(width: usize, height: usize, rows: usize) -> (usize, usize) {
    let whole = rows.div_ceil(height);
    let fits = (rows..=rows + rows / 2).contains(&(height * whole));
    let scale = if fits { whole as f64 } else { 1.2 * rows as f64 / height as f64 };
    let scale = scale.min(1600.0 / width as f64);
    let side = |n: usize| ((n as f64 * scale).round() as usize).max(1);
    (side(width), side(height))
}

/// The photo at the panel's size: averaged where it is larger, bilinear where it is smaller.
pub fn scaled_photo(photo: &Photo, width: usize, height: usize) -> Vec<[u8; 3]> {
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
pub fn ticks(low: f64, high: f64, most: usize) -> Vec<(f64, String)> {
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

    /// One line of text with its upper left corner at (left, top); what does not fit is cut off.
    pub fn text(&mut self, left: usize, top: usize, text: &str, ink: [u8; 3]) {
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
    pub fn scale_bar(
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
            let start = (x + 1).saturating_sub(length / 2).min((left + width).saturating_sub(length)).max(left);
            self.text(start, top + BAR + TICK + 6, &label, INK);
        }
    }
}
