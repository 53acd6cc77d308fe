//! Dynamic consistency (D2HC-RMVSNet; protocol page E.10): a pixel is kept where some number i of source views agree
//! within a tolerance that grows with i. Everything else is as in [`super::reprojection`].

use rayon::prelude::*;

use super::settings::Dynamic;
use super::shared::{confirm, emit_in_order};
use super::view::{Fused, FusionView};
use crate::maps::consistency::{DepthView, dynamic_agreement_above};

/// The cloud of views that fit together.
pub fn fuse(views: &[FusionView], min_confidence: f64, constants: &Dynamic) -> Fused {
    let thresholds = &constants.thresholds;
    let confirmed = views.par_iter().map(|view| {
        let sources: Vec<DepthView> = view.sources.iter().map(|&s| views[s].depth_view()).collect();
        let sources: Vec<&DepthView> = sources.iter().collect();
        let (agreement, kept) = dynamic_agreement_above(&view.depth_view(), &sources, thresholds, min_confidence);
        confirm(view, agreement, min_confidence, |at, _| kept[at])
    });
    let confirmed = confirmed.collect();
    // Depths were averaged within the loosest tolerance, so points differ by as much.
    let loosest = thresholds.max_views as f64 * thresholds.depth_error_step_rel;
    emit_in_order(views, confirmed, (!constants.keep_duplicates).then_some(loosest), None)
}
