//! Points of which no file says who sees them.

use glam::DVec3;
use rayon::prelude::*;

use crate::scene::{ScenePoint, View};

/// Points without tracks, as laser scanners, SLAM and Gaussian splatting write them: each as seen by every view in
/// whose photo it lies. Nothing is known of what hides it. `read` gives a point's position and its error in pixels.
pub(super) fn points_in_photos<T: Sync>(
    entries: &[T],
    read: impl Fn(&T) -> (DVec3, f64) + Sync,
    views: &[View],
    notes: &mut Vec<String>,
) -> Vec<ScenePoint> {
    // As many as give every view the statistics that it needs, and no more than can be projected in a second or two.
    const PROJECTIONS: usize = 100_000_000;
    const LEAST: usize = 1000;
    let most = (PROJECTIONS / views.len().max(1)).max(LEAST);
    let step = entries.len().div_ceil(most).max(1);
    let all: Vec<(DVec3, f64)> =
        entries.iter().step_by(step).map(&read).filter(|(position, _)| position.is_finite()).collect();
    let seen = all.into_par_iter().map(|(position, error)| {
        let views = (0..views.len()).filter(|&i| views[i].shows(position)).collect();
        ScenePoint { position, error, views }
    });
    let points: Vec<ScenePoint> = seen.filter(|point| !point.views.is_empty()).collect();
    let some = if step > 1 { format!(" (every {step}. of them)") } else { String::new() };
    notes.push(format!(
        "the model's {} points have no tracks: each{some} is taken as seen by every view in whose photo it lies, \
         hidden or not",
        entries.len()
    ));
    points
}
