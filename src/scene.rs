//! A scene: calibrated photos, per-view depth ranges, and for each view a ranked list of source views.
//! This is what every reader in [`crate::formats`] returns and what everything after works on.

use std::path::PathBuf;

use glam::DVec3;

use crate::camera::{Camera, DepthRange};
use crate::lens::Lens;

/// Which layout a scene was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `images/`, `cams/` or `cams_1/`, `pair.txt`.
    MvsNet,
    /// `images/` with a COLMAP sparse model.
    Colmap,
}

/// Calibrated photos of one place.
#[derive(Clone, Debug)]
pub struct Scene {
    /// The folder it was read from.
    pub root: PathBuf,
    /// How it was laid out there.
    pub layout: Layout,
    /// The views, in the order of their ids; `SourceView::view` and `ScenePoint::views` index into this.
    pub views: Vec<View>,
    /// Sparse points, where the layout has them.
    pub points: Vec<ScenePoint>,
    /// What was assumed, skipped or chosen while reading, one sentence each, for the log and the manifest.
    pub notes: Vec<String>,
}

/// One photo with its camera.
#[derive(Clone, Debug)]
pub struct View {
    /// The scene's own number for it (MVSNet view id, COLMAP image id); ids may have gaps.
    pub id: u32,
    /// The image file's stem, unique in the scene: the name of every output map.
    pub name: String,
    /// The image file.
    pub image: PathBuf,
    /// Width and height in pixels of the stored image.
    pub size: (usize, usize),
    /// The pinhole camera of the stored image, or of the undistorted one where `lens` is set (same size).
    pub camera: Camera,
    /// The distortion to remove on loading, if any.
    pub lens: Option<Lens>,
    /// Depths to search, where the scene says so.
    pub range: Option<DepthRange>,
    /// Number of hypotheses, where the scene says so.
    pub planes: Option<usize>,
    /// Source views, best first.
    pub sources: Vec<SourceView>,
}

/// A neighbour to match against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SourceView {
    /// Index into [`Scene::views`].
    pub view: usize,
    /// Score of the pair; larger is better; only the order matters.
    pub score: f64,
}

/// A point of the sparse reconstruction.
#[derive(Clone, Debug)]
pub struct ScenePoint {
    /// Position in the world.
    pub position: DVec3,
    /// Mean reprojection error in pixels.
    pub error: f64,
    /// Indices into [`Scene::views`] of the views that see it, sorted, without repetition.
    pub views: Vec<usize>,
}
