//! Reprojection ("normal" fusion of MVSNet's PyTorch ports; protocol page E.7): a pixel is kept where enough source
//! views bring it back to its place and depth, and its depth becomes the mean of those.
//!
//! The views are taken in order: a view's pixels are confirmed by its source views, those that points of earlier views
//! explain are out of the running, and of the others each becomes a point, but for those that the guard drops
//! ([`super::guard`]).

use super::cloud::Cloud;
use super::funnel::Funnel;
use super::guard::{Judge, without_specks};
use super::settings::Reprojection;
use super::shared::{Confirmed, Turn, emit_in_order, source_views, sources_of};
use super::store::{InMemory, Store};
use super::view::{Fused, FusionView};
use crate::Result;
use crate::maps::consistency::{Thresholds, agreement_with};

/// The cloud of views that fit together.
///
/// # Errors
/// [`crate::Error::Interrupted`].
pub fn fuse(views: &[FusionView], min_confidence: f64, constants: &Reprojection) -> Result<Fused> {
    let (views, specks) = without_specks(views, constants);
    let mut cloud = Cloud::here();
    let funnels = fuse_from(&InMemory::new(&views, specks), min_confidence, constants, &mut cloud)?;
    Ok(Fused { points: cloud.into_points(), funnels })
}

/// Makes the cloud of views whose specks are out of their maps.
///
/// # Errors
/// Maps that cannot be read back; those of the cloud; [`crate::Error::Interrupted`].
pub fn fuse_from(
    store: &dyn Store,
    min_confidence: f64,
    constants: &Reprojection,
    cloud: &mut Cloud,
) -> Result<Vec<Funnel>> {
    let explained = (!constants.keep_duplicates).then_some(constants.thresholds.max_depth_error_rel);
    let judge = Judge::new(store, constants);
    let confirm = |at: usize, turn: &Turn| confirm(store, (at, turn), min_confidence, &constants.thresholds);
    emit_in_order(store, confirm, explained, judge.as_ref(), cloud)
}

/// The pixels of a view that enough of its sources confirm.
///
/// # Errors
/// Maps that cannot be read back.
pub fn confirm(
    store: &dyn Store,
    (at, turn): (usize, &Turn),
    min_confidence: f64,
    thresholds: &Thresholds,
) -> Result<(Confirmed, Funnel)> {
    let depths = sources_of(store, at)?;
    let sources = source_views(store, at, &depths);
    let agreement = agreement_with(&turn.depth_view(), &sources, thresholds, min_confidence);
    let required = thresholds.required(sources.len()).map(|n| n.min(255));
    Ok(turn.confirm(agreement, min_confidence, |_, count| required.is_some_and(|n| usize::from(count) >= n)))
}
