//! Which pixels of maps that others may have written can be used: a confidence is a number from 0 to 1, and a depth
//! leads to a point whose coordinates are finite.
//!
//! What is outside is no small matter of taste: an infinite confidence passes every threshold and outvotes every other
//! view. Such a pixel counts as one without depth, wherever maps are read, and it is said how many there are.

use serde::{Deserialize, Serialize};

use crate::error::counted;
use crate::files::map::Map;
use crate::maps::consistency::is_depth;

/// Sums of probabilities are rounded: so little above 1, or below 0, is neither.
const ROUNDING: f32 = 1e-3;
/// Depths beyond are nobody's; points at them would leave the range of f32.
const MOST_DEPTH: f32 = 1e30;

/// Whether a map's value is a confidence.
pub fn is_confidence(value: f32) -> bool {
    (-ROUNDING..=1.0 + ROUNDING).contains(&value)
}

/// Pixels with a depth that were taken out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Invalid {
    /// For a confidence that is none.
    pub confidence: usize,
    /// For a depth beyond all that there is.
    pub depth: usize,
}

impl Invalid {
    /// Both together.
    pub fn and(self, other: Self) -> Self {
        Self { confidence: self.confidence + other.confidence, depth: self.depth + other.depth }
    }

    /// Whether there were none.
    pub fn is_none(self) -> bool {
        self == Self::default()
    }

    /// One sentence for each kind that there was; `place` says in which maps.
    pub fn notes(self, place: &str) -> Vec<String> {
        let confidence = (self.confidence > 0).then(|| {
            let pixels = counted(self.confidence, "pixel");
            format!("{place}: {pixels} with a confidence outside 0..1 (or none) count as without depth")
        });
        let depth = (self.depth > 0).then(|| {
            format!("{place}: {} with a depth above 1e30 count as without depth", counted(self.depth, "pixel"))
        });
        confidence.into_iter().chain(depth).collect()
    }
}

/// What of these maps of one size cannot be used.
pub fn invalid(depth: &Map, confidence: &Map) -> Invalid {
    let mut found = Invalid::default();
    for (&depth, &confidence) in depth.data.iter().zip(&confidence.data) {
        let has_depth = is_depth(depth);
        found.confidence += usize::from(has_depth && !is_confidence(confidence));
        found.depth += usize::from(has_depth && is_confidence(confidence) && depth > MOST_DEPTH);
    }
    found
}

/// Takes depth and confidence of such pixels away, and counts those that had a depth.
pub fn take_out_invalid(depth: &mut Map, confidence: &mut Map) -> Invalid {
    let found = invalid(depth, confidence);
    for (depth, confidence) in depth.data.iter_mut().zip(&mut confidence.data) {
        let is_valid = is_confidence(*confidence);
        if !is_valid || *depth > MOST_DEPTH {
            *depth = 0.0;
        }
        if !is_valid {
            *confidence = 0.0;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confidences_are_from_0_to_1() {
        for value in [0.0, -0.0, -1e-7, f32::MIN_POSITIVE, 0.5, 1.0, 1.0 + f32::EPSILON] {
            assert!(is_confidence(value), "{value}");
        }
        for value in [-0.01, -1.0, 1.1, 255.0, 1e38, f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            assert!(!is_confidence(value), "{value}");
        }
    }

    #[test]
    fn pixels_that_are_none_lose_their_depth_and_are_counted() {
        let row = |data: &[f32]| Map { width: data.len(), height: 1, data: data.to_vec() };
        let mut depth = row(&[1.0, 2.0, 3.0, 4.0, 3e38, 0.0, f32::INFINITY, 7.0]);
        let mut confidence = row(&[0.5, f32::NAN, 1e38, -0.1, 0.9, 9.0, 0.9, 1.0]);
        let expected = Invalid { confidence: 3, depth: 1 };
        assert_eq!(invalid(&depth, &confidence), expected);
        assert_eq!(take_out_invalid(&mut depth, &mut confidence), expected);
        assert_eq!(depth.data, [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 7.0]);
        assert_eq!(confidence.data, [0.5, 0.0, 0.0, 0.0, 0.9, 0.0, 0.9, 1.0]);
        assert!(take_out_invalid(&mut depth, &mut confidence).is_none());
        assert_eq!(
            expected.and(Invalid::default()).notes("a.pfm"),
            [
                "a.pfm: 3 pixels with a confidence outside 0..1 (or none) count as without depth",
                "a.pfm: 1 pixel with a depth above 1e30 count as without depth"
            ]
        );
    }
}
