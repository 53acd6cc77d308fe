//! The distance to the nearest point of a cloud: a k-d tree without pointers.
//!
//! The points are reordered so that every node is a piece of the array: its middle point splits it at the median of
//! the axis along which the piece is widest, the points before it lie on one side and those after it on the other. So
//! the tree takes 25 bytes a point, and neither outliers far away nor crowds at one place unbalance it, as they would
//! a grid. Coordinates are f64, as is every difference, square and bound.
//!
//! A search goes down to the leaf where the point would lie and back up through the sides that may hold a nearer
//! point. Bounds are sums of squares in the same order as distances, so rounding never makes a bound larger than a
//! distance behind it and the result is the exact minimum. Bounded by cache misses: asking in the order of another
//! tree ([`Tree::points`]) is fastest.

use rayon::prelude::*;

use crate::host::interrupt;

/// Pieces of at most this many points are looked through instead of split.
const LEAF: usize = 10;
/// Pieces larger than this are built by several threads.
const SPLIT_WORK: usize = 1 << 14;
/// Points that one task asks for.
const CHUNK: usize = 2048;

/// Points in an order that makes their nearest one quick to find.
#[derive(Clone, Debug)]
pub struct Tree {
    points: Vec<[f64; 3]>,
    /// For the middle of each piece: the axis that it is split along.
    axes: Vec<u8>,
}

impl Tree {
    /// Orders finite points. The order depends on the points alone, not on the number of threads. Where the user asks
    /// to stop ([`interrupt`]) it is of no use.
    pub fn new(mut points: Vec<[f64; 3]>) -> Self {
        let mut axes = vec![0; points.len()];
        split(&mut points, &mut axes);
        Self { points, axes }
    }

    /// The points in the tree's order: neighbours in space are mostly neighbours here.
    pub fn points(&self) -> &[[f64; 3]] {
        &self.points
    }

    /// The points in the tree's order.
    pub fn into_points(self) -> Vec<[f64; 3]> {
        self.points
    }

    /// The distance from a place to the nearest point if that is less than `limit` (which may be infinite).
    pub fn distance(&self, from: [f64; 3], limit: f64) -> Option<f64> {
        // One step more than the limit's square: whether the root of a square just below it is less is decided on the
        // root.
        let mut best = (limit * limit).next_up();
        self.search(from, 0, self.points.len(), [0.0; 3], &mut best);
        Some(best.sqrt()).filter(|&distance| distance < limit)
    }

    /// The distance from each place to its nearest point, infinite where that is not less than `limit`. Where the user
    /// asks to stop, the rest are left infinite.
    pub fn distances(&self, from: &[[f64; 3]], limit: f64) -> Vec<f64> {
        let mut found = vec![f64::INFINITY; from.len()];
        found.par_chunks_mut(CHUNK).zip(from.par_chunks(CHUNK)).for_each(|(found, from)| {
            if interrupt::is_asked_to_stop() {
                return;
            }
            for (found, &from) in found.iter_mut().zip(from) {
                *found = self.distance(from, limit).unwrap_or(f64::INFINITY);
            }
        });
        found
    }

    /// Lowers `best`, a squared distance, to that of the nearest point in `start..end`. `away` is how far the piece is
    /// from the place along each axis, as far as the splits above tell.
    fn search(&self, from: [f64; 3], start: usize, end: usize, away: [f64; 3], best: &mut f64) {
        if end - start <= LEAF {
            for point in &self.points[start..end] {
                *best = best.min(squared(difference(from, *point)));
            }
            return;
        }
        let middle = start + (end - start) / 2;
        let apart = difference(from, self.points[middle]);
        *best = best.min(squared(apart));
        let axis = usize::from(self.axes[middle]);
        let [lower, upper] = [(start, middle), (middle + 1, end)];
        let (near, far) = if apart[axis] < 0.0 { (lower, upper) } else { (upper, lower) };
        self.search(from, near.0, near.1, away, best);
        let mut beyond = away;
        beyond[axis] = apart[axis];
        if squared(beyond) < *best {
            self.search(from, far.0, far.1, beyond, best);
        }
    }
}

fn split(points: &mut [[f64; 3]], axes: &mut [u8]) {
    if points.len() <= LEAF {
        return;
    }
    let is_large = points.len() > SPLIT_WORK;
    if is_large && interrupt::is_asked_to_stop() {
        return;
    }
    let (middle, axis) = (points.len() / 2, widest(points));
    points.select_nth_unstable_by(middle, |a, b| a[axis].total_cmp(&b[axis]));
    axes[middle] = axis as u8;
    let (lower, upper) = points.split_at_mut(middle);
    let (lower_axes, upper_axes) = axes.split_at_mut(middle);
    let mut lower = || split(lower, lower_axes);
    let mut upper = || split(&mut upper[1..], &mut upper_axes[1..]);
    if is_large {
        rayon::join(lower, upper);
    } else {
        lower();
        upper();
    }
}

/// The axis along which the points spread most.
fn widest(points: &[[f64; 3]]) -> usize {
    let (low, high) = bounds(points);
    let spread = [0, 1, 2].map(|axis| high[axis] - low[axis]);
    (1..3).fold(0, |best, axis| if spread[axis] > spread[best] { axis } else { best })
}

/// The corners of the box around the points; an inverted box around none.
pub fn bounds(points: &[[f64; 3]]) -> ([f64; 3], [f64; 3]) {
    points.iter().fold(([f64::INFINITY; 3], [f64::NEG_INFINITY; 3]), |(low, high), point| {
        ([0, 1, 2].map(|a| low[a].min(point[a])), [0, 1, 2].map(|a| high[a].max(point[a])))
    })
}

#[inline]
pub(super) fn difference(from: [f64; 3], to: [f64; 3]) -> [f64; 3] {
    [from[0] - to[0], from[1] - to[1], from[2] - to[2]]
}

#[inline]
pub(super) fn squared(v: [f64; 3]) -> f64 {
    v[0] * v[0] + v[1] * v[1] + v[2] * v[2]
}
