//! What a run can be told.
//!
//! The fields that are not skipped are those that decide a result: they are written as they stand here, in this order
//! and under these names, as the `parameters` of the manifest. What is skipped says where results go and with what
//! means they are computed. Which maps of an earlier run are worth keeping follows from what these options come to for
//! a view ([`crate::run::resume`]), so that another way to say the same costs nothing.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Map as Fields, Value};

use crate::files::folder::OutputOptions;
use crate::files::names;
use crate::files::ply_storage::OffsetOption;
use crate::files::subfolders::Subfolders;
use crate::fusion::settings::{Method, Pyramid, Settings};
use crate::maps::consistency::Thresholds;
use crate::maps::merge::MergeOptions;
use crate::net::config::Resolution;
use crate::run::device::Backend;
use crate::scene::OpenOptions;
use crate::scene::camera::{DepthRange, Sampling};

/// Everything that [`crate::run::infer::infer`] can be told.
#[derive(Clone, Debug, Serialize)]
pub struct InferOptions {
    /// Where results go.
    #[serde(skip)]
    pub output: OutputOptions,
    /// Bytes to plan with; `None`: what is available.
    #[serde(skip)]
    pub memory: Option<u64>,
    /// Read all bytes of what an earlier run has made and was made from, however unchanged it looks.
    #[serde(skip)]
    pub verify: bool,
    /// Make no maps of levels: where some are missing, that is an error.
    #[serde(skip)]
    pub only_finish: bool,
    /// Where levels are merged and maps are fused.
    #[serde(skip)]
    pub backend: Backend,
    /// Views that the network looks at, the reference included.
    pub views: usize,
    /// Hypotheses; `None`: the scene's number, else [`crate::run::plan::default_planes`].
    pub planes: Option<usize>,
    /// Depths to search; `None`: the scene's, else from its sparse points.
    pub range: Option<DepthRange>,
    /// How far ranges from sparse points are widened.
    pub widen_range: f64,
    /// Spacing of the hypotheses; `None`: by far / near.
    pub sampling: Option<Sampling>,
    /// Levels of the image pyramid.
    pub levels: usize,
    /// Of the maps, against the photos as they are after `max_side`; at most the network's.
    pub resolution: Resolution,
    /// Longest side of the photos, in pixels.
    pub max_side: Option<usize>,
    /// Names of the views to work on; empty: all.
    pub only: Vec<String>,
    /// How the scene is read.
    #[serde(flatten)]
    pub open: OpenOptions,
    /// [`MergeOptions::trusted_confidence`]; `None`: by whether the network's confidence is calibrated.
    pub trusted_confidence: Option<f64>,
    /// [`MergeOptions::replaced_confidence`], likewise.
    pub replaced_confidence: Option<f64>,
    /// Leave depths as the network made them: they are not refined against the photos and each other.
    pub unrefined: bool,
    /// Make no point cloud.
    pub depth_only: bool,
    /// Also write normals.
    pub normals: bool,
    /// Whether files go to subfolders.
    #[serde(skip)]
    pub subfolders: Subfolders,
    /// Which pixels become points.
    #[serde(flatten)]
    pub settings: Settings,
    /// Side of the voxels of which each keeps one point, in scene units; `None`: all points.
    pub thin: Option<f64>,
    /// What is taken from the cloud's coordinates.
    pub ply_offset: OffsetOption,
}

impl Default for InferOptions {
    /// Five views, three levels, and the defaults of merging and fusion.
    fn default() -> Self {
        Self {
            output: OutputOptions::default(),
            memory: None,
            verify: false,
            only_finish: false,
            backend: Backend::Host,
            views: 5,
            planes: None,
            range: None,
            widen_range: 0.1,
            sampling: None,
            levels: 3,
            resolution: Resolution::Full,
            max_side: None,
            only: Vec::new(),
            open: OpenOptions::default(),
            trusted_confidence: None,
            replaced_confidence: None,
            unrefined: false,
            depth_only: false,
            normals: false,
            subfolders: Subfolders::Auto,
            settings: Settings::default(),
            thin: None,
            ply_offset: OffsetOption::None,
        }
    }
}

impl InferOptions {
    /// Whether depths are refined against the photos and each other: maps of the photos' own size are.
    pub fn refines(&self) -> bool {
        !self.unrefined && self.resolution == Resolution::Full
    }

    /// How levels are merged: a coarser pixel is confirmed as one of the cloud is.
    pub fn merge(&self) -> MergeOptions {
        let thresholds = match &self.settings.fusion.method {
            Method::Reprojection(m) | Method::Pyramid(Pyramid { reprojection: m, .. }) => m.thresholds,
            _ => Thresholds::default(),
        };
        let default = MergeOptions::calibrated();
        MergeOptions {
            trusted_confidence: self.trusted_confidence.unwrap_or(default.trusted_confidence),
            replaced_confidence: self.replaced_confidence.unwrap_or(default.replaced_confidence),
            thresholds,
        }
    }

    /// The same with what depends on the network in its place.
    pub fn for_network(&self, calibrated: bool) -> Self {
        let default = if calibrated { MergeOptions::calibrated() } else { MergeOptions::default() };
        let mut options = self.clone();
        options.trusted_confidence.get_or_insert(default.trusted_confidence);
        options.replaced_confidence.get_or_insert(default.replaced_confidence);
        options
    }
}

/// Which maps are read, and how.
#[derive(Clone, Debug, Serialize)]
pub struct MapsOptions {
    /// Where results go.
    #[serde(skip)]
    pub output: OutputOptions,
    /// Bytes to plan with; `None`: what is available.
    #[serde(skip)]
    pub memory: Option<u64>,
    /// The maps' folder.
    #[serde(serialize_with = "names::serialize")]
    pub maps: PathBuf,
    /// Longest side of the photos that the maps were made from; `None`: what the maps' manifest says, else as stored.
    pub max_side: Option<usize>,
    /// Names of the views to fuse; empty: all that have a map.
    pub only: Vec<String>,
    /// Depths outside are left out.
    pub range: Option<DepthRange>,
    /// How the scene is read.
    #[serde(flatten)]
    pub open: OpenOptions,
}

/// Everything that [`crate::run::fuse::fuse`] can be told.
#[derive(Clone, Debug, Serialize)]
pub struct FuseOptions {
    /// The preset that the settings began from.
    pub preset: Option<&'static str>,
    /// Which maps, and where to.
    #[serde(flatten)]
    pub maps: MapsOptions,
    /// Which pixels become points.
    #[serde(flatten)]
    pub settings: Settings,
    /// Side of the voxels of which each keeps one point, in scene units; `None`: all points.
    pub thin: Option<f64>,
    /// What is taken from the cloud's coordinates.
    pub ply_offset: OffsetOption,
}

/// Options as the manifest keeps them.
pub fn parameters(options: &impl Serialize) -> Fields<String, Value> {
    match serde_json::to_value(options) {
        Ok(Value::Object(fields)) => fields,
        _ => Fields::new(),
    }
}
