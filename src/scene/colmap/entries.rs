//! The entries of a COLMAP model's tables as they stand in its files, unchecked.
//!
//! [`super::binary`] and [`super::text`] read them; what they mean is in [`super::model`].

use std::path::PathBuf;

use glam::DVec3;

/// `id`, name and number of parameters of every camera model of COLMAP 4.2, the ones that are refused included: in the
/// binary format only this says how long a camera's entry is.
const CAMERA_MODELS: [(i32, &str, usize); 18] = [
    (0, "SIMPLE_PINHOLE", 3),
    (1, "PINHOLE", 4),
    (2, "SIMPLE_RADIAL", 4),
    (3, "RADIAL", 5),
    (4, "OPENCV", 8),
    (5, "OPENCV_FISHEYE", 8),
    (6, "FULL_OPENCV", 12),
    (7, "FOV", 5),
    (8, "SIMPLE_RADIAL_FISHEYE", 4),
    (9, "RADIAL_FISHEYE", 5),
    (10, "THIN_PRISM_FISHEYE", 12),
    (11, "RAD_TAN_THIN_PRISM_FISHEYE", 16),
    (12, "SIMPLE_DIVISION", 4),
    (13, "DIVISION", 5),
    (14, "SIMPLE_FISHEYE", 3),
    (15, "FISHEYE", 4),
    (16, "EUCM", 6),
    (17, "EQUIRECTANGULAR", 2),
];

/// One of [`CAMERA_MODELS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CameraModel {
    pub name: &'static str,
    pub parameters: usize,
}

impl CameraModel {
    pub fn by_id(id: i32) -> Option<Self> {
        let (_, name, parameters) = CAMERA_MODELS.into_iter().find(|model| model.0 == id)?;
        Some(Self { name, parameters })
    }

    pub fn by_name(name: &str) -> Option<Self> {
        let (_, name, parameters) = CAMERA_MODELS.into_iter().find(|model| model.1 == name)?;
        Some(Self { name, parameters })
    }
}

/// An entry of `cameras`.
#[derive(Clone, Debug)]
pub(super) struct CameraEntry {
    pub id: u32,
    pub model: CameraModel,
    pub size: (u64, u64),
    pub parameters: Vec<f64>,
}

/// Rotation (w, x, y, z) and translation of `x_to = R x_from + t`, unchecked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pose {
    pub quaternion: [f64; 4],
    pub translation: [f64; 3],
}

/// An entry of `images`, without its keypoints: the points' tracks say who sees what.
#[derive(Clone, Debug)]
pub(super) struct ImageEntry {
    pub id: u32,
    pub pose: Pose,
    pub camera: u32,
    /// Any bytes but 0, as file systems of Unix allow.
    pub name: PathBuf,
}

/// A sensor by type (0: camera) and number.
pub(super) type Sensor = (i32, u32);
/// The sensor type of cameras.
pub(super) const CAMERA_SENSOR: i32 = 0;

/// An entry of `rigs`.
#[derive(Clone, Debug)]
pub(super) struct RigEntry {
    pub id: u32,
    /// The sensor whose frame is the rig's.
    pub reference: Option<Sensor>,
    /// The others, with their `sensor from rig` where it is known.
    pub others: Vec<(Sensor, Option<Pose>)>,
}

/// An entry of `frames`.
#[derive(Clone, Debug)]
pub(super) struct FrameEntry {
    pub rig: u32,
    pub rig_from_world: Pose,
    /// Sensor and number (for a camera: the image's) of what was taken.
    pub data: Vec<(Sensor, u64)>,
}

/// An entry of `points3D`.
#[derive(Clone, Debug)]
pub(super) struct PointEntry {
    pub id: u64,
    pub position: DVec3,
    pub error: f64,
    /// Images that see it, as in the file: unsorted, perhaps repeated.
    pub images: Vec<u32>,
}

/// A keypoint that belongs to a point: its position as stored (the corner pixel's centre is (0.5, 0.5)) and the
/// point's number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Keypoint {
    pub pixel: [f64; 2],
    pub point: u64,
}
