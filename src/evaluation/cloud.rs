//! Any cloud against any other: distances both ways, and how many of them are below thresholds.
//!
//! Accuracy is from the measured cloud to the reference, completeness from the reference to the measured cloud. Precision is the
//! share of the measured cloud's points nearer to the reference than a threshold, recall that of the reference's points, and
//! the F-score their harmonic mean (Knapitsch et al., "Tanks and Temples", 2017). Nothing is said about which places the cameras
//! could see: where the reference reaches further than the photos, recall suffers.

use serde::Serialize;

use super::Statistics;
use super::nearest::{Tree, bounds};
use super::thinning::one_a_voxel;
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
pub fn compare(
    cloud: Vec<[f32; 3]>,
    reference: Vec<[f32; 3]>,
    settings: &CloudSettings,
) -> Result<Comparison> {
    for (points, which) in [(&cloud, "the cloud to measure"), (&reference, "the reference")] {
        if points.is_empty() {
            return Err(Error::Nothing(format!(
                "{which} has no points with finite coordinates: there is nothing to compare"
            )));
        }
    }
    let (low, high) = bounds(&reference);
    let side = |axis: usize| f64::from(high[axis]) - f64::from(low[axis]);
    let diagonal = (side(0) * side(0) + side(1) * side(1) + side(2) * side(2)).sqrt();
    let thresholds = match settings.thresholds[..] {
        [] => THRESHOLD_SHARES.map(|share| share * diagonal).to_vec(),
        _ => settings.thresholds.clone(),
    };
    let reduced = |points: Vec<[f32; 3]>| match settings.voxel {
        Some(edge) => one_a_voxel(&points, edge),
        None => Ok(points),
    };
    let cloud = Tree::new(reduced(cloud)?);
    let reference = Tree::new(reduced(reference)?);
    // A search is cheaper the less far it looks: only as far as any number needs.
    let furthest = thresholds.iter().fold(0.0, |far: f64, &t| far.max(t));
    let limit = settings.max_distance.map_or(f64::INFINITY, |max| max.max(furthest));
    let to_reference = reference.distances(cloud.points(), limit);
    let from_reference = cloud.distances(reference.points(), limit);
    let kept = |distances: &[f64]| {
        let max = settings.max_distance.unwrap_or(f64::INFINITY);
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
        scores: thresholds.iter().map(score).collect(),
        points: cloud.points().len(),
        reference_points: reference.points().len(),
        diagonal,
        to_reference,
        from_reference,
    })
}
