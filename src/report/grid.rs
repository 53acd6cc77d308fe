//! The grid that points are put on, and the order in which they are kept: Morton's, in which neighbours in the file are
//! neighbours in space, and in which each cell of an octree is one piece.

use glam::DVec3;

/// Bits of a coordinate: three of them fit into a key.
pub const BITS: u32 = 21;
/// The last place of an axis.
pub const LAST: u32 = (1 << BITS) - 1;
/// Steps across the inner part of a cloud. A cloud of a million points on surfaces has some thousand points across it,
/// so that a step is a thirtieth of their distance.
const STEPS: f64 = 32_768.0;

/// Evenly spaced places: `origin + quantum * [i, j, k]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    /// The place [0, 0, 0], in scene units.
    pub origin: DVec3,
    /// The distance of two places along an axis, in scene units.
    pub quantum: f64,
}

impl Grid {
    /// For points in the box from `low` to `high`, most of which lie in one whose diagonal is `inner`.
    ///
    /// The quantum is the inner diagonal by 32768, or more where the whole box would need too many steps, rounded up to
    /// two digits, so that it can be told.
    pub fn new(low: DVec3, high: DVec3, inner: f64) -> Self {
        // A little less than there are, for the rounding up.
        let most = 0.9 * f64::from(LAST);
        let quantum = (inner / STEPS).max((high - low).max_element() / most);
        // All points at one place, as far as f64 tells.
        let least = 1e-12 * low.abs().max(high.abs()).max_element().max(1e-6);
        Self { origin: low, quantum: two_digits_up(quantum.max(least)) }
    }

    /// The place next to a point of the box.
    pub fn place(&self, point: DVec3) -> [u32; 3] {
        let steps = ((point - self.origin) / self.quantum).round();
        steps.to_array().map(|step| step.clamp(0.0, f64::from(LAST)) as u32)
    }

    /// Where a place lies.
    pub fn position(&self, place: [u32; 3]) -> DVec3 {
        self.origin + self.quantum * DVec3::from(place.map(f64::from))
    }
}

/// The next number up with two digits: 0.00123 becomes 0.0013.
fn two_digits_up(value: f64) -> f64 {
    let exponent = value.log10().floor() as i32 - 1;
    let digits = (value / 10f64.powi(exponent) - 1e-9).ceil();
    // As it is written, so that what is told is what is used.
    format!("{digits}e{exponent}").parse().unwrap_or(value)
}

/// The bits of three coordinates in turn, x's lowest first.
pub fn key(place: [u32; 3]) -> u64 {
    let [x, y, z] = place.map(spread);
    x | y << 1 | z << 2
}

/// The coordinates of a key.
pub fn place(key: u64) -> [u32; 3] {
    [0, 1, 2].map(|axis| gathered(key >> axis))
}

/// 21 bits, each three places from the next.
fn spread(value: u32) -> u64 {
    let mut v = u64::from(value & LAST);
    v = (v | v << 32) & 0x001f_0000_0000_ffff;
    v = (v | v << 16) & 0x001f_0000_ff00_00ff;
    v = (v | v << 8) & 0x100f_00f0_0f00_f00f;
    v = (v | v << 4) & 0x10c3_0c30_c30c_30c3;
    (v | v << 2) & 0x1249_2492_4924_9249
}

fn gathered(key: u64) -> u32 {
    let mut v = key & 0x1249_2492_4924_9249;
    v = (v | v >> 2) & 0x10c3_0c30_c30c_30c3;
    v = (v | v >> 4) & 0x100f_00f0_0f00_f00f;
    v = (v | v >> 8) & 0x001f_0000_ff00_00ff;
    v = (v | v >> 16) & 0x001f_0000_0000_ffff;
    ((v | v >> 32) & u64::from(LAST)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_hold_places_bit_by_bit() {
        for at in [[0, 0, 0], [1, 2, 4], [LAST, 0, 7], [0x15_5555, 0x0a_aaaa, LAST], [123_456, 1_999_999, 77]] {
            let plain = (0..BITS).fold(0u64, |key, bit| {
                let of_axis = |axis: usize| u64::from(at[axis] >> bit & 1) << (3 * bit as usize + axis);
                key | of_axis(0) | of_axis(1) | of_axis(2)
            });
            assert_eq!(key(at), plain, "{at:?}");
            assert_eq!(place(plain), at);
        }
    }

    #[test]
    fn every_point_lies_within_half_a_quantum_of_its_place() {
        let boxes = [
            (DVec3::new(-1.0, 2.0, 3.0), DVec3::new(1.0, 2.5, 9.0), 4.0),
            // Strays a thousand times as far as the rest; UTM; a single point.
            (DVec3::splat(-5000.0), DVec3::splat(5000.0), 3.0),
            (DVec3::new(4.4e5, 5.4e6, 300.0), DVec3::new(4.41e5, 5.401e6, 420.0), 1500.0),
            (DVec3::splat(7.0), DVec3::splat(7.0), 0.0),
            (DVec3::ZERO, DVec3::ZERO, 0.0),
        ];
        for (low, high, inner) in boxes {
            let grid = Grid::new(low, high, inner);
            for share in [0.0, 0.1234567, 0.5, 0.987654, 1.0] {
                let point = low + share * (high - low);
                let off = (grid.position(grid.place(point)) - point).abs().max_element();
                // Beside half a quantum, the rounding of coordinates themselves.
                assert!(off <= 0.5 * grid.quantum + 1e-15 * point.abs().max_element(), "{grid:?} {point} {off}");
            }
            assert!(inner == 0.0 || grid.quantum >= inner / STEPS);
        }
    }

    #[test]
    fn quanta_have_two_digits() {
        assert_eq!([0.00123, 0.0013, 9.91, 100.0, 1.0 / 3.0].map(two_digits_up), [0.0013, 0.0013, 10.0, 100.0, 0.34]);
    }
}
