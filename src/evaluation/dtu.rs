//! The DTU point-cloud evaluation on clouds in memory (protocol page, section D, all constants from there).
//!
//! Accuracy: distances from the prediction, thinned to 0.2 mm, to the structured-light reference, over points that the
//! cameras can see (the mask). Completeness: distances from the reference to the thinned prediction, over points above
//! the ground plane. Distances of 20 mm and more are left out of both. The original's search in cells of 60 mm gives
//! every point in its grid the true distance where that is below 60 and every point outside it 60, so here a search as
//! far as 20 mm over all points, and leaving out points outside the grid, gives the same sets (D.4).

use serde::Serialize;

use super::Statistics;
use super::nearest::Tree;
use super::thinning::thin;

/// Least distance of the prediction's points after thinning, in mm.
pub const THINNING: f64 = 0.2;
/// Distances from here on are outliers, in mm.
pub const OUTLIER: f64 = 20.0;
/// Edge of the cells of the original's search, in mm.
const CELL: f64 = 60.0;

/// Which places the cameras can see: a voxel grid.
#[derive(Clone, Debug)]
pub struct ObservabilityMask {
    /// The corner of the bounding box with the smallest coordinates: the centre of the first voxel.
    pub min: [f64; 3],
    /// The opposite corner.
    pub max: [f64; 3],
    /// Edge of a voxel in mm.
    pub resolution: f64,
    /// Voxels along x, y and z.
    pub size: [usize; 3],
    /// Whether each voxel is seen (not 0), x the fastest.
    pub seen: Vec<u8>,
}

impl ObservabilityMask {
    /// Whether a point is in a voxel that is seen: `round((q - min) / resolution + 1)`, counted from 1, ties away from
    /// zero.
    pub fn sees(&self, point: [f64; 3]) -> bool {
        let mut index = 0;
        let mut stride = 1;
        for (axis, &coordinate) in point.iter().enumerate() {
            let voxel = ((coordinate - self.min[axis]) / self.resolution + 1.0).round();
            if !(voxel >= 1.0 && voxel <= self.size[axis] as f64) {
                return false;
            }
            index += (voxel as usize - 1) * stride;
            stride *= self.size[axis];
        }
        self.seen.get(index).is_some_and(|&seen| seen != 0)
    }

    /// Whether the original's search visits a point: its cells of 60 mm start at the smallest corner and overshoot the
    /// largest.
    pub fn is_searched(&self, point: [f64; 3]) -> bool {
        (0..3).all(|axis| {
            let (p, min) = (point[axis], self.min[axis]);
            let cells = ((self.max[axis] - min) / CELL).floor() + 1.0;
            p >= min && p < min + CELL * cells
        })
    }
}

/// What a scan is measured against.
#[derive(Clone, Debug)]
pub struct Reference {
    /// The structured-light points, in mm.
    pub points: Vec<[f64; 3]>,
    /// Where the prediction counts.
    pub mask: ObservabilityMask,
    /// The ground plane: the reference counts where `p[0] x + p[1] y + p[2] z + p[3] > 0`.
    pub plane: [f64; 4],
}

impl Reference {
    /// Whether a point is above the ground plane; one on it is not.
    pub fn is_above_plane(&self, point: [f64; 3]) -> bool {
        let [a, b, c, d] = self.plane;
        let [x, y, z] = point;
        a * x + b * y + c * z + d > 0.0
    }
}

/// How the prediction is thinned.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct DtuSettings {
    /// Whether it is at all; the protocol does.
    pub thinning: bool,
    /// Chooses the random order of the thinning.
    pub seed: u64,
}

impl Default for DtuSettings {
    fn default() -> Self {
        Self { thinning: true, seed: 0 }
    }
}

/// The numbers of one scan, in mm.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ScanNumbers {
    /// From the prediction to the reference, over the points that count.
    pub accuracy: Statistics,
    /// From the reference to the prediction, over the points that count.
    pub completeness: Statistics,
    /// The mean of the two means.
    pub overall: f64,
    /// Points of the prediction.
    pub points: usize,
    /// Of those, what thinning left.
    pub thinned: usize,
    /// Of those, points in the observability mask.
    pub in_mask: usize,
    /// Points of the reference.
    pub reference_points: usize,
    /// Of those, points above the ground plane.
    pub above_plane: usize,
}

impl ScanNumbers {
    /// Why a number is not one: a sentence for each empty set.
    pub fn why_empty(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        let mut explain = |count: usize, what: &str, of: usize, place: &str, on_place: usize| {
            if count == 0 {
                let why = match (of, on_place) {
                    (0, _) => format!("{what} has no points"),
                    (_, 0) => format!("no point of {what} is {place}"),
                    _ => format!("no point of {what} {place} lies within {OUTLIER} mm of the other cloud"),
                };
                reasons.push(why);
            }
        };
        explain(self.accuracy.count, "the prediction", self.points, "in the observability mask", self.in_mask);
        explain(
            self.completeness.count,
            "the reference",
            self.reference_points,
            "above the ground plane",
            self.above_plane,
        );
        reasons
    }
}

/// One cloud with its distances to the other, for pictures.
#[derive(Clone, Debug)]
pub struct ErrorCloud {
    /// The points.
    pub points: Vec<[f64; 3]>,
    /// Distance to the other cloud in mm; infinite from [`OUTLIER`] on and outside the searched box.
    pub distances: Vec<f64>,
    /// Whether each point counts: in the mask, above the plane.
    pub counts: Vec<bool>,
}

impl ErrorCloud {
    fn new(tree: Tree, distances: Vec<f64>, counts: impl Fn([f64; 3]) -> bool) -> Self {
        let points = tree.into_points();
        let counts = points.iter().map(|&point| counts(point)).collect();
        Self { points, distances, counts }
    }

    fn statistics(&self) -> Statistics {
        let all = self.distances.iter().zip(&self.counts);
        Statistics::of(all.filter(|(d, counts)| **counts && **d < OUTLIER).map(|(d, _)| *d).collect())
    }

    fn counting(&self) -> usize {
        self.counts.iter().filter(|c| **c).count()
    }

    /// A point's colour in the original's error clouds: white to red over 0 to 10 mm where it counts, blue to green
    /// elsewhere.
    pub fn colour(&self, index: usize) -> [u8; 3] {
        let share = (self.distances[index] / 10.0).min(1.0);
        let [rising, falling] = [share, 1.0 - share].map(|s| (255.0 * s).round() as u8);
        if self.counts[index] { [255, falling, falling] } else { [0, rising, falling] }
    }
}

/// A scan's numbers, and the clouds that they come from.
#[derive(Clone, Debug)]
pub struct Scan {
    /// The numbers.
    pub numbers: ScanNumbers,
    /// The thinned prediction.
    pub data: ErrorCloud,
    /// The reference.
    pub reference: ErrorCloud,
}

/// Measures a prediction of finite points, at most 2^32 - 1 of them.
pub fn evaluate(prediction: Vec<[f64; 3]>, mut reference: Reference, settings: DtuSettings) -> Scan {
    let points = prediction.len();
    let data = Tree::new(match settings.thinning {
        true => thin(&prediction, THINNING, settings.seed),
        false => prediction,
    });
    let stl = Tree::new(std::mem::take(&mut reference.points));
    let distances = |from: &Tree, to: &Tree| {
        let mut distances = to.distances(from.points(), OUTLIER);
        for (distance, &point) in distances.iter_mut().zip(from.points()) {
            if !reference.mask.is_searched(point) {
                *distance = f64::INFINITY;
            }
        }
        distances
    };
    let (to_stl, to_data) = (distances(&data, &stl), distances(&stl, &data));
    let data = ErrorCloud::new(data, to_stl, |point| reference.mask.sees(point));
    let stl = ErrorCloud::new(stl, to_data, |point| reference.is_above_plane(point));
    let (accuracy, completeness) = (data.statistics(), stl.statistics());
    let numbers = ScanNumbers {
        accuracy,
        completeness,
        overall: (accuracy.mean + completeness.mean) / 2.0,
        points,
        thinned: data.points.len(),
        in_mask: data.counting(),
        reference_points: stl.points.len(),
        above_plane: stl.counting(),
    };
    Scan { numbers, data, reference: stl }
}

/// The numbers of a set of scans: means over scans of each scan's means, whatever their numbers of points.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MeanNumbers {
    /// Mean over scans of the mean accuracy.
    pub accuracy: f64,
    /// Mean over scans of the median accuracy.
    pub accuracy_median: f64,
    /// Mean over scans of the mean completeness.
    pub completeness: f64,
    /// Mean over scans of the median completeness.
    pub completeness_median: f64,
    /// The mean of the two means.
    pub overall: f64,
}

impl MeanNumbers {
    /// Over scans; not a number where that of any scan is not, or without scans.
    pub fn of(scans: &[ScanNumbers]) -> Self {
        let mean = |number: fn(&ScanNumbers) -> f64| scans.iter().map(number).sum::<f64>() / scans.len() as f64;
        let (accuracy, completeness) = (mean(|s| s.accuracy.mean), mean(|s| s.completeness.mean));
        Self {
            accuracy,
            accuracy_median: mean(|s| s.accuracy.median),
            completeness,
            completeness_median: mean(|s| s.completeness.median),
            overall: (accuracy + completeness) / 2.0,
        }
    }
}
