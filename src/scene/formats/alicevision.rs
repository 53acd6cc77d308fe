//! AliceVision's (Meshroom's) `.sfm`, also as `.json`.
//!
//! A pose's `rotation` (nine numbers, column by column) leads from the world to the camera, `center` is the camera's.
//! Pixel centres are integers. By version: up to 1.2.0 the principal point begins at the corner of the photo, then at
//! its middle; focal lengths are `pxFocalLength` (one number, from 1.2.0 two), from 1.2.2 `focalLength` in millimetres
//! of `sensorWidth`, with `pixelRatio` (before 1.2.5 fx / fy, then its inverse). Numbers may be texts.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use glam::{DMat3, DVec3};
use serde::{Deserialize, Deserializer};

use crate::scene::checks::checked_rotation;
use crate::scene::formats::calibration::{Calibration, Intrinsics, Origin, Point, Shot, lens, with_centre};
use crate::scene::formats::json::{self, Id, Number};
use crate::scene::formats::listing::{Listing, folder_of};
use crate::scene::lens::Distortion;
use crate::{Error, Result};

const EXPECTED: &str = "AliceVision's .sfm with version, views, intrinsics and poses";

/// The file, if there is one.
pub fn find(listing: &Listing) -> Option<PathBuf> {
    // Files of other programs are called cameras.json, too.
    let is_json = |file: &super::listing::Candidate| {
        (listing.one || matches!(file.name.as_str(), "sfm.json" | "cameras.json"))
            && file.ends(".json")
            && file.says("\"viewId\"")
    };
    listing.first(|file| file.ends(".sfm") || is_json(file))
}

#[derive(Deserialize)]
struct File {
    version: Option<[Number; 3]>,
    views: Vec<View>,
    #[serde(default)]
    intrinsics: Vec<Intrinsic>,
    #[serde(default)]
    poses: Vec<PoseEntry>,
    #[serde(default)]
    rigs: Vec<Rig>,
    #[serde(default)]
    structure: Vec<Landmark>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct View {
    view_id: Id,
    pose_id: Option<Id>,
    intrinsic_id: Option<Id>,
    rig_id: Option<Id>,
    sub_pose_id: Option<Id>,
    /// `false` where the pose is the rig's; a text in some files.
    #[serde(default)]
    is_pose_independant: Truth,
    path: String,
    width: Option<Number>,
    height: Option<Number>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Intrinsic {
    intrinsic_id: Id,
    width: Number,
    height: Number,
    sensor_width: Option<Number>,
    #[serde(rename = "type")]
    kind: String,
    px_focal_length: Option<OneOrTwo>,
    focal_length: Option<Number>,
    pixel_ratio: Option<Number>,
    principal_point: [Number; 2],
    distortion_type: Option<String>,
    #[serde(default)]
    distortion_params: Empty,
    undistortion_type: Option<String>,
}

/// Yes, if nothing else is said.
struct Truth(bool);

impl Default for Truth {
    fn default() -> Self {
        Self(true)
    }
}

impl<'de> Deserialize<'de> for Truth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Bool(bool),
            Number(u8),
            Text(String),
        }
        Ok(Self(match Either::deserialize(deserializer)? {
            Either::Bool(value) => value,
            Either::Number(value) => value != 0,
            Either::Text(text) => !matches!(text.as_str(), "false" | "0"),
        }))
    }
}

/// A number, or two of them.
struct OneOrTwo([f64; 2]);

impl<'de> Deserialize<'de> for OneOrTwo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Two([Number; 2]),
            One(Number),
        }
        Ok(match Either::deserialize(deserializer)? {
            Either::One(f) => Self([f.0; 2]),
            Either::Two([x, y]) => Self([x.0, y.0]),
        })
    }
}

/// A list of numbers, which is an empty text where there are none.
#[derive(Default)]
struct Empty(Vec<f64>);

impl<'de> Deserialize<'de> for Empty {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            List(Vec<Number>),
            Text(String),
        }
        match Either::deserialize(deserializer)? {
            Either::List(list) => Ok(Self(list.into_iter().map(|n| n.0).collect())),
            Either::Text(text) if text.is_empty() => Ok(Self(Vec::new())),
            Either::Text(text) => Err(serde::de::Error::custom(format!("`{text}` instead of distortionParams"))),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PoseEntry {
    pose_id: Id,
    pose: Pose,
}

#[derive(Deserialize)]
struct Pose {
    transform: Transform,
}

#[derive(Deserialize)]
struct Transform {
    rotation: [Number; 9],
    center: [Number; 3],
}

impl Transform {
    /// Rotation and translation.
    fn pose(&self, place: &str) -> Result<(DMat3, DVec3)> {
        let r = checked_rotation(place, DMat3::from_cols_array(&self.rotation.map(|n| n.0)))?;
        with_centre(place, r, DVec3::from_array(self.center.map(|n| n.0)))
    }
}

/// Cameras that are fixed to each other, with the pose of each from the rig's.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rig {
    rig_id: Id,
    sub_poses: Vec<SubPose>,
}

#[derive(Deserialize)]
struct SubPose {
    #[serde(default)]
    status: String,
    pose: Transform,
}

#[derive(Deserialize)]
struct Landmark {
    #[serde(rename = "X")]
    position: [Number; 3],
    #[serde(default)]
    observations: Vec<Observation>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Observation {
    observation_id: Id,
}

/// Reads it.
///
/// # Errors
/// A file that cannot be read or holds something else; the message names the line or the view.
pub fn read(file: &Path) -> Result<Calibration> {
    let content: File = json::read(file, EXPECTED)?;
    let mut notes = Vec::new();
    let version = content.version.map(|v| v.map(|n| n.0 as u32)).unwrap_or_else(|| {
        notes.push("the file has no version: read as version 1.0.0".into());
        [1, 0, 0]
    });
    let poses: HashMap<&Id, &Transform> = content.poses.iter().map(|p| (&p.pose_id, &p.pose.transform)).collect();
    let mut cameras = HashMap::new();
    for intrinsic in &content.intrinsics {
        let place = format!("{}: intrinsicId {}", file.display(), intrinsic.intrinsic_id.0);
        let size = json::size(&place, Some(intrinsic.width), Some(intrinsic.height))?;
        cameras.insert(&intrinsic.intrinsic_id, (place, intrinsic, size));
    }
    let rigs: HashMap<&Id, &Rig> = content.rigs.iter().map(|rig| (&rig.rig_id, rig)).collect();
    let (mut unregistered, mut of_rigs, mut without_sub_pose) = (0, 0, 0);
    let (mut shots, mut places) = (Vec::new(), HashMap::new());
    for view in &content.views {
        let place = format!("{}: viewId {} ({})", file.display(), view.view_id.0, view.path);
        // A view that shares its pose with no other has its own number as pose.
        let pose = poses.get(view.pose_id.as_ref().unwrap_or(&view.view_id));
        let camera = view.intrinsic_id.as_ref().and_then(|id| cameras.get(id));
        let (Some(transform), Some((at, intrinsic, size))) = (pose, camera) else {
            unregistered += 1;
            continue;
        };
        let (intrinsics, distortion) = optics(at, intrinsic, version)?;
        let (mut r, mut t) = transform.pose(&place)?;
        if let Some(sub) = view.sub_pose_id.as_ref().filter(|_| !view.is_pose_independant.0) {
            let of_rig = view.rig_id.as_ref().and_then(|id| rigs.get(id)).zip(sub.0.parse::<usize>().ok());
            let sub = of_rig.and_then(|(rig, sub)| rig.sub_poses.get(sub)).filter(|s| s.status != "uninitialized");
            let Some(sub) = sub else {
                without_sub_pose += 1;
                continue;
            };
            // From the world to the rig, and on to the camera.
            let (to_camera, shift) = sub.pose.pose(&format!("{place}: its place in the rig"))?;
            (r, t) = (to_camera * r, to_camera * t + shift);
            of_rigs += 1;
        }
        places.insert(&view.view_id, shots.len() as u32);
        shots.push(Shot {
            photo: Some(view.path.clone()),
            size: json::size(&place, view.width, view.height)?.or(*size),
            intrinsics,
            distortion,
            r,
            t,
            range: None,
            place,
        });
    }
    let told = [
        (unregistered, "views without a pose or intrinsics (not registered) left out"),
        (of_rigs, "views whose poses are put together from their rig's and their place in it"),
        (without_sub_pose, "views of rigs without a place in their rig left out"),
    ];
    notes.extend(told.into_iter().filter(|t| t.0 > 0).map(|(n, what)| format!("{what}: {n}")));
    let point = |landmark: &Landmark| Point {
        position: DVec3::from_array(landmark.position.map(|n| n.0)),
        error: 0.0,
        shots: landmark.observations.iter().filter_map(|o| places.get(&o.observation_id).copied()).collect(),
    };
    let points = content.structure.iter().map(point).collect();
    Ok(Calibration::new(file.to_owned(), folder_of(file), shots, points, notes))
}

fn optics(place: &str, camera: &Intrinsic, version: [u32; 3]) -> Result<(Intrinsics, Option<Distortion>)> {
    let (width, height) = (camera.width.0, camera.height.0);
    let refused = |found: String, expected: &str| Err(Error::input(place, found, expected));
    let focal = match (&camera.px_focal_length, camera.focal_length, camera.sensor_width) {
        (Some(OneOrTwo(focal)), _, _) => *focal,
        (None, Some(millimetres), Some(sensor)) if sensor.0 > 0.0 => {
            let fx = millimetres.0 / sensor.0 * width;
            let ratio = camera.pixel_ratio.map_or(1.0, |ratio| ratio.0);
            [fx, if version < [1, 2, 5] { fx / ratio } else { fx * ratio }]
        }
        _ => return refused("no focal length".into(), "pxFocalLength, or focalLength with a sensorWidth > 0"),
    };
    let [x, y] = camera.principal_point.map(|n| n.0);
    let principal = if version < [1, 2, 1] { [x, y] } else { [0.5 * width + x, 0.5 * height + y] };
    if camera.undistortion_type.as_deref().is_some_and(|kind| kind != "none") {
        return refused(
            format!("undistortionType {}", camera.undistortion_type.as_deref().unwrap_or_default()),
            "none; use the undistorted photos and cameras of PrepareDenseScene",
        );
    }
    if camera.kind == "equirectangular" {
        // Its focal length is the pixels of a radian.
        return Ok((Intrinsics::pixels(focal, principal, Origin::FirstPixel), Some(Distortion::Equirectangular)));
    }
    // Files before 1.2.5 have the distortion in the type.
    let kind = match (camera.kind.as_str(), camera.distortion_type.as_deref()) {
        ("pinhole", Some(distortion)) => distortion,
        (kind, _) => kind,
    };
    let params = &camera.distortion_params.0[..];
    let radial = |k: [f64; 3], p: [f64; 2]| Distortion::FullOpenCv { k: [k[0], k[1], k[2], 0.0, 0.0, 0.0], p };
    let distortion = match (kind, params) {
        ("pinhole" | "none", _) => None,
        ("radial1" | "radialk1", &[k1]) => lens(place, Distortion::Radial { k: [k1, 0.0] }, params)?,
        ("radial3" | "radialk3", &[k1, k2, k3]) => lens(place, radial([k1, k2, k3], [0.0; 2]), params)?,
        ("brown", &[k1, k2, k3, t1, t2]) => lens(place, radial([k1, k2, k3], [t1, t2]), params)?,
        ("fisheye" | "fisheye4", &[k1, k2, k3, k4]) => {
            lens(place, Distortion::Fisheye { k: [k1, k2, k3, k4] }, params)?
        }
        ("fisheye1", &[w]) if w > 0.0 => lens(place, Distortion::Fov { w }, params)?,
        _ => {
            let found = format!("type {}, distortionType {kind} with {} parameters", camera.kind, params.len());
            let expected = "pinhole, radial1, radial3, brown, fisheye or fisheye1 with 0, 1, 3, 5, 4 or 1 parameters, \
                            or equirectangular; use the undistorted photos and cameras of PrepareDenseScene for others";
            return refused(found, expected);
        }
    };
    Ok((Intrinsics::pixels(focal, principal, Origin::FirstPixel), distortion))
}
