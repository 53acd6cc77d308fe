//! Finished depth maps to one coloured cloud, by several methods (SPEC "Filter and fusion"; protocol page E.7 to E.10;
//! docs/FUSION.md has the equations).
//!
//! [`settings`] has the methods with their constants, [`presets`] the published values; each method has a file, and
//! what several share is in `shared.rs`. A cloud depends on the order of the views, never on the number of threads.

mod disparity;
mod dynamic;
mod explain;
mod graph;
pub mod grid;
pub mod presets;
mod pyramid;
mod reprojection;
pub mod settings;
mod shared;

use serde::{Deserialize, Serialize};

use crate::files::map::Map;
use crate::files::ply::Point;
use crate::maps::consistency::DepthView;
use crate::maps::merge::LevelMaps;
use crate::scene::camera::{Camera, DepthRange};
use crate::{Error, Result};

pub use explain::explain;
pub use settings::{Disparity, Dynamic, FusionOptions, Graph, Method, Pyramid, Reprojection, Settings};

/// One view, ready for fusion; all maps are [height, width] of the same size.
#[derive(Clone, Debug)]
pub struct FusionView {
    /// Its name, for messages.
    pub name: String,
    /// The camera whose pixels are the maps' pixels.
    pub camera: Camera,
    /// Depth; zero, negative, NaN or infinite where there is none.
    pub depth: Map,
    /// Confidence 0..1.
    pub confidence: Map,
    /// Red, green, blue of the photo at each pixel.
    pub colour: Vec<[u8; 3]>,
    /// Depths outside are not used.
    pub range: DepthRange,
    /// Indices of the views that confirm this one.
    pub sources: Vec<usize>,
    /// The maps of every level before they were merged, finest first and of the size of `depth`; only
    /// [`Method::Pyramid`] looks at them.
    pub levels: Vec<LevelMaps>,
}

impl FusionView {
    fn depth_view(&self) -> DepthView<'_> {
        DepthView { camera: self.camera, depth: &self.depth, confidence: &self.confidence }
    }
}

/// The cloud and what became of every view's pixels.
#[derive(Clone, Debug)]
pub struct Fused {
    /// In the order of the views, and in a view row by row.
    pub points: Vec<Point>,
    /// One for each view.
    pub funnels: Vec<Funnel>,
}

/// Where one view's pixels were lost; every line counts pixels that passed the lines before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Funnel {
    /// All pixels of the map.
    pub pixels: usize,
    /// With a depth between near and far.
    pub in_range: usize,
    /// Of those in range: within 2 % of the near end, in depth and in inverse depth.
    pub near_end: usize,
    /// Of those in range: within 2 % of the far end, in depth and in inverse depth.
    pub far_end: usize,
    /// In range and above the least confidence.
    pub confident: usize,
    /// `agreed[i]`: confident pixels with at least i + 1 agreeing source views; as long as the list of sources.
    pub agreed: Vec<usize>,
    /// Confident pixels that enough source views agree with.
    pub kept: usize,
    /// Kept pixels that a point of an earlier view had already explained; 0 where duplicates are kept.
    pub duplicates: usize,
    /// Points emitted: `kept - duplicates`.
    pub fused: usize,
}

impl Funnel {
    /// All views together; `agreed` is as long as the longest.
    pub fn sum<'a>(funnels: impl IntoIterator<Item = &'a Funnel>) -> Funnel {
        funnels.into_iter().fold(Funnel::default(), |mut sum, f| {
            sum.pixels += f.pixels;
            sum.in_range += f.in_range;
            sum.near_end += f.near_end;
            sum.far_end += f.far_end;
            sum.confident += f.confident;
            sum.agreed.resize(sum.agreed.len().max(f.agreed.len()), 0);
            sum.agreed.iter_mut().zip(&f.agreed).for_each(|(s, n)| *s += n);
            sum.kept += f.kept;
            sum.duplicates += f.duplicates;
            sum.fused += f.fused;
            sum
        })
    }
}

/// Filters the views' maps and makes the cloud.
///
/// Memory beside the views, for all of them together: [`Method::bytes_a_pixel`] and 32 bytes a point.
///
/// # Errors
/// [`Error::Shape`], naming the view, where its maps differ in size, a source is not another view, or levels that the
/// method needs are missing.
pub fn fuse(views: &[FusionView], options: &FusionOptions) -> Result<Fused> {
    check(views)?;
    let least = options.min_confidence;
    Ok(match &options.method {
        Method::Reprojection(constants) => reprojection::fuse(views, least, constants),
        Method::Pyramid(constants) => pyramid::fuse(views, least, constants)?,
        Method::Dynamic(constants) => dynamic::fuse(views, least, constants),
        Method::Disparity(constants) => disparity::fuse(views, least, constants),
        Method::Graph(constants) => graph::fuse(views, least, constants),
    })
}

/// An [`Error::Shape`] where lists, sizes or sources do not fit together.
pub(crate) fn check(views: &[FusionView]) -> Result<()> {
    for (at, view) in views.iter().enumerate() {
        let shape = |problem: String| {
            Err(Error::Shape { op: "fusion::fuse", problem: format!("view {}: {problem}", view.name) })
        };
        let [depth, confidence] = [&view.depth, &view.confidence].map(|m| (m.width, m.height));
        let lengths = [view.depth.data.len(), view.confidence.data.len(), view.colour.len()];
        if depth != confidence || lengths.iter().any(|&n| n != depth.0 * depth.1) {
            return shape(format!(
                "a depth map of {} x {}, a confidence map of {} x {} and {} colours; expected one size",
                depth.0, depth.1, confidence.0, confidence.1, lengths[2]
            ));
        }
        if let Some(source) = view.sources.iter().find(|&&s| s >= views.len() || s == at) {
            return shape(format!("source {source} is not another of the {} views", views.len()));
        }
    }
    Ok(())
}
