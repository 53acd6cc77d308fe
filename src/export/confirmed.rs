//! A view's maps as they are exported: all of its pixels, or with `--filtered-depth` those that are confirmed.
//!
//! A pixel is confirmed where its confidence is above the run's `--min-confidence` and as many of the views that it was
//! checked against agree as the run's fusion asks for (SPEC "Multi-metric depth pyramid" 2). What fusion asks beyond
//! that of points (guards, duplicates) is about points, not depths.

use crate::error::Result;
use crate::export::job::Job;
use crate::export::results::ViewMaps;
use crate::files::map::Map;
use crate::fusion::settings::{Method, Pyramid, Reprojection};
use crate::maps::consistency::{DepthView, Thresholds, agreement_above, dynamic_agreement_above};

/// What is exported of a view; all of its size, row by row.
pub struct ExportedMaps {
    /// Depth; 0 where there is none, or where it is not confirmed.
    pub depth: Map,
    /// Confidence 0..1, also where depth is not confirmed.
    pub confidence: Map,
    /// Unit normals in the world; zero where depth is 0.
    pub normals: Vec<[f32; 3]>,
}

/// Reads them.
///
/// # Errors
/// Maps that cannot be read; a manifest that does not say how pixels became points, where that is asked for.
pub fn maps(job: &Job, view: usize) -> Result<ExportedMaps> {
    let ViewMaps { mut depth, confidence } = job.results.maps(view)?;
    let mut normals = job.results.normals(view, &depth)?;
    if job.options.filtered_depth {
        let kept = confirmed(job, view, &depth, &confidence)?;
        for ((depth, normal), kept) in depth.data.iter_mut().zip(&mut normals).zip(kept) {
            if !kept {
                (*depth, *normal) = (0.0, [0.0; 3]);
            }
        }
    }
    Ok(ExportedMaps { depth, confidence, normals })
}

/// Which pixels of a view with these maps are confirmed.
///
/// # Errors
/// As [`maps`].
pub fn confirmed(job: &Job, view: usize, depth: &Map, confidence: &Map) -> Result<Vec<bool>> {
    let (results, fusion) = (job.results, job.results.fusion()?);
    let own = &results.views[view];
    let others = own.checked_against.iter().map(|&other| Ok((results.views[other].camera, results.maps(other)?)));
    let others: Vec<_> = others.collect::<Result<_>>()?;
    let sources: Vec<DepthView> = others
        .iter()
        .map(|(camera, maps)| DepthView { camera: *camera, depth: &maps.depth, confidence: &maps.confidence })
        .collect();
    let sources: Vec<&DepthView> = sources.iter().collect();
    let reference = DepthView { camera: own.camera, depth, confidence };
    if let Method::Dynamic(m) = &fusion.method {
        let (_, kept) = dynamic_agreement_above(&reference, &sources, &m.thresholds, fusion.min_confidence);
        return Ok(kept);
    }
    let thresholds = thresholds(job, &fusion.method);
    let Some(required) = thresholds.required(sources.len()) else { return Ok(vec![false; depth.data.len()]) };
    let agreement = agreement_above(&reference, &sources, &thresholds, fusion.min_confidence);
    let least = fusion.min_confidence as f32;
    let is_kept = |((count, depth), confidence): ((&u8, &f32), &f32)| {
        *depth > 0.0 && *confidence > least && usize::from(*count) >= required
    };
    Ok(agreement.count.iter().zip(&depth.data).zip(&confidence.data).map(is_kept).collect())
}

/// When a source view agrees with a pixel, and how many must. Where the method does not ask that of pixels it is said.
pub fn thresholds(job: &Job, method: &Method) -> Thresholds {
    match method {
        Method::Reprojection(m) | Method::Pyramid(Pyramid { reprojection: m, .. }) => m.thresholds,
        other => {
            job.note(format!(
                "the cloud was made by the method {}: whether a pixel is confirmed is decided as {} would",
                other.name(),
                Method::Reprojection(Reprojection::default()).name()
            ));
            Thresholds::default()
        }
    }
}
