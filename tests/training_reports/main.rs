//! What a training run measures and shows, against plain loops, an independent decoder and cases solved by hand.

mod events;
mod journal;
mod metrics;
mod panels;
mod split;

use engine::files::map::Map;

/// One row.
pub fn row(values: &[f32]) -> Map {
    Map { width: values.len(), height: 1, data: values.to_vec() }
}

/// Holds a number to what it should be, to a part `tolerance` of it.
pub fn close(found: Option<f64>, expected: f64, tolerance: f64, what: &str) {
    let found = found.unwrap_or_else(|| panic!("{what}: nothing, expected {expected}"));
    assert!((found - expected).abs() <= tolerance * expected.abs(), "{what}: {found}, expected {expected}");
}
