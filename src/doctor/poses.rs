//! The cameras against each other: copies, and cameras that only turned on the spot.

use serde_json::json;

use super::finding::{Finding, Grade, names, units};
use crate::scene::Scene;
use crate::scene::camera::Camera;

/// Rotations are the same within this, in radians: what nine digits of a matrix can tell.
const SAME_ROTATION: f64 = 1e-6;

/// The angle between two cameras, in radians.
fn turn(a: &Camera, b: &Camera) -> f64 {
    let difference = a.r * b.r.transpose();
    let trace = difference.x_axis.x + difference.y_axis.y + difference.z_axis.z;
    // The arc cosine of the trace loses half of its digits near 0; the part that is not symmetric does not.
    let skew = glam::DVec3::new(
        difference.y_axis.z - difference.z_axis.y,
        difference.z_axis.x - difference.x_axis.z,
        difference.x_axis.y - difference.y_axis.x,
    );
    skew.length().atan2(trace - 1.0)
}

/// Looks at every pair of cameras.
pub fn check(scene: &Scene, findings: &mut Vec<Finding>) {
    let cameras: Vec<&Camera> = scene.views.iter().map(|v| &v.camera).collect();
    let centres: Vec<_> = cameras.iter().map(|c| c.centre()).collect();
    let extent = centres.iter().map(|c| c.distance(centres[0])).fold(0.0, f64::max);
    let least = scene.least_baseline();
    let (mut copies, mut turned) = (Vec::new(), Vec::new());
    for a in 0..cameras.len() {
        for b in a + 1..cameras.len() {
            let is_one_photo = scene.views[a].is_of_photo_of(&scene.views[b]);
            if centres[a].distance(centres[b]) <= least && !is_one_photo {
                let pair = format!("{} and {}", scene.views[a].name, scene.views[b].name);
                if turn(cameras[a], cameras[b]) < SAME_ROTATION { copies.push(pair) } else { turned.push(pair) }
            }
        }
    }
    if scene.is_without_baseline() {
        findings.push(Finding::new(
            Grade::Problem,
            "poses",
            "no-baseline",
            format!("all {} cameras stand at the same place", cameras.len()),
            "photos taken from different places",
            "check the translations: there is no depth without a baseline",
        ));
        return;
    }
    if !copies.is_empty() {
        findings.push(
            Finding::new(
                Grade::Problem,
                "poses",
                "duplicate-camera",
                format!("the same pose twice: {}", names(&copies)),
                "a pose of its own for each photo",
                "one of each pair has the other's camera: write its own, or remove the photo",
            )
            .of_views(copies),
        );
    }
    if !turned.is_empty() {
        findings.push(
            Finding::new(
                Grade::Warning,
                "poses",
                "turned-on-the-spot",
                format!("cameras at the same place that look elsewhere: {}", names(&turned)),
                "a baseline between views",
                "such views cannot confirm each other and are not used as each other's sources",
            )
            .of_views(turned),
        );
    }
    let nearest = |i: usize| {
        let others = (0..centres.len()).filter(|&j| j != i).map(|j| centres[i].distance(centres[j]));
        others.fold(f64::MAX, f64::min)
    };
    let mut baselines: Vec<f64> = (0..centres.len()).map(nearest).collect();
    baselines.sort_unstable_by(f64::total_cmp);
    let (smallest, middle) = (baselines[0], baselines[baselines.len() / 2]);
    findings.push(
        Finding::ok(
            "poses",
            "baselines",
            format!(
                "the nearest other camera is {} away (median; smallest {}), the cameras spread over {}",
                units(middle),
                units(smallest),
                units(extent)
            ),
        )
        .with(json!({ "median_baseline": middle, "smallest_baseline": smallest, "extent": extent })),
    );
}
