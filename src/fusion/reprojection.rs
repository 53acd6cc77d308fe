//! Reprojection ("normal" fusion of MVSNet's PyTorch ports; protocol page E.7): a pixel is kept where enough source
//! views bring it back to its place and depth, and its depth becomes the mean of those.
//!
//! First every view's pixels are confirmed by its source views, all views in parallel; then the views are taken in
//! order: each emits its confirmed pixels, but for those that the guard drops ([`super::guard`]), and an emitted point
//! takes the pixels of later views that it explains out of the running.

use rayon::prelude::*;

use super::funnel::Funnel;
use super::guard::{Judge, count_specks, without_specks};
use super::settings::Reprojection;
use super::shared::{Confirmed, confirm, emit_in_order};
use super::view::{Fused, FusionView};
use crate::maps::consistency::{DepthView, agreement_above};

/// The cloud of views that fit together.
pub fn fuse(views: &[FusionView], min_confidence: f64, constants: &Reprojection) -> Fused {
    let thresholds = &constants.thresholds;
    let (views, specks) = without_specks(views, constants);
    let confirmed = views.par_iter().map(|view| {
        let sources: Vec<DepthView> = view.sources.iter().map(|&s| views[s].depth_view()).collect();
        let sources: Vec<&DepthView> = sources.iter().collect();
        let agreement = agreement_above(&view.depth_view(), &sources, thresholds, min_confidence);
        let required = thresholds.required(sources.len()).map(|n| n.min(255));
        confirm(view, agreement, min_confidence, |_, count| required.is_some_and(|n| usize::from(count) >= n))
    });
    let mut confirmed: Vec<(Confirmed, Funnel)> = confirmed.collect();
    confirmed.iter_mut().zip(specks).for_each(|((_, funnel), specks)| count_specks(funnel, specks));
    let explained = (!constants.keep_duplicates).then_some(thresholds.max_depth_error_rel);
    emit_in_order(&views, confirmed, explained, Judge::new(&views, constants).as_ref())
}
