//! A photo in memory and what is done to it before the network sees it.

/// Linear 0..1 RGB values as stored in the file (no gamma is removed), [height, width, 3].
#[derive(Clone, Debug, PartialEq)]
pub struct Photo {
    /// Pixels a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `height * width * 3` values, red green blue.
    pub rgb: Vec<f32>,
}
