//! What a file of cameras says, before any photo is looked for: the form that every foreign format is read into.

use std::collections::BTreeMap;
use std::path::PathBuf;

use glam::{DMat3, DVec3};

use crate::scene::camera::DepthRange;
use crate::scene::checks::{checked_intrinsics, checked_rotation};
use crate::scene::georeference::Georeference;
use crate::scene::lens::Distortion;
use crate::scene::pose_form::PoseForm;
use crate::scene::region::Region;
use crate::{Error, Result};

/// The cameras of a scene, and its sparse points where the format has them.
#[derive(Clone, Debug, Default)]
pub struct Calibration {
    /// What was read; of many files the folder that they lie in.
    pub file: PathBuf,
    /// The photos' cameras in the order of the file.
    pub shots: Vec<Shot>,
    /// Sparse points.
    pub points: Vec<Point>,
    /// What was assumed, skipped or chosen, one sentence each.
    pub notes: Vec<String>,
    /// Where photos' names begin, in the order in which it is tried.
    pub folders: Vec<PathBuf>,
    /// Where the format has no names: how many photos there should be, and which of them, in the order of their names,
    /// belongs to each shot.
    pub unnamed: Option<(usize, Vec<usize>)>,
    /// Names of masks, by the place of their shot in [`Calibration::shots`]; they begin where photos' names do.
    pub masks: BTreeMap<usize, String>,
    /// Depth maps that the file names.
    pub depths: NamedDepths,
    /// What the file lists as source views of a shot, by its place: places of others and scores, larger being better.
    pub sources: BTreeMap<usize, Vec<(usize, f64)>>,
    /// The region of interest that the file has.
    pub region: Option<Region>,
    /// What the poses were read as, where the file does not say what they are.
    pub poses: Option<PoseForm>,
    /// Where the world lies on earth, if the file says so.
    pub georeference: Option<Georeference>,
}

impl Calibration {
    /// The calibration of a file whose photos lie beside it or in images/ there.
    pub fn new(file: PathBuf, folder: PathBuf, shots: Vec<Shot>, points: Vec<Point>, notes: Vec<String>) -> Self {
        let images = folder.join("images");
        Self { file, shots, points, notes, folders: vec![folder, images], ..Self::default() }
    }

    /// With poses that are `form`.
    ///
    /// # Errors
    /// Files that say themselves what their poses are.
    pub fn with_poses(mut self, form: PoseForm) -> Result<Self> {
        let Some(own) = self.poses.replace(form) else {
            let found = format!("--poses {}", form.name());
            let expected = "no such option: the format says itself what its poses are (transforms.json, 7-Scenes and \
                            Open3D's .log do not)";
            return Err(Error::input(self.file.display().to_string(), found, expected));
        };
        for shot in &mut self.shots {
            (shot.r, shot.t) = own.read_as(form, (shot.r, shot.t));
        }
        Ok(self)
    }

    /// With photos that have no names in the file, one for each shot.
    pub fn without_names(mut self) -> Self {
        self.unnamed = Some((self.shots.len(), (0..self.shots.len()).collect()));
        self
    }
}

/// Depth maps of photos, whose names begin where photos' names do.
#[derive(Clone, Debug, Default)]
pub struct NamedDepths {
    /// By the place of their shot in [`Calibration::shots`].
    pub files: BTreeMap<usize, String>,
    /// Depth that 1 means in maps of whole numbers.
    pub one: f64,
    /// What depths are divided by to be the scene's.
    pub world: f64,
}

/// One photo's camera.
#[derive(Clone, Debug)]
pub struct Shot {
    /// File and place in it, for messages: `transforms.json: frame 3`.
    pub place: String,
    /// The photo's name as the file has it; `None` where the format has none, and order alone tells.
    pub photo: Option<String>,
    /// Width and height in pixels, where the file says so.
    pub size: Option<(usize, usize)>,
    /// What becomes K.
    pub intrinsics: Intrinsics,
    /// How the lens bends rays before K, if it does.
    pub distortion: Option<Distortion>,
    /// Rotation, world to camera; x right, y down, z forward.
    pub r: DMat3,
    /// Translation, world to camera.
    pub t: DVec3,
    /// Depths to search, where the file says so.
    pub range: Option<DepthRange>,
}

/// A sparse point.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Position in the world.
    pub position: DVec3,
    /// Mean reprojection error in pixels; 0 where the file does not say.
    pub error: f64,
    /// Indices into [`Calibration::shots`] of those that see it; may repeat.
    pub shots: Vec<u32>,
}

/// A length in the photo.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Length {
    /// In pixels.
    Pixels(f64),
    /// In widths of the photo.
    Widths(f64),
    /// In heights of the photo.
    Heights(f64),
    /// In the longer of both.
    Sides(f64),
}

impl Length {
    /// In pixels of a photo of this size.
    pub fn pixels(self, size: (usize, usize)) -> f64 {
        let (width, height) = (size.0 as f64, size.1 as f64);
        match self {
            Self::Pixels(value) => value,
            Self::Widths(value) => value * width,
            Self::Heights(value) => value * height,
            Self::Sides(value) => value * width.max(height),
        }
    }
}

/// From where a principal point is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The first pixel's centre: as this crate does.
    FirstPixel,
    /// The photo's upper left corner: the first pixel's centre is (0.5, 0.5).
    Corner,
    /// The photo's middle.
    Middle,
}

/// K in the units of its file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Intrinsics {
    /// Horizontal and vertical focal length.
    pub focal: [Length; 2],
    /// K's second number, in pixels.
    pub skew: f64,
    /// The principal point ...
    pub principal: [Length; 2],
    /// ... and from where.
    pub origin: Origin,
}

impl Intrinsics {
    /// Of pixels, from `origin`.
    pub fn pixels(focal: [f64; 2], principal: [f64; 2], origin: Origin) -> Self {
        Self { focal: focal.map(Length::Pixels), skew: 0.0, principal: principal.map(Length::Pixels), origin }
    }

    /// Of K whose pixel centres are integers.
    pub fn of_k(k: [[f64; 3]; 3]) -> Self {
        let mut intrinsics = Self::pixels([k[0][0], k[1][1]], [k[0][2], k[1][2]], Origin::FirstPixel);
        intrinsics.skew = k[0][1];
        intrinsics
    }

    /// With the principal point in the middle of the photo.
    pub fn centred(focal: Length) -> Self {
        Self { focal: [focal; 2], skew: 0.0, principal: [Length::Pixels(0.0); 2], origin: Origin::Middle }
    }

    /// Of a panorama that goes once around across its width, looking ahead in its middle: as many pixels for a radian
    /// down as across.
    pub fn of_panorama(origin: Origin) -> Self {
        let principal = match origin {
            Origin::Middle => [Length::Pixels(0.0); 2],
            Origin::FirstPixel | Origin::Corner => [Length::Widths(0.5), Length::Heights(0.5)],
        };
        Self { focal: [Length::Widths(0.5 / std::f64::consts::PI); 2], skew: 0.0, principal, origin }
    }

    /// K of a photo of this size, pixel centres being integers.
    ///
    /// # Errors
    /// Focal lengths that are not positive, numbers that are not finite.
    pub fn k(&self, place: &str, size: (usize, usize)) -> Result<DMat3> {
        let origin = match self.origin {
            Origin::FirstPixel => [0.0; 2],
            Origin::Corner => [-0.5; 2],
            Origin::Middle => [0.5 * size.0 as f64 - 0.5, 0.5 * size.1 as f64 - 0.5],
        };
        let [fx, fy] = self.focal.map(|length| length.pixels(size));
        let [cx, cy] = self.principal.map(|length| length.pixels(size));
        let rows = [[fx, self.skew, cx + origin[0]], [0.0, fy, cy + origin[1]], [0.0, 0.0, 1.0]];
        checked_intrinsics(place, rows)
    }
}

/// World to camera with y down and z forward, of a camera to world with y up and z backward (OpenGL's axes): rows of a
/// rotation and the camera's centre.
///
/// # Errors
/// Numbers that are no rotation, or a centre that is not finite.
pub fn of_opengl(place: &str, rows: [[f64; 3]; 3], centre: DVec3) -> Result<(DMat3, DVec3)> {
    let to_world = checked_rotation(place, DMat3::from_cols_array_2d(&rows).transpose())?;
    let r = DMat3::from_diagonal(DVec3::new(1.0, -1.0, -1.0)) * to_world.transpose();
    with_centre(place, r, centre)
}

/// World to camera, of a rotation that is checked already and a centre in the world.
///
/// # Errors
/// A centre that is not finite.
pub fn with_centre(place: &str, r: DMat3, centre: DVec3) -> Result<(DMat3, DVec3)> {
    Ok((r, -(r * finite(place, "the camera's centre", centre)?)))
}

/// A vector of finite numbers.
///
/// # Errors
/// One that has others.
pub fn finite(place: &str, what: &str, vector: DVec3) -> Result<DVec3> {
    if vector.is_finite() {
        return Ok(vector);
    }
    let found = format!("{what} {} {} {}", vector.x, vector.y, vector.z);
    Err(crate::Error::input(place, found, "finite numbers"))
}

/// A lens without what bends nothing.
///
/// # Errors
/// Coefficients that are not finite.
pub fn lens(place: &str, distortion: Distortion, coefficients: &[f64]) -> Result<Option<Distortion>> {
    if let Some(bad) = coefficients.iter().find(|c| !c.is_finite()) {
        return Err(crate::Error::input(place, format!("a coefficient of distortion {bad}"), "finite numbers"));
    }
    Ok(Some(distortion).filter(|d| !d.is_pinhole()))
}
