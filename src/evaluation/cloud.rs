//! Any cloud against any other: distances both ways, and how many of them are below thresholds.
//!
//! Accuracy is from the measured cloud to the reference, completeness from the reference to the measured cloud.
//! Precision is the share of the measured cloud's points nearer to the reference than a threshold, recall that of the
//! reference's points, and the F-score their harmonic mean (Knapitsch et al., "Tanks and Temples", 2017). Nothing is
//! said about which places the cameras could see: where the reference reaches further than the photos, recall suffers.

use serde::Serialize;

use super::Statistics;
use super::nearest::{Tree, bounds};
use super::thinning::one_a_voxel;
use crate::host::interrupt;
use crate::host::memory::{MemoryNeed, Part, StageMemory};
use crate::{Error, Result};

/// Thresholds that are taken unless others are given: these shares of the diagonal of the reference's bounding box.
pub const THRESHOLD_SHARES: [f64; 3] = [0.001, 0.002, 0.005];

/// How two clouds are compared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CloudSettings {
    /// Distances that count as near; none for [`THRESHOLD_SHARES`] of the reference's diagonal.
    pub thresholds: Vec<f64>,
    /// Distances from here on are left out of means and medians; precision and recall still count their points as far.
    pub max_distance: Option<f64>,
    /// Both clouds are reduced to one point a voxel of this edge first.
    pub voxel: Option<f64>,
}

/// How much of the clouds is nearer than one threshold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Score {
    /// The threshold: strictly nearer counts.
    pub threshold: f64,
    /// Share of the measured cloud near the reference.
    pub precision: f64,
    /// Share of the reference near the measured cloud.
    pub recall: f64,
    /// Harmonic mean of the two; 0 where both are.
    pub f_score: f64,
}

/// What a comparison found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// From the measured cloud to the reference.
    pub accuracy: Statistics,
    /// From the reference to the measured cloud.
    pub completeness: Statistics,
    /// For each threshold, in the order given.
    pub scores: Vec<Score>,
    /// Points of the measured cloud that were compared.
    pub points: usize,
    /// Points of the reference that were compared.
    pub reference_points: usize,
    /// The diagonal of the box around the reference.
    pub diagonal: f64,
    /// Distances from the measured cloud, for plots.
    #[serde(skip)]
    pub to_reference: Vec<f64>,
    /// Distances from the reference, for plots.
    #[serde(skip)]
    pub from_reference: Vec<f64>,
}

/// Compares two clouds of finite points.
///
/// # Errors
/// A cloud without points, or too wide for the voxels asked for.
pub fn compare(cloud: Vec<[f64; 3]>, reference: Vec<[f64; 3]>, settings: &CloudSettings) -> Result<Comparison> {
    // Before the reference is put in order, which may take long.
    has_points(&cloud, "the cloud to measure")?;
    Reference::new(reference, settings)?.compare(cloud)
}

/// Bytes that a comparison holds for every point of either cloud: its position, the axis of its split, its distance
/// and the distance once more while the median is looked for.
pub const COMPARED_POINT: u64 = 24 + 1 + 8 + 8;

/// Bytes that sorting a cloud into cells holds for every point: its place in the order, its index, its position once
/// more, and its cell where each point has one of its own.
pub const SORTED_POINT: u64 = 24 + 4 + 24 + 12;

/// The memory for comparing clouds of so many points, of which one at a time is sorted into cells.
pub fn need(points: [u64; 2], sorted: bool) -> MemoryNeed {
    let all = points[0].saturating_add(points[1]);
    let most = if sorted { points[0].max(points[1]) } else { 0 };
    let parts = vec![
        Part::new("both clouds and their distances", all.saturating_mul(COMPARED_POINT)),
        Part::new("a cloud that is sorted into cells", most.saturating_mul(SORTED_POINT)),
    ];
    MemoryNeed { stages: vec![StageMemory::new("comparison", parts)] }
}

/// The diagonal of the box around some points.
pub fn diagonal(points: &[[f64; 3]]) -> f64 {
    let (low, high) = bounds(points);
    let side = |axis: usize| high[axis] - low[axis];
    (side(0) * side(0) + side(1) * side(1) + side(2) * side(2)).sqrt()
}

fn has_points(points: &[[f64; 3]], which: &str) -> Result<()> {
    if points.is_empty() {
        return Err(Error::Nothing(format!(
            "{which}: no points with finite coordinates, so there is nothing to compare"
        )));
    }
    Ok(())
}

/// A reference that any number of clouds can be compared with.
#[derive(Clone, Debug)]
pub struct Reference {
    tree: Tree,
    diagonal: f64,
    thresholds: Vec<f64>,
    max_distance: Option<f64>,
    voxel: Option<f64>,
}

impl Reference {
    /// Of finite points.
    ///
    /// # Errors
    /// No points, or too wide for the voxels asked for; [`Error::Interrupted`].
    pub fn new(points: Vec<[f64; 3]>, settings: &CloudSettings) -> Result<Self> {
        has_points(&points, "the reference")?;
        let diagonal = diagonal(&points);
        let thresholds = match settings.thresholds[..] {
            [] => THRESHOLD_SHARES.map(|share| share * diagonal).to_vec(),
            _ => settings.thresholds.clone(),
        };
        let CloudSettings { max_distance, voxel, .. } = *settings;
        let tree = Tree::new(reduced(points, voxel)?);
        interrupt::check()?;
        Ok(Self { tree, diagonal, thresholds, max_distance, voxel })
    }

    /// Distances that count as near.
    pub fn thresholds(&self) -> &[f64] {
        &self.thresholds
    }

    /// Compares a cloud of finite points with it.
    ///
    /// # Errors
    /// A cloud without points, or too wide for the voxels asked for.
    pub fn compare(&self, cloud: Vec<[f64; 3]>) -> Result<Comparison> {
        has_points(&cloud, "the cloud to measure")?;
        let cloud = Tree::new(reduced(cloud, self.voxel)?);
        // A search is cheaper the less far it looks: only as far as any number needs.
        let furthest = self.thresholds.iter().fold(0.0, |far: f64, &t| far.max(t));
        let limit = self.max_distance.map_or(f64::INFINITY, |max| max.max(furthest));
        let to_reference = self.tree.distances(cloud.points(), limit);
        let from_reference = cloud.distances(self.tree.points(), limit);
        // What was stopped in the middle is no number.
        interrupt::check()?;
        let kept = |distances: &[f64]| {
            let max = self.max_distance.unwrap_or(f64::INFINITY);
            Statistics::of(distances.iter().copied().filter(|&d| d < max).collect())
        };
        let near = |distances: &[f64], threshold: f64| {
            distances.iter().filter(|d| **d < threshold).count() as f64 / distances.len() as f64
        };
        let score = |&threshold: &f64| {
            let (precision, recall) = (near(&to_reference, threshold), near(&from_reference, threshold));
            let sum = precision + recall;
            let f_score = if sum == 0.0 { 0.0 } else { 2.0 * precision * recall / sum };
            Score { threshold, precision, recall, f_score }
        };
        Ok(Comparison {
            accuracy: kept(&to_reference),
            completeness: kept(&from_reference),
            scores: self.thresholds.iter().map(score).collect(),
            points: cloud.points().len(),
            reference_points: self.tree.points().len(),
            diagonal: self.diagonal,
            to_reference,
            from_reference,
        })
    }
}

fn reduced(points: Vec<[f64; 3]>, voxel: Option<f64>) -> Result<Vec<[f64; 3]>> {
    match voxel {
        Some(edge) => one_a_voxel(&points, edge),
        None => Ok(points),
    }
}
