//! Maps side by side: photo, depth, error and confidence of one view, each with its name above, and below it a scale
//! and a remark.
//!
//! Nearest pixels are shown, not interpolated ones: the maps' own values. Pixels without a truth are dark grey in
//! truth and error, pixels without a depth light grey. Which maps make a picture is said by those who draw one.

use super::canvas::{Canvas, scale_height};
use super::colours::{self, INK, NO_DEPTH, NO_TRUTH, PALE_INK};
use super::font;
use crate::files::map::Map;
use crate::maps::consistency::is_depth;
use crate::scene::photo::Photo;

/// Errors of so many intervals and more have the last colour: two are still right as far as the confidence goes.
pub const ERROR_CLIP_INTERVALS: f64 = 4.0;
/// Without intervals, errors of so many per cent of the depth and more have the last colour.
pub const ERROR_CLIP_PERCENT: f64 = 2.0;

/// Pixels around and between panels.
pub const MARGIN: usize = 24;
/// From a panel to what stands above and below it.
const GAP: usize = 12;
/// A column has room for words, and be its panel ever so narrow.
const LEAST_COLUMN: usize = 264;

/// A picture of one row of panels, filled from left to right.
pub struct MapPanels {
    canvas: Canvas,
    /// Width and height of each panel.
    panel: (usize, usize),
    /// Width of a column; a narrower panel stands in its middle.
    column: usize,
    /// Size of letters.
    text: usize,
    /// Left end of the next column.
    left: usize,
}

/// A whole multiple of a map's size if that gives `rows` to 1.5 `rows` rows, else 1.2 `rows`; at most 1600 columns.
fn panel_size(width: usize, height: usize, rows: usize) -> (usize, usize) {
    let whole = rows.div_ceil(height);
    let fits = (rows..=rows + rows / 2).contains(&(height * whole));
    let scale = if fits { whole as f64 } else { 1.2 * rows as f64 / height as f64 };
    let scale = scale.min(1600.0 / width as f64);
    let side = |n: usize| ((n as f64 * scale).round() as usize).max(1);
    (side(width), side(height))
}

impl MapPanels {
    /// For `panels` maps of one size, with panels of `rows` rows to half as many more.
    pub fn new(map: &Map, rows: usize, panels: usize) -> Self {
        let panel = panel_size(map.width, map.height, rows);
        let column = panel.0.max(LEAST_COLUMN);
        // Pictures are shown about as wide as a page: the wider the panels, the larger the letters.
        let text = (column / 22).clamp(20, 32);
        let mut made = Self { canvas: Canvas::new(0, 0), panel, column, text, left: MARGIN };
        let height = made.below() + scale_height(text) + made.line() + MARGIN;
        made.canvas = Canvas::new(MARGIN + panels * (column + MARGIN), height);
        made
    }

    fn line(&self) -> usize {
        (font::LINE * self.text as f64).round() as usize
    }

    /// The first row of the panels.
    fn top(&self) -> usize {
        MARGIN + (font::CAPITAL * self.text as f64).round() as usize + GAP
    }

    /// The first row of the scales.
    fn below(&self) -> usize {
        self.top() + self.panel.1 + GAP
    }

    /// What was drawn.
    pub fn canvas(self) -> Canvas {
        self.canvas
    }

    /// The photo at the panel's size, with up to three lines of words below.
    pub fn photo(&mut self, photo: &Photo, lines: &[String]) {
        let (width, height) = self.panel;
        let scaled = scaled_photo(photo, width, height);
        self.panel("photo", |x, y| scaled[y * width + x]);
        for (i, line) in lines.iter().enumerate() {
            self.canvas.text(self.left, self.below() + i * self.line(), line, self.text, PALE_INK);
        }
        self.advance();
    }

    /// Depths between two ends, which a map without any depth has not.
    pub fn depth(&mut self, name: &str, map: &Map, ends: Option<(f64, f64)>, missing: [u8; 3]) {
        let at = self.reader(map);
        self.panel(name, |x, y| match (at(x, y), ends) {
            (d, Some((near, far))) if is_depth(d) => colours::depth((f64::from(d) - near) / (far - near)),
            _ => missing,
        });
        match ends {
            Some(ends) => self.scale(ends, "scene units", colours::depth),
            None => self.canvas.text(self.left, self.below(), "no depth", self.text, PALE_INK),
        }
        self.advance();
    }

    /// How far depths are from the truth, in intervals or, where that is not known, in per cent.
    pub fn error(&mut self, truth: &Map, depth: &Map, interval: Option<f64>) {
        let (clip, unit) = match interval {
            Some(_) => (ERROR_CLIP_INTERVALS, "intervals"),
            None => (ERROR_CLIP_PERCENT, "% of depth"),
        };
        let (truth, depth) = (self.reader(truth), self.reader(depth));
        self.panel("error", |x, y| match (truth(x, y), depth(x, y)) {
            (truth, _) if !is_depth(truth) => NO_TRUTH,
            (_, depth) if !is_depth(depth) => NO_DEPTH,
            (truth, depth) => {
                let (truth, depth) = (f64::from(truth), f64::from(depth));
                colours::error((depth - truth).abs() / interval.unwrap_or(truth / 100.0) / clip)
            }
        });
        self.scale((0.0, clip), &format!("{unit}, {clip} or more"), colours::error);
        self.advance();
    }

    /// Confidences, with a remark below their scale.
    pub fn confidence(&mut self, map: &Map, remark: &str) {
        let at = self.reader(map);
        self.panel("confidence", |x, y| match f64::from(at(x, y)) {
            c if c.is_nan() => NO_DEPTH,
            c => colours::confidence(c),
        });
        self.scale((0.0, 1.0), remark, colours::confidence);
        self.advance();
    }

    /// The map's value at a panel's column and row.
    fn reader<'a>(&self, map: &'a Map) -> impl Fn(usize, usize) -> f32 + use<'a> {
        let (width, height) = self.panel;
        move |x, y| map.at(x * map.width / width, y * map.height / height)
    }

    fn panel(&mut self, name: &str, pixel: impl Fn(usize, usize) -> [u8; 3]) {
        let ((width, height), top) = (self.panel, self.top());
        self.canvas.text(self.left, MARGIN, name, self.text, INK);
        self.canvas.panel(self.left + (self.column - width) / 2, top, width, height, pixel);
    }

    fn scale(&mut self, ends: (f64, f64), remark: &str, colour: impl Fn(f64) -> [u8; 3]) {
        let (left, below, text) = (self.left, self.below(), self.text);
        self.canvas.scale((left, below), self.column, text, ends, colour);
        let gap = self.line() - (font::CAPITAL * text as f64).round() as usize;
        self.canvas.text(left, below + scale_height(text) + gap, remark, text, PALE_INK);
    }

    fn advance(&mut self) {
        self.left += self.column + MARGIN;
    }
}

/// The photo at another size: averaged where it is larger, bilinear where it is smaller.
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
