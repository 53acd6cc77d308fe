//! A dense map with one f32 a pixel: depth, confidence, a channel of anything.

/// Row-major [height, width]; row 0 is the top.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    /// Pixels a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `height * width` values.
    pub data: Vec<f32>,
}

impl Map {
    /// A map filled with `value`.
    pub fn filled(width: usize, height: usize, value: f32) -> Self {
        Self { width, height, data: vec![value; width * height] }
    }

    /// Its first columns and rows; no more than it has.
    pub fn cropped(self, (width, height): (usize, usize)) -> Self {
        if (self.width, self.height) == (width, height) {
            return self;
        }
        let rows = self.data.chunks_exact(self.width.max(1)).take(height);
        let data = rows.flat_map(|row| &row[..width.min(self.width)]).copied().collect();
        Self { width: width.min(self.width), height: height.min(self.height), data }
    }

    /// The value at column `x` and row `y`.
    #[inline]
    pub fn at(&self, x: usize, y: usize) -> f32 {
        self.data[y * self.width + x]
    }

    /// Bilinear value at a pixel position; `None` where one of the (up to four) neighbours with a non-zero weight
    /// lies outside the map.
    #[inline]
    pub fn bilinear(&self, x: f64, y: f64) -> Option<f64> {
        if !(x >= 0.0 && y >= 0.0 && x <= (self.width - 1) as f64 && y <= (self.height - 1) as f64) {
            return None;
        }
        let (x0, y0) = (x as usize, y as usize);
        let (x1, y1) = ((x0 + 1).min(self.width - 1), (y0 + 1).min(self.height - 1));
        let (fx, fy) = (x - x0 as f64, y - y0 as f64);
        let top = self.at(x0, y0) as f64 * (1.0 - fx) + self.at(x1, y0) as f64 * fx;
        let bottom = self.at(x0, y1) as f64 * (1.0 - fx) + self.at(x1, y1) as f64 * fx;
        Some(top * (1.0 - fy) + bottom * fy)
    }
}
