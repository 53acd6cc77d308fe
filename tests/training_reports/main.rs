//! What a training run measures and shows, against plain loops, an independent decoder and cases solved by hand.

mod events;
mod journal;
mod metrics;
mod panels;
mod split;

use engine::files::map::Map;

/// Numbers without a pattern, the same every time (Knuth's multiplier).
pub struct Numbers(u64);

impl Numbers {
    /// Every seed has its own.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// 0..1.
    pub fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// One row.
pub fn row(values: &[f32]) -> Map {
    Map { width: values.len(), height: 1, data: values.to_vec() }
}

/// Holds a number to what it should be, to a part `tolerance` of it.
pub fn close(found: Option<f64>, expected: f64, tolerance: f64, what: &str) {
    let found = found.unwrap_or_else(|| panic!("{what}: nothing, expected {expected}"));
    assert!((found - expected).abs() <= tolerance * expected.abs(), "{what}: {found}, expected {expected}");
}
