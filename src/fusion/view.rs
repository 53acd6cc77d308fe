//! What goes into fusion, views with their maps, and what comes out: points, and what became of every view's pixels.

use std::borrow::Cow;

use rayon::prelude::*;

use super::funnel::Funnel;
use crate::files::map::Map;
use crate::files::ply::Point;
use crate::maps::consistency::{DepthView, is_depth};
use crate::maps::merge::LevelMaps;
use crate::maps::valid::{invalid, take_out_invalid};
use crate::scene::camera::{Camera, DepthRange};
use crate::{Error, Result};

/// One view, ready for fusion; all maps are [height, width] of the same size.
#[derive(Clone, Debug)]
pub struct FusionView {
    /// Its name, for messages.
    pub name: String,
    /// The camera whose pixels are the maps' pixels.
    pub camera: Camera,
    /// Depth; zero, negative, NaN or infinite where there is none.
    pub depth: Map,
    /// Confidence 0..1; a pixel with any other is taken as one without depth.
    pub confidence: Map,
    /// Red, green, blue of the photo at each pixel.
    pub colour: Vec<[u8; 3]>,
    /// Depths outside are not used.
    pub range: DepthRange,
    /// Indices of the views that confirm this one.
    pub sources: Vec<usize>,
    /// The maps of every level before they were merged, finest first and of the size of `depth`; only
    /// [`super::settings::Method::Pyramid`] looks at them.
    pub levels: Vec<LevelMaps>,
}

/// What is known of a view without its maps.
#[derive(Clone, Debug)]
pub struct ViewFacts {
    /// As in [`FusionView`].
    pub name: String,
    /// As in [`FusionView`].
    pub camera: Camera,
    /// Width and height of the maps.
    pub size: (usize, usize),
    /// As in [`FusionView`].
    pub range: DepthRange,
    /// As in [`FusionView`].
    pub sources: Vec<usize>,
}

impl FusionView {
    /// What is known without the maps.
    pub fn facts(&self) -> ViewFacts {
        let Self { camera, range, .. } = *self;
        let (name, size, sources) = (self.name.clone(), (self.depth.width, self.depth.height), self.sources.clone());
        ViewFacts { name, camera, size, range, sources }
    }

    /// The maps as the consistency check takes them.
    pub fn depth_view(&self) -> DepthView<'_> {
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

/// Whether it is a depth, and in range.
pub(crate) fn is_in_range(depth: f32, range: DepthRange) -> bool {
    range_end(depth, range).is_some()
}

/// Where in its range a depth lies.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum End {
    Near,
    Inside,
    Far,
}

/// `None` outside the range. Depth maps are f32: near and far themselves are inside however they were rounded.
pub(crate) fn range_end(depth: f32, range: DepthRange) -> Option<End> {
    let DepthRange { near, far } = range;
    let d = f64::from(depth);
    if !is_depth(depth) || d < near * (1.0 - 1e-6) || d > far * (1.0 + 1e-6) {
        return None;
    }
    // How planes were spaced is not known here: the end is where both spacings have their last 2 %.
    let (span, inverse_span) = (0.02 * (far - near), 0.02 * (1.0 / near - 1.0 / far));
    Some(if d - near < span && 1.0 / near - 1.0 / d < inverse_span {
        End::Near
    } else if far - d < span && 1.0 / d - 1.0 / far < inverse_span {
        End::Far
    } else {
        End::Inside
    })
}

/// The views without pixels that cannot be used ([`crate::maps::valid`]); copied only where there are any.
pub(crate) fn without_invalid(views: &[FusionView]) -> Cow<'_, [FusionView]> {
    let is_clean = |view: &FusionView| {
        let levels = view.levels.iter().all(|level| invalid(&level.depth, &level.confidence).is_none());
        levels && invalid(&view.depth, &view.confidence).is_none()
    };
    if views.par_iter().all(is_clean) {
        return Cow::Borrowed(views);
    }
    let mut views = views.to_vec();
    for view in &mut views {
        take_out_invalid(&mut view.depth, &mut view.confidence);
        view.levels.iter_mut().for_each(|level| {
            take_out_invalid(&mut level.depth, &mut level.confidence);
        });
    }
    Cow::Owned(views)
}

/// An [`Error::Shape`] where lists, sizes or sources do not fit together.
pub(crate) fn check(views: &[FusionView]) -> Result<()> {
    for (at, view) in views.iter().enumerate() {
        check_sizes(view)?;
        check_sources((at, views.len()), &view.name, &view.sources)?;
    }
    Ok(())
}

/// An [`Error::Shape`] where a view's maps are not of one size.
pub(crate) fn check_sizes(view: &FusionView) -> Result<()> {
    let [depth, confidence] = [&view.depth, &view.confidence].map(|m| (m.width, m.height));
    let lengths = [view.depth.data.len(), view.confidence.data.len(), view.colour.len()];
    if depth != confidence || lengths.iter().any(|&n| n != depth.0 * depth.1) {
        let problem = format!(
            "view {}: a depth map of {} x {}, a confidence map of {} x {} and {} colours; expected one size",
            view.name, depth.0, depth.1, confidence.0, confidence.1, lengths[2]
        );
        return Err(Error::Shape { op: "fusion::fuse", problem });
    }
    Ok(())
}

/// An [`Error::Shape`] where a source of view `at` is not another one of `views`.
pub(crate) fn check_sources((at, views): (usize, usize), name: &str, sources: &[usize]) -> Result<()> {
    match sources.iter().find(|&&source| source >= views || source == at) {
        None => Ok(()),
        Some(source) => {
            let problem = format!("view {name}: source {source} is not another of the {views} views");
            Err(Error::Shape { op: "fusion::fuse", problem })
        }
    }
}
