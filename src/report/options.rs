//! What a report can be told.

use std::path::PathBuf;

/// Points that a report shows unless told otherwise: about 8.5 MB of a file.
pub const MOST_POINTS: usize = 1_000_000;
/// Pixels of all views' pictures together unless told otherwise, so that a report of many views stays small: about
/// 6 MB, so that a page of a million points has less than 15.
pub const VIEW_PIXELS: f64 = 3e6;

/// Everything that [`crate::report::making::report`] can be told.
#[derive(Clone, Debug)]
pub struct ReportOptions {
    /// The file to write; `None`: [`crate::run::products::REPORT`] in the run's folder.
    pub file: Option<PathBuf>,
    /// Write over a file that is no report.
    pub force: bool,
    /// The scene's folder, if it is not where the run has found it.
    pub scene: Option<PathBuf>,
    /// Points of the cloud to show; of more, these are taken evenly in the cloud's order.
    pub max_points: usize,
    /// Longest side of the pictures of views, in pixels; `None`: so that all have [`VIEW_PIXELS`] together.
    pub picture_side: Option<usize>,
    /// Whether the doctor is asked.
    pub doctor: bool,
    /// Whether the doctor also matches the photos, which takes its time.
    pub match_photos: bool,
}

impl Default for ReportOptions {
    fn default() -> Self {
        Self {
            file: None,
            force: false,
            scene: None,
            max_points: MOST_POINTS,
            picture_side: None,
            doctor: true,
            match_photos: false,
        }
    }
}
