//! A scene: calibrated photos, the depths to search in front of each, and for each a ranked list of source views.
//!
//! Here is what a scene is; `open.rs` tells which layout a folder holds, [`mvsnet`], [`colmap`] and, for other
//! programs' files of cameras, [`formats`] read it, [`photo`] loads pixels, and [`mask`] says which of them show the
//! scene. Poses are world to camera, pixel centres are integers, and every camera is a pinhole one of the stored
//! photo's size: distortion stays beside it as a [`lens`]. No depth map and no network is known here.

pub mod camera;
mod checks;
pub mod colmap;
mod distortion;
mod faces;
pub mod formats;
pub mod georeference;
pub mod kept_photos;
pub mod known;
pub mod lens;
mod listed_sources;
pub mod look;
pub mod mask;
mod mask_files;
pub mod memory;
pub mod mvsnet;
mod numbering;
mod open;
pub mod photo;
pub mod pose_form;
mod prior;
pub mod range;
mod range_cloud;
mod range_list;
pub mod region;
mod region_files;
pub mod sources;
pub mod stored_photo;
pub mod tracks;
mod visible;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use glam::{DVec2, DVec3};
use serde::{Deserialize, Serialize, Serializer};

use crate::files::names;
use crate::scene::camera::{Camera, DepthRange};
pub use crate::scene::formats::table::Layout;
use crate::scene::georeference::Georeference;
use crate::scene::known::KnownDepths;
use crate::scene::lens::{Face, Lens};
use crate::scene::pose_form::PoseForm;
use crate::scene::region::Region;
use crate::scene::stored_photo::StoredPhoto;

/// Where a scene has its photos: in `images/`, or in its folder itself.
pub fn photos_folder(scene: &Path) -> PathBuf {
    let images = scene.join("images");
    if images.is_dir() { images } else { scene.to_owned() }
}

/// How [`Scene::open`] reads what a layout leaves open.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct OpenOptions {
    /// How two depth numbers in a cam.txt are read.
    pub depth_numbers: DepthNumbers,
    /// The layout to read, where a folder holds several; `None`: MVSNet before COLMAP before others, saying so.
    pub layout: Option<Layout>,
    /// What the poses are in files that do not say so; `None`: what is usual.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub poses: Option<PoseForm>,
    /// Where masks of the photos lie, if there are any.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "in_json")]
    pub masks: Option<PathBuf>,
    /// A cloud (PLY, LAS, LAZ, E57) or a list (text) that depth ranges are taken from.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "in_json")]
    pub range_from: Option<PathBuf>,
    /// Where depth maps lie that are known before, by which ranges are narrowed.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "in_json")]
    pub prior: Option<PathBuf>,
    /// By what the numbers in PNG maps of `prior` are divided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prior_scale: Option<f64>,
    /// How far a depth may lie from that of `prior`, as a share of it; `None`: 0.05.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prior_tolerance: Option<f64>,
    /// The region of interest, where not all is wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roi: Option<RegionOption>,
    /// The COLMAP model to read, or a folder of some, where it does not lie in the scene's folder.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "in_json")]
    pub sparse: Option<PathBuf>,
    /// Where the photos lie if not where the scene's files say.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "in_json")]
    pub images: Option<PathBuf>,
    /// Whether the caller has depth ranges of its own, so that those in the files need not be of use.
    #[serde(skip)]
    pub range_given: bool,
}

/// What the second of two depth numbers in a cam.txt is (protocol page E.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum DepthNumbers {
    /// The farthest depth if it is larger than the first number, else the interval.
    #[default]
    Auto,
    /// The farthest depth.
    Max,
    /// The interval between planes.
    Interval,
}

/// What a region of interest is given by.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RegionOption {
    /// Two corners of a box along the world's axes.
    Box {
        /// The lower end of each coordinate.
        low: [f64; 3],
        /// The upper end, above it.
        high: [f64; 3],
    },
    /// A box in a file: OpenMVS's text, the vertices of a PLY or OBJ file, or the region of a Metashape project.
    File(#[serde(with = "names")] PathBuf),
    /// That of the scene's own files, else around the sparse points, but for strays.
    Auto,
}

/// A folder as the manifest holds it.
fn in_json<S: Serializer>(folder: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    folder.as_ref().map(|folder| names::in_json(folder)).serialize(serializer)
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
    /// Outside of which nothing is wanted; while a scene is opened, the one that its files have.
    pub region: Option<Region>,
    /// The one that its files have, where nobody asks for it: it cuts nothing, and tells how deep views look of which
    /// nothing better is known.
    pub region_of_files: Option<Region>,
    /// What its poses were read as, where its files do not say what they are.
    pub poses: Option<PoseForm>,
    /// Where its coordinates lie on earth, if its files say so.
    pub georeference: Option<Georeference>,
    /// What was assumed, skipped or chosen while reading, one sentence each, for the log and the manifest.
    pub notes: Vec<String>,
}

/// One photo with its camera.
#[derive(Clone, Debug)]
pub struct View {
    /// The scene's own number for it (MVSNet view id, COLMAP image id); ids may have gaps. Where photos are cut into
    /// faces it is `faces::IDS` times that, and 1 to 6 more for a face.
    pub id: u32,
    /// The image file's stem, unique in the scene: the name of every output map.
    pub name: String,
    /// The image file.
    pub image: PathBuf,
    /// The image file that says which pixels of the photo show the scene, if there is one.
    pub mask: Option<PathBuf>,
    /// The photo itself, where it lies in memory; `image` and `mask` are no files then.
    pub in_memory: Option<Arc<StoredPhoto>>,
    /// Width and height in pixels of the stored image, or of the face that is cut out of it.
    pub size: (usize, usize),
    /// The pinhole camera of the stored image, or of the undistorted one where `lens` is set (same size, but for
    /// faces). That of a wide photo, before it is cut, has only a pose.
    pub camera: Camera,
    /// The distortion to remove on loading, if any.
    pub lens: Option<Lens>,
    /// Depths to search, where the scene says so. See also [`View::depth_range`].
    pub range: Option<DepthRange>,
    /// Nearest depth and interval, where the scene gives these instead of a range.
    pub sweep: Option<Sweep>,
    /// Number of hypotheses, where the scene says so.
    pub planes: Option<usize>,
    /// A map of depths that are known before, if there is one.
    pub known: Option<KnownDepths>,
    /// Source views, best first.
    pub sources: Vec<SourceView>,
}

/// Planes from `near` on, `interval` apart; how many there are is the caller's choice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sweep {
    /// Nearest depth, > 0.
    pub near: f64,
    /// Distance of neighbouring planes, > 0.
    pub interval: f64,
}

impl View {
    /// Width and height in pixels of the image file.
    pub fn stored_size(&self) -> (usize, usize) {
        self.lens.as_ref().map_or(self.size, |lens| lens.stored_size)
    }

    /// Whether a place in the world lies in the picture, hidden or not.
    pub fn shows(&self, position: DVec3) -> bool {
        if let Some(lens) = self.lens.as_ref().filter(|lens| lens.is_wide()) {
            return lens.stored_direction(self.camera.r * position + self.camera.t).is_some();
        }
        self.camera.pixel(position).is_some_and(|(pixel, _)| {
            let last = DVec2::new(self.size.0 as f64, self.size.1 as f64) - 0.5;
            pixel.cmpge(DVec2::splat(-0.5)).all()
                && pixel.cmplt(last).all()
                && self.face().is_none_or(|(lens, _)| lens.stored_pixel(pixel).is_some())
        })
    }

    /// Which face of its photo it is, if it is one, with the lens.
    pub fn face(&self) -> Option<(&Lens, Face)> {
        let lens = self.lens.as_ref()?;
        Some((lens, lens.face?))
    }

    /// Whether both are faces of one photo, which see nothing from two places.
    pub fn is_of_photo_of(&self, other: &Self) -> bool {
        self.face().is_some() && other.face().is_some() && self.image == other.image
    }

    /// Depths to search with `planes` hypotheses, where the scene says so: its range, or from the nearest depth on
    /// `planes - 1` intervals.
    pub fn depth_range(&self, planes: usize) -> Option<DepthRange> {
        let of_sweep =
            |s: Sweep| DepthRange { near: s.near, far: s.near + s.interval * planes.max(2).saturating_sub(1) as f64 };
        self.range.or_else(|| self.sweep.map(of_sweep))
    }
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
    /// Mean reprojection error in pixels; 0 where the files do not say.
    pub error: f64,
    /// Indices into [`Scene::views`] of the views that see it, sorted, without repetition.
    pub views: Vec<usize>,
}
