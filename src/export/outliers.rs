//! Points that stand alone: statistical outlier removal (R. B. Rusu et al., "Towards 3D point cloud based object maps
//! for household environments", 2008, section 3.2).
//!
//! The mean distance of each point to its nearest neighbours is compared with the mean and the standard deviation of
//! that number over the whole cloud. Neighbours are found in a k-d tree of indices; the result depends on the points
//! alone, not on threads: sums are taken in the cloud's order.

use rayon::prelude::*;

use crate::error::Result;
use crate::files::ply::Point;
use crate::host::interrupt;

/// Neighbours that a point is judged by.
pub const NEIGHBOURS: usize = 16;
/// Pieces of at most this many points are looked through instead of split.
const LEAF: usize = 16;

/// The points whose mean distance to their [`NEIGHBOURS`] nearest ones is at most so many standard deviations above
/// the cloud's mean, in their order. A cloud of fewer points stays as it is.
///
/// # Errors
/// [`crate::Error::Interrupted`].
pub fn without(points: Vec<Point>, deviations: f64) -> Result<Vec<Point>> {
    if points.len() <= NEIGHBOURS {
        return Ok(points);
    }
    let distances = mean_distances(&points);
    interrupt::check()?;
    let count = distances.len() as f64;
    let mean = distances.iter().sum::<f64>() / count;
    let variance = distances.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (count - 1.0);
    let most = mean + deviations * variance.sqrt();
    Ok(points.into_iter().zip(distances).filter(|(_, distance)| *distance <= most).map(|(point, _)| point).collect())
}

/// Of every point, the mean distance to its nearest neighbours, itself not among them.
fn mean_distances(points: &[Point]) -> Vec<f64> {
    let tree = Tree::new(points);
    let mut by_place: Vec<(u32, f64)> = tree
        .order
        .par_iter()
        .map(|&own| {
            let mut nearest =
                Nearest { own, from: points[own as usize].position, squares: [f64::INFINITY; NEIGHBOURS] };
            if !interrupt::is_asked_to_stop() {
                tree.search(0, points.len(), &mut nearest);
            }
            (own, nearest.squares.iter().map(|square| square.sqrt()).sum::<f64>() / NEIGHBOURS as f64)
        })
        .collect();
    by_place.par_sort_unstable_by_key(|&(index, _)| index);
    by_place.into_iter().map(|(_, distance)| distance).collect()
}

/// Indices of points in such an order that the middle one of every piece parts it along an axis.
struct Tree<'a> {
    points: &'a [Point],
    order: Vec<u32>,
    /// For the middle of each piece: the axis that parts it.
    axes: Vec<u8>,
}

/// The squared distances of the nearest points so far, the nearest first.
struct Nearest {
    own: u32,
    from: [f64; 3],
    squares: [f64; NEIGHBOURS],
}

impl<'a> Tree<'a> {
    fn new(points: &'a [Point]) -> Self {
        let mut order: Vec<u32> = (0..points.len() as u32).collect();
        let mut axes = vec![0; points.len()];
        split(points, &mut order, &mut axes);
        Self { points, order, axes }
    }

    /// Looks through the piece from `start` to `end`.
    fn search(&self, start: usize, end: usize, nearest: &mut Nearest) {
        if end - start <= LEAF {
            self.order[start..end].iter().for_each(|&index| nearest.meet(index, &self.points[index as usize]));
            return;
        }
        let middle = start + (end - start) / 2;
        let (axis, at) = (usize::from(self.axes[middle]), self.order[middle]);
        let beyond = nearest.from[axis] - self.points[at as usize].position[axis];
        nearest.meet(at, &self.points[at as usize]);
        let sides = [(start, middle), (middle + 1, end)];
        let [near, far] = if beyond < 0.0 { sides } else { [sides[1], sides[0]] };
        self.search(near.0, near.1, nearest);
        if beyond * beyond <= nearest.squares[NEIGHBOURS - 1] {
            self.search(far.0, far.1, nearest);
        }
    }
}

impl Nearest {
    fn meet(&mut self, index: u32, point: &Point) {
        let square: f64 = (0..3).map(|axis| (point.position[axis] - self.from[axis]).powi(2)).sum();
        if index == self.own || square >= self.squares[NEIGHBOURS - 1] {
            return;
        }
        let place = self.squares.partition_point(|&other| other <= square);
        self.squares[place..].rotate_right(1);
        self.squares[place] = square;
    }
}

/// Parts a piece along the axis in which it is widest, and its parts in turn.
fn split(points: &[Point], order: &mut [u32], axes: &mut [u8]) {
    if order.len() <= LEAF {
        return;
    }
    let (mut low, mut high) = ([f64::INFINITY; 3], [f64::NEG_INFINITY; 3]);
    for &index in order.iter() {
        for (axis, &value) in points[index as usize].position.iter().enumerate() {
            low[axis] = low[axis].min(value);
            high[axis] = high[axis].max(value);
        }
    }
    let widest = (0..3).max_by(|&a, &b| (high[a] - low[a]).total_cmp(&(high[b] - low[b]))).unwrap_or(0);
    let middle = order.len() / 2;
    let value = |index: u32| points[index as usize].position[widest];
    // Equal coordinates are told apart by index, so that the order is one.
    order.select_nth_unstable_by(middle, |&a, &b| value(a).total_cmp(&value(b)).then(a.cmp(&b)));
    axes[middle] = widest as u8;
    let (before, after) = order.split_at_mut(middle);
    let (axes_before, axes_after) = axes.split_at_mut(middle);
    rayon::join(|| split(points, before, axes_before), || split(points, &mut after[1..], &mut axes_after[1..]));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::random::Random;

    fn point(position: [f64; 3]) -> Point {
        Point { position, normal: [0.0; 3], colour: [0; 3], confidence: 1.0, views: 2 }
    }

    #[test]
    fn neighbours_are_those_that_a_plain_loop_finds_and_strays_go() {
        let mut random = Random::from_state(7);
        // A dense ball with many points at one place, far from the origin, and a few strays.
        let mut points: Vec<Point> =
            (0..700).map(|_| point([0, 1, 2].map(|_| 4e6 + random.unit() * random.unit()))).collect();
        points.extend((0..40).map(|_| point([4e6; 3])));
        points.extend([[4e6 + 9.0, 4e6, 4e6], [4e6, 4e6 - 7.0, 4e6]].map(point));
        let plain: Vec<f64> = (0..points.len())
            .map(|own| {
                let apart = |other: usize| {
                    let [a, b] = [own, other].map(|i| points[i].position);
                    (0..3).map(|axis| (b[axis] - a[axis]).powi(2)).sum::<f64>()
                };
                let mut all: Vec<f64> = (0..points.len()).filter(|&other| other != own).map(apart).collect();
                all.sort_by(f64::total_cmp);
                all[..NEIGHBOURS].iter().map(|square| square.sqrt()).sum::<f64>() / NEIGHBOURS as f64
            })
            .collect();
        // The same differences, squares and sums: not a bit may differ.
        assert_eq!(mean_distances(&points), plain);
        let left = without(points.clone(), 6.0).unwrap();
        assert_eq!(left, points[..740]);
        assert_eq!(without(points[..NEIGHBOURS].to_vec(), 0.0).unwrap(), points[..NEIGHBOURS]);
    }
}
