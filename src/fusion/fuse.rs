//! From views to a cloud: the method that the options name does it.

use super::origin::near_origin;
use super::settings::{FusionOptions, Method};
use super::view::{Fused, FusionView, check, without_invalid};
use super::{disparity, dynamic, graph, pyramid, reprojection};
use crate::Result;
use crate::host::interrupt;

/// Filters the views' maps and makes the cloud.
///
/// Memory beside the views, for all of them together: [`Method::bytes_a_pixel`] and 48 bytes a point.
///
/// # Errors
/// [`crate::Error::Shape`], naming the view, where its maps differ in size, a source is not another view, or levels
/// that the method needs are missing; [`crate::Error::Interrupted`].
pub fn fuse(views: &[FusionView], options: &FusionOptions) -> Result<Fused> {
    check(views)?;
    let views = &without_invalid(views)[..];
    let least = options.min_confidence;
    let fused = near_origin(views, |views| {
        Ok(match &options.method {
            Method::Reprojection(constants) => reprojection::fuse(views, least, constants)?,
            Method::Pyramid(constants) => pyramid::fuse(views, least, constants)?,
            Method::Dynamic(constants) => dynamic::fuse(views, least, constants)?,
            Method::Disparity(constants) => disparity::fuse(views, least, constants),
            Method::Graph(constants) => graph::fuse(views, least, constants),
        })
    })?;
    // The methods leave the rest undone once the user asks to stop.
    interrupt::check()?;
    Ok(fused)
}
