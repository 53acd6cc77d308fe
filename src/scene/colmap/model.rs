//! A COLMAP sparse model (versions 3 and 4): its tables put together, and what its cameras and poses mean.
//!
//! Version 4 keeps poses per frame of a rig (`rigs`, `frames`) beside those of the images: an image's pose is then
//! that of its camera in the rig times that of the rig in the world.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use glam::{DMat3, DQuat, DVec3};

use crate::scene::checks::checked_intrinsics;
use crate::scene::colmap::camera_models::optics;
use crate::scene::colmap::entries::{
    CAMERA_SENSOR, CameraEntry, FrameEntry, ImageEntry, PointEntry, Pose, RigEntry, Sensor,
};
use crate::scene::colmap::{binary, text};
use crate::scene::lens::Distortion;
use crate::{Error, Result};

/// Which of the two encodings a model folder holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Binary,
    Text,
}

impl Encoding {
    /// `None` for a folder that holds no part of a model.
    pub fn of(folder: &Path) -> Option<Self> {
        let has = |name: &str| folder.join(name).is_file();
        let parts = |extension: &str| ["cameras", "images"].map(|part| has(&format!("{part}.{extension}")));
        match (parts("bin"), parts("txt")) {
            ([true, true], _) => Some(Self::Binary),
            (_, [true, true]) => Some(Self::Text),
            // Incomplete: reading it names the missing file.
            ([true, _] | [_, true], _) => Some(Self::Binary),
            (_, [true, _] | [_, true]) => Some(Self::Text),
            _ => None,
        }
    }

    pub fn file(self, folder: &Path, part: &str) -> PathBuf {
        folder.join(match self {
            Self::Binary => format!("{part}.bin"),
            Self::Text => format!("{part}.txt"),
        })
    }
}

/// A model's entries.
#[derive(Debug)]
pub(super) struct Model {
    pub cameras_file: PathBuf,
    pub images_file: PathBuf,
    rigs_file: PathBuf,
    frames_file: PathBuf,
    pub cameras: BTreeMap<u32, CameraEntry>,
    pub images: BTreeMap<u32, ImageEntry>,
    /// `None` where the model has no file of points.
    pub points: Option<Vec<PointEntry>>,
    pub rigs: BTreeMap<u32, RigEntry>,
    pub frames: Vec<FrameEntry>,
    /// What was assumed while reading.
    pub notes: Vec<String>,
}

impl Model {
    /// Reads all files of the model in `folder`.
    pub fn read(folder: &Path, encoding: Encoding) -> Result<Self> {
        let file = |part: &str| encoding.file(folder, part);
        let (cameras_file, images_file, points_file) = (file("cameras"), file("images"), file("points3D"));
        let (rigs_file, frames_file) = (file("rigs"), file("frames"));
        let with_rigs = rigs_file.is_file() && frames_file.is_file();
        let with_points = points_file.is_file();
        let mut notes = Vec::new();
        let (cameras, images, points, rigs, frames) = match encoding {
            Encoding::Binary => (
                binary::cameras(&cameras_file)?,
                binary::images(&images_file)?,
                with_points.then(|| binary::points(&points_file)).transpose()?,
                if with_rigs { binary::rigs(&rigs_file)? } else { Vec::new() },
                if with_rigs { binary::frames(&frames_file)? } else { Vec::new() },
            ),
            Encoding::Text => (
                text::cameras(&cameras_file)?,
                {
                    let (images, without) = text::images(&images_file)?;
                    notes.extend(without_keypoints_note(without, images.len()));
                    images
                },
                with_points.then(|| text::points(&points_file)).transpose()?,
                if with_rigs { text::rigs(&rigs_file)? } else { Vec::new() },
                if with_rigs { text::frames(&frames_file)? } else { Vec::new() },
            ),
        };
        Ok(Self {
            cameras: by_id(&cameras_file, "camera", cameras.into_iter().map(|c| (c.id, c)))?,
            images: by_id(&images_file, "image", images.into_iter().map(|i| (i.id, i)))?,
            rigs: by_id(&rigs_file, "rig", rigs.into_iter().map(|r| (r.id, r)))?,
            cameras_file,
            images_file,
            rigs_file,
            frames_file,
            points,
            frames,
            notes,
        })
    }

    /// World to camera of every image: from its frame where there are frames and they say so, else its own.
    pub fn poses(&self) -> Result<HashMap<u32, (DMat3, DVec3)>> {
        let mut poses = HashMap::new();
        for image in self.images.values() {
            poses.insert(image.id, transform(&self.images_file, &format!("image {}", image.id), image.pose)?);
        }
        // By sensor: a rig may have as many as there are images. Of several entries the first counts.
        let mut in_rigs: HashMap<u32, HashMap<Sensor, Pose>> = HashMap::new();
        for frame in &self.frames {
            let Some(rig) = self.rigs.get(&frame.rig) else { continue };
            let others = in_rigs.entry(rig.id).or_insert_with(|| {
                rig.others.iter().rev().filter_map(|(sensor, pose)| Some((*sensor, (*pose)?))).collect()
            });
            for &(sensor, data) in frame.data.iter().filter(|(sensor, _)| sensor.0 == CAMERA_SENSOR) {
                let Some(image) = u32::try_from(data).ok().and_then(|id| self.images.get(&id)) else {
                    continue;
                };
                let place = format!("frame of image {}", image.id);
                let (r, t) = transform(&self.frames_file, &place, frame.rig_from_world)?;
                if rig.reference == Some(sensor) {
                    poses.insert(image.id, (r, t));
                } else if let Some(in_rig) = others.get(&sensor) {
                    let place = format!("rig {}, camera {}", rig.id, sensor.1);
                    let (rs, ts) = transform(&self.rigs_file, &place, *in_rig)?;
                    poses.insert(image.id, (rs * r, rs * t + ts));
                }
            }
        }
        Ok(poses)
    }
}

fn without_keypoints_note(without: usize, images: usize) -> Option<String> {
    (without > 0).then(|| {
        format!(
            "images.txt has no line of keypoints for {without} of {images} images (the next image follows at once): \
             taken as images without keypoints"
        )
    })
}

fn by_id<T>(file: &Path, what: &str, entries: impl Iterator<Item = (u32, T)>) -> Result<BTreeMap<u32, T>> {
    let mut map = BTreeMap::new();
    for (id, entry) in entries {
        if map.insert(id, entry).is_some() {
            return Err(Error::input(
                file.display().to_string(),
                format!("{what} {id} for the second time"),
                "every number once",
            ));
        }
    }
    Ok(map)
}

/// Rotation matrix and translation. As COLMAP does, the quaternion is normalised.
fn transform(file: &Path, place: &str, pose: Pose) -> Result<(DMat3, DVec3)> {
    let [w, x, y, z] = pose.quaternion;
    let q = DQuat::from_xyzw(x, y, z, w);
    let t = DVec3::from_array(pose.translation);
    let place = || format!("{}: {place}", file.display());
    if !q.length().is_finite() || q.length() < 1e-6 {
        return Err(Error::input(place(), format!("rotation {w} {x} {y} {z}"), "a quaternion w x y z of length 1"));
    }
    if !t.is_finite() {
        return Err(Error::input(place(), format!("translation {} {} {}", t.x, t.y, t.z), "finite numbers"));
    }
    Ok((DMat3::from_quat(q.normalize()), t))
}

impl CameraEntry {
    /// Intrinsics with integer pixel centres (COLMAP's corner pixel has its centre at (0.5, 0.5), so that cx and cy
    /// lose half a pixel), and the distortion that comes before them.
    pub fn intrinsics(&self, file: &Path) -> Result<(DMat3, Option<Distortion>)> {
        let place = format!("{}: camera {}", file.display(), self.id);
        let (f, c, distortion) = optics(&place, self.model.name, &self.parameters)?;
        let rows = [[f[0], 0.0, c[0] - 0.5], [0.0, f[1], c[1] - 0.5], [0.0, 0.0, 1.0]];
        Ok((checked_intrinsics(&place, rows)?, distortion))
    }
}
