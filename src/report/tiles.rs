//! A cloud in pieces: cells of the octree over its grid, each of few enough points to be sent and drawn at a time, and
//! near enough to one corner for 16 bits.
//!
//! The bytes of a tile are planes, one after the other, of `count` bytes each, because like bytes pack well: low and
//! high bytes of the steps in x, y and z from one point to the next (16 bits, modulo 2^16, zigzag: 0, -1, 1, -2, ...);
//! green, red less green, blue less green, confidence, views, and the two of the normal. All but the views are the
//! difference from the point before, modulo 256; the first point's is from 0. Steps are counted from the tile's corner,
//! in quanta, or in 2^shift quanta where the cell is too large.

use std::ops::Range;

use crate::report::grid::{self, BITS};
use crate::report::quantise::Packed;

/// Points of a tile: enough for a drawing call to be worth it, few enough for a piece of a cell to matter.
pub const MOST: usize = 1 << 16;
/// Planes of bytes.
pub const PLANES: usize = 13;
/// A cell of this level has sides of 2^16 quanta.
const LEVEL_OF_16_BITS: u32 = BITS - 16;

/// A cell of the octree, or a piece of one.
#[derive(Clone, Debug, PartialEq)]
pub struct Tile {
    /// Levels below the cell of all places.
    pub level: u32,
    /// The corner with the least coordinates, in quanta.
    pub corner: [u32; 3],
    /// Its points, of all of the cloud's.
    pub points: Range<usize>,
}

impl Tile {
    /// The cell of all places, of a cloud of so many points.
    pub fn root(points: usize) -> Self {
        Self { level: 0, corner: [0; 3], points: 0..points }
    }

    /// The side, in quanta.
    pub fn side(&self) -> u32 {
        1 << (BITS - self.level)
    }

    /// By how many bits steps are coarser than quanta.
    pub fn shift(&self) -> u32 {
        LEVEL_OF_16_BITS.saturating_sub(self.level)
    }

    /// The cells of the next level that hold points; none at the last level.
    pub fn children(&self, points: &[Packed]) -> Vec<Tile> {
        if self.level == BITS {
            return Vec::new();
        }
        let (level, mut rest) = (self.level + 1, self.points.clone());
        let mut children = Vec::new();
        while !rest.is_empty() {
            let bits = 3 * (BITS - level);
            let cell = points[rest.start].key >> bits;
            let end = rest.start + points[rest.clone()].partition_point(|p| p.key >> bits == cell);
            children.push(Tile { level, corner: grid::place(cell << bits), points: rest.start..end });
            rest.start = end;
        }
        children
    }
}

/// Tiles with all points, each once, in their order.
pub fn leaves(points: &[Packed]) -> Vec<Tile> {
    let mut found = Vec::new();
    let mut next = vec![Tile::root(points.len())];
    while let Some(tile) = next.pop() {
        if tile.points.is_empty() {
            continue;
        }
        if tile.shift() > 0 || (tile.points.len() > MOST && tile.level < BITS) {
            next.extend(tile.children(points).into_iter().rev());
            continue;
        }
        // More than a tile's points at one place.
        let Range { start, end } = tile.points;
        for from in (start..end).step_by(MOST) {
            found.push(Tile { points: from..end.min(from + MOST), ..tile });
        }
    }
    found
}

/// Appends the bytes of every `every`-th point of a tile, and gives how many there are.
pub fn encode(tile: &Tile, points: &[Packed], every: usize, out: &mut Vec<u8>) -> usize {
    let points = points[tile.points.clone()].iter().step_by(every);
    let (count, start) = (points.len(), out.len());
    out.resize(start + PLANES * count, 0);
    let planes = &mut out[start..];
    let (mut before, mut bytes_before) = ([0u16; 3], [0u8; 7]);
    for (i, point) in points.enumerate() {
        let place = grid::place(point.key);
        for axis in 0..3 {
            let at = ((place[axis] - tile.corner[axis]) >> tile.shift()) as u16;
            let step = at.wrapping_sub(before[axis]) as i16;
            let [low, high] = (((step << 1) ^ (step >> 15)) as u16).to_le_bytes();
            planes[2 * axis * count + i] = low;
            planes[(2 * axis + 1) * count + i] = high;
            before[axis] = at;
        }
        let [red, green, blue] = point.colour;
        let [u, v] = point.normal;
        let bytes = [green, red.wrapping_sub(green), blue.wrapping_sub(green), point.confidence, point.views, u, v];
        for (plane, byte) in bytes.into_iter().enumerate() {
            let from = if plane == 4 { 0 } else { bytes_before[plane] };
            planes[(6 + plane) * count + i] = byte.wrapping_sub(from);
        }
        bytes_before = bytes;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::random::Random;

    /// Points in a corner, a few strays, and more at one place than a tile holds.
    fn cloud() -> Vec<Packed> {
        let mut random = Random::from_state(7);
        let mut below = |most: u32| (random.unit() * f64::from(most)) as u32;
        let mut places: Vec<[u32; 3]> =
            (0..200_000).map(|_| [70_000 + below(3000), below(40_000), 1 << 20 | below(9)]).collect();
        places.extend((0..50).map(|_| [below(1 << 21), below(1 << 21), below(1 << 21)]));
        places.extend(std::iter::repeat_n([5, 6, 7], MOST + 10));
        let point = |(i, at): (usize, [u32; 3])| Packed {
            key: grid::key(at),
            colour: [i as u8, (i >> 8) as u8, 3],
            confidence: (i % 251) as u8,
            views: (i % 11) as u8,
            normal: [(i % 255) as u8, 200],
        };
        let mut points: Vec<Packed> = places.into_iter().enumerate().map(point).collect();
        points.sort_unstable();
        points
    }

    /// As the page does it, in plain steps.
    fn decode(tile: &Tile, bytes: &[u8], count: usize) -> Vec<Packed> {
        let (mut place, mut sums) = ([0u16; 3], [0u8; 7]);
        let point = |i: usize| {
            for (axis, at) in place.iter_mut().enumerate() {
                let step = u16::from_le_bytes([bytes[2 * axis * count + i], bytes[(2 * axis + 1) * count + i]]);
                let step = if step.is_multiple_of(2) { (step / 2) as i16 } else { -((step / 2) as i16) - 1 };
                *at = at.wrapping_add(step as u16);
            }
            for (plane, sum) in sums.iter_mut().enumerate() {
                let byte = bytes[(6 + plane) * count + i];
                *sum = if plane == 4 { byte } else { sum.wrapping_add(byte) };
            }
            let [green, red, blue, confidence, views, u, v] = sums;
            let at = [0, 1, 2].map(|axis| tile.corner[axis] + (u32::from(place[axis]) << tile.shift()));
            let colour = [red.wrapping_add(green), green, blue.wrapping_add(green)];
            Packed { key: grid::key(at), colour, confidence, views, normal: [u, v] }
        };
        (0..count).map(point).collect()
    }

    #[test]
    fn leaves_hold_every_point_once_and_bytes_give_them_back() {
        let points = cloud();
        let tiles = leaves(&points);
        let mut end = 0;
        for tile in &tiles {
            assert_eq!(tile.points.start, end);
            end = tile.points.end;
            assert!(tile.points.len() <= MOST && tile.shift() == 0);
            let mut bytes = vec![99];
            assert_eq!(encode(tile, &points, 1, &mut bytes), tile.points.len());
            assert_eq!(decode(tile, &bytes[1..], tile.points.len()), points[tile.points.clone()]);
        }
        assert_eq!(end, points.len());
        assert!(leaves(&[]).is_empty());
    }

    #[test]
    fn coarse_tiles_are_coarse_by_their_shift_only() {
        let points = cloud();
        let root = Tile::root(points.len());
        let mut bytes = Vec::new();
        let count = encode(&root, &points, 1000, &mut bytes);
        assert_eq!(count, points.len().div_ceil(1000));
        for (found, point) in decode(&root, &bytes, count).iter().zip(points.iter().step_by(1000)) {
            let (found, place) = (grid::place(found.key), grid::place(point.key));
            assert!((0..3).all(|axis| place[axis] - found[axis] < 1 << root.shift()), "{found:?} {place:?}");
        }
    }
}
