//! The cloud as a report keeps it: 16 bytes a point, on a [`Grid`] and in its order.
//!
//! Of a cloud that is larger than wanted, points are taken evenly in the order of its file, which goes view by view and
//! row by row: a report of the same cloud always has the same points.

use glam::DVec3;
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::files::ply::Point;
use crate::files::ply_cloud::CloudFile;
use crate::host::allocator::may_fail;
use crate::report::grid::{self, Grid};

/// Points that the cloud's extent and spacing are estimated from.
const SAMPLE: u64 = 1 << 16;
/// The share of points beyond either side of the inner box.
const OUTER: f64 = 0.01;

/// One point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Packed {
    /// Its place, by [`grid::key`].
    pub key: u64,
    /// Red, green, blue.
    pub colour: [u8; 3],
    /// Confidence times 255.
    pub confidence: u8,
    /// Views that agree.
    pub views: u8,
    /// Its normal, see [`octahedral`].
    pub normal: [u8; 2],
}

/// A cloud on its grid.
pub struct QuantisedCloud {
    /// Where the places lie.
    pub grid: Grid,
    /// In the order of their keys.
    pub points: Vec<Packed>,
    /// Points of the source.
    pub total: u64,
    /// The box of all but the outermost hundredth of the points at either end of each axis, in scene units.
    pub inner: [DVec3; 2],
    /// The median distance of neighbours in the order, in scene units.
    pub spacing: f64,
}

/// The most memory that reading so many points takes, in bytes.
pub fn need(points: u64) -> u64 {
    points.saturating_mul(size_of::<Packed>() as u64).saturating_add(SAMPLE * 64)
}

/// Whether the point of this number is taken where `most` of `total` are.
fn is_taken(at: u64, most: u64, total: u64) -> bool {
    let before = |n: u64| u128::from(n) * u128::from(most) / u128::from(total.max(1));
    most >= total || before(at + 1) > before(at)
}

/// Where points come from, more than once and in one order.
pub trait PointSource {
    /// How many there are.
    fn count(&self) -> u64;

    /// Gives every point. What `take` returns ends it.
    ///
    /// # Errors
    /// Those of reading; what `take` says.
    fn each(&self, take: impl FnMut(&Point) -> Result<()>) -> Result<()>;
}

impl PointSource for CloudFile {
    fn count(&self) -> u64 {
        self.count
    }

    fn each(&self, take: impl FnMut(&Point) -> Result<()>) -> Result<()> {
        self.each(take)
    }
}

/// Gives the points that are taken.
fn each_taken(source: &impl PointSource, most: u64, mut take: impl FnMut(u64, &Point)) -> Result<()> {
    let (mut at, mut taken) = (0, 0);
    source.each(|point| {
        if is_taken(at, most, source.count()) {
            take(taken, point);
            taken += 1;
        }
        at += 1;
        Ok(())
    })
}

/// Reads a cloud, of which at most `most` points are taken.
///
/// # Errors
/// Those of reading the file; [`Error::Memory`].
pub fn quantise(source: &impl PointSource, most: usize) -> Result<QuantisedCloud> {
    let most = (most as u64).min(source.count());
    let (mut low, mut high) = (DVec3::INFINITY, DVec3::NEG_INFINITY);
    let mut sample = Vec::new();
    let every = most.div_ceil(SAMPLE).max(1);
    each_taken(source, most, |number, point| {
        let position = DVec3::from(point.position);
        (low, high) = (low.min(position), high.max(position));
        if number.is_multiple_of(every) {
            sample.push(position);
        }
    })?;
    if sample.is_empty() {
        (low, high) = (DVec3::ZERO, DVec3::ZERO);
    }
    let inner = inner_box(&sample, low, high);
    let grid = Grid::new(low, high, (inner[1] - inner[0]).length());
    let mut points = Vec::new();
    may_fail(|| points.try_reserve_exact(most as usize)).map_err(|e| {
        Error::Memory(format!("{most} points of a report do not fit: {e}; use fewer with --max-points"))
    })?;
    each_taken(source, most, |_, point| points.push(packed(point, &grid)))?;
    // All fields count, so that equal keys have one order, too.
    points.par_sort_unstable();
    let spacing = spacing(&points, &grid);
    Ok(QuantisedCloud { grid, points, total: source.count(), inner, spacing })
}

/// A point on the grid.
fn packed(point: &Point, grid: &Grid) -> Packed {
    Packed {
        key: grid::key(grid.place(DVec3::from(point.position))),
        colour: point.colour,
        confidence: (point.confidence.clamp(0.0, 1.0) * 255.0).round() as u8,
        views: point.views,
        normal: octahedral(point.normal),
    }
}

/// The box without the outermost points.
fn inner_box(sample: &[DVec3], low: DVec3, high: DVec3) -> [DVec3; 2] {
    let mut inner = [low, high];
    for axis in 0..3 {
        let mut along: Vec<f64> = sample.iter().map(|p| p[axis]).collect();
        along.sort_unstable_by(f64::total_cmp);
        let Some(last) = along.len().checked_sub(1) else { continue };
        inner[0][axis] = along[(OUTER * last as f64) as usize];
        inner[1][axis] = along[((1.0 - OUTER) * last as f64).ceil() as usize];
    }
    inner
}

/// The median distance of points that follow each other.
fn spacing(points: &[Packed], grid: &Grid) -> f64 {
    let every = points.len().div_ceil(SAMPLE as usize).max(1);
    let position = |p: &Packed| DVec3::from(grid::place(p.key).map(f64::from));
    let pairs = points.windows(2).step_by(every);
    let mut distances: Vec<f64> = pairs.map(|pair| position(&pair[0]).distance(position(&pair[1]))).collect();
    distances.sort_unstable_by(f64::total_cmp);
    // Points at one place have no distance; a step is the least that there is then.
    distances.get(distances.len() / 2).copied().unwrap_or(1.0).max(1.0) * grid.quantum
}

/// A unit normal as two bytes: the octahedron |x| + |y| + |z| = 1 that it is projected on is unfolded into a square
/// (Meyer et al., "On floating-point normal vectors", 2010), from -1..1 to 1..255. [0, 0] is no normal.
pub fn octahedral(normal: [f32; 3]) -> [u8; 2] {
    let [x, y, z] = normal.map(f64::from);
    let sum = x.abs() + y.abs() + z.abs();
    if sum.is_nan() || sum == 0.0 || sum.is_infinite() {
        return [0, 0];
    }
    let sign = |v: f64| if v < 0.0 { -1.0 } else { 1.0 };
    let (x, y) = (x / sum, y / sum);
    let (u, v) = if z < 0.0 { ((1.0 - y.abs()) * sign(x), (1.0 - x.abs()) * sign(y)) } else { (x, y) };
    [u, v].map(|c| (128.0 + 127.0 * c).round() as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_points_are_taken_as_are_wanted_and_evenly() {
        for (most, total) in [(10u64, 100u64), (3, 7), (999, 1000), (5, 5), (9, 5), (1, 1_000_000)] {
            let taken: Vec<u64> = (0..total).filter(|&at| is_taken(at, most, total)).collect();
            assert_eq!(taken.len() as u64, most.min(total));
            let gaps: Vec<u64> = taken.windows(2).map(|pair| pair[1] - pair[0]).collect();
            let (least, most) = (gaps.iter().min(), gaps.iter().max());
            assert!(least.zip(most).is_none_or(|(least, most)| most - least <= 1), "{gaps:?}");
        }
    }

    #[test]
    fn normals_come_back_to_a_degree() {
        assert_eq!(octahedral([0.0; 3]), [0, 0]);
        let mut worst = 0f64;
        for i in 0..1000 {
            // Evenly on the sphere.
            let (z, turn) = (1.0 - (2 * i + 1) as f64 / 1000.0, i as f64 * 2.399_963);
            let r = (1.0 - z * z).sqrt();
            let normal = DVec3::new(r * turn.cos(), r * turn.sin(), z);
            let [u, v] = octahedral(normal.as_vec3().to_array()).map(|byte| (f64::from(byte) - 128.0) / 127.0);
            let z = 1.0 - u.abs() - v.abs();
            let fold = (-z).max(0.0);
            let back = DVec3::new(u - fold * u.signum(), v - fold * v.signum(), z).normalize();
            worst = worst.max(back.angle_between(normal).to_degrees());
        }
        // A step of 1/127 in the square, where the octahedron is at its steepest: sqrt(2) * 1/254 * sqrt(3) in angle.
        assert!(worst < 1.0, "{worst}");
    }
}
