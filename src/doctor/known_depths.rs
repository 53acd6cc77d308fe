//! Depths that surfaces are known to have, whoever found them, and the median that checks sum numbers up with.

use crate::scene::camera::DepthRange;
use crate::scene::range::without_strays;

/// Depths that surfaces are known to have, by view: from sparse points or from matched photos.
#[derive(Clone, Debug, Default)]
pub struct KnownDepths {
    /// `[view]`: depths in front of it, unsorted.
    pub of_views: Vec<Vec<f64>>,
    /// What they are from, for messages: `sparse points`.
    pub from: &'static str,
}

impl KnownDepths {
    /// Fewer say nothing about a view's range.
    pub const FEWEST: usize = 20;

    /// The 1st and 99th percentile of a view's known depths without strays, where enough are known.
    pub fn span(&self, view: usize) -> Option<DepthRange> {
        let mut depths = self.of_views.get(view)?.clone();
        if depths.len() < Self::FEWEST {
            return None;
        }
        depths.sort_unstable_by(f64::total_cmp);
        let depths = without_strays(&depths);
        let at = |percent: usize| depths[(depths.len() - 1) * percent / 100];
        Some(DepthRange { near: at(1), far: at(99) })
    }

    /// The share of a view's known depths outside a range, where enough are known.
    pub fn outside(&self, view: usize, range: DepthRange) -> Option<f64> {
        let depths = self.of_views.get(view)?;
        let outside = depths.iter().filter(|&&z| z < range.near || z > range.far).count();
        (depths.len() >= Self::FEWEST).then(|| outside as f64 / depths.len() as f64)
    }
}

/// The lower median; `None` of nothing. Infinite values are larger than any other.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    let middle = values.len().checked_sub(1)? / 2;
    Some(*values.select_nth_unstable_by(middle, f64::total_cmp).1)
}
