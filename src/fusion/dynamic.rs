//! Dynamic consistency (D2HC-RMVSNet; protocol page E.10): a pixel is kept where some number i of source views agree
//! within a tolerance that grows with i. Everything else is as in [`super::reprojection`].

use super::cloud::Cloud;
use super::funnel::Funnel;
use super::settings::Dynamic;
use super::shared::{Confirmed, Turn, emit_in_order, source_views, sources_of};
use super::store::{InMemory, Store};
use super::view::{Fused, FusionView};
use crate::Result;
use crate::maps::consistency::{DynamicThresholds, dynamic_agreement_with};

/// The cloud of views that fit together.
///
/// # Errors
/// [`crate::Error::Interrupted`].
pub fn fuse(views: &[FusionView], min_confidence: f64, constants: &Dynamic) -> Result<Fused> {
    let mut cloud = Cloud::here();
    let funnels = fuse_from(&InMemory::new(views, vec![0; views.len()]), min_confidence, constants, &mut cloud)?;
    Ok(Fused { points: cloud.into_points(), funnels })
}

/// As [`super::reprojection::fuse_from`].
///
/// # Errors
/// As there.
pub fn fuse_from(
    store: &dyn Store,
    min_confidence: f64,
    constants: &Dynamic,
    cloud: &mut Cloud,
) -> Result<Vec<Funnel>> {
    let thresholds = &constants.thresholds;
    let explained = (!constants.keep_duplicates).then_some(loosest(thresholds));
    let confirm = |at: usize, turn: &Turn| confirm(store, (at, turn), min_confidence, thresholds);
    emit_in_order(store, confirm, explained, None, cloud)
}

/// Depths are averaged within this share, the loosest tolerance, so points differ by as much.
pub fn loosest(thresholds: &DynamicThresholds) -> f64 {
    thresholds.max_views as f64 * thresholds.depth_error_step_rel
}

/// As [`super::reprojection::confirm`].
///
/// # Errors
/// As there.
pub fn confirm(
    store: &dyn Store,
    (at, turn): (usize, &Turn),
    min_confidence: f64,
    thresholds: &DynamicThresholds,
) -> Result<(Confirmed, Funnel)> {
    let depths = sources_of(store, at)?;
    let sources = source_views(store, at, &depths);
    let (agreement, kept) = dynamic_agreement_with(&turn.depth_view(), &sources, thresholds, min_confidence);
    Ok(turn.confirm(agreement, min_confidence, |at, _| kept[at]))
}
