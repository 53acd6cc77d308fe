//! `transforms.json` of instant-ngp, nerfstudio, and the apps whose scenes nerfstudio converts (Polycam, Record3D).
//!
//! A frame's `transform_matrix` leads from the camera to the world, with OpenGL's camera axes (y up, z backward).
//! Focal lengths are `fl_x`, `fl_y` in pixels or `camera_angle_x`, `camera_angle_y` in radians, of all frames or of
//! one; the first pixel's centre is (0.5, 0.5). Coefficients k1 to k4, p1, p2 are nerfstudio's: of r^2 to r^8, and
//! OpenCV's tangential ones; for fisheye cameras they are those of OpenCV's fisheye, for FULL_OPENCV k4 to k6 are the
//! rational model's. OpenCV's thin prism (s1 to s4) and tilted sensor (tau_x, tau_y) are of no other model. Where
//! nerfstudio has turned and scaled the world, `applied_transform` and `applied_scale` say how, and it is undone.

use std::f64::consts::FRAC_PI_2;
use std::path::{Path, PathBuf};

use glam::{DMat3, DVec3};
use serde::Deserialize;

use crate::files::ply_points;
use crate::scene::checks::checked_rotation;
use crate::scene::formats::calibration::{
    Calibration, Intrinsics, Length, NamedDepths, Origin, Point, Shot, lens, of_opengl,
};
use crate::scene::formats::json::{self, Number};
use crate::scene::formats::listing::{Listing, folder_of};
use crate::scene::lens::Distortion;
use crate::scene::pose_form::PoseForm;
use crate::{Error, Result};

const EXPECTED: &str = "a transforms.json of instant-ngp or nerfstudio: intrinsics, and frames with file_path and \
                        transform_matrix";

/// The file, if there is one.
pub fn find(listing: &Listing) -> Option<PathBuf> {
    let says = |file: &super::listing::Candidate| file.says("\"transform_matrix\"") && file.says("\"frames\"");
    listing.named(&["transforms.json", "transforms_train.json"], says)
}

/// Defines a struct that has, beside its own fields, those of a camera's optics, which may stand in both places.
macro_rules! with_optics {
    ($name:ident { $($field:ident: $type:ty,)* }) => {
        #[derive(Deserialize)]
        struct $name {
            w: Option<Number>,
            h: Option<Number>,
            fl_x: Option<Number>,
            fl_y: Option<Number>,
            camera_angle_x: Option<Number>,
            camera_angle_y: Option<Number>,
            cx: Option<Number>,
            cy: Option<Number>,
            k1: Option<Number>,
            k2: Option<Number>,
            k3: Option<Number>,
            k4: Option<Number>,
            k5: Option<Number>,
            k6: Option<Number>,
            p1: Option<Number>,
            p2: Option<Number>,
            s1: Option<Number>,
            s2: Option<Number>,
            s3: Option<Number>,
            s4: Option<Number>,
            #[serde(alias = "tauX")]
            tau_x: Option<Number>,
            #[serde(alias = "tauY")]
            tau_y: Option<Number>,
            camera_model: Option<String>,
            is_fisheye: Option<bool>,
            $($field: $type,)*
        }

        impl $name {
            /// The optics that it states.
            fn optics(&self) -> Optics {
                let value = |number: Option<Number>| number.map(|n| n.0);
                Optics {
                    size: (self.w, self.h),
                    focal: [value(self.fl_x), value(self.fl_y)],
                    angle: [value(self.camera_angle_x), value(self.camera_angle_y)],
                    principal: [value(self.cx), value(self.cy)],
                    k: [self.k1, self.k2, self.k3, self.k4, self.k5, self.k6].map(value),
                    p: [self.p1, self.p2].map(value),
                    s: [self.s1, self.s2, self.s3, self.s4].map(value),
                    tau: [self.tau_x, self.tau_y].map(value),
                    model: self.camera_model.clone(),
                    is_fisheye: self.is_fisheye,
                }
            }
        }
    };
}

with_optics!(File {
    frames: Vec<Frame>,
    applied_transform: Option<Vec<[f64; 4]>>,
    applied_scale: Option<f64>,
    ply_file_path: Option<String>,
    integer_depth_scale: Option<f64>,
});

with_optics!(Frame {
    file_path: String,
    transform_matrix: Vec<[f64; 4]>,
    mask_path: Option<String>,
    depth_file_path: Option<String>,
    depth_path: Option<String>,
});

impl Frame {
    /// The name of its depth map.
    fn depth(&self) -> Option<&String> {
        self.depth_file_path.as_ref().or(self.depth_path.as_ref())
    }
}

/// What is said of a camera without its pose.
#[derive(Clone)]
struct Optics {
    size: (Option<Number>, Option<Number>),
    focal: [Option<f64>; 2],
    angle: [Option<f64>; 2],
    principal: [Option<f64>; 2],
    k: [Option<f64>; 6],
    p: [Option<f64>; 2],
    s: [Option<f64>; 4],
    tau: [Option<f64>; 2],
    model: Option<String>,
    is_fisheye: Option<bool>,
}

impl Optics {
    /// With what is not said taken from those of all frames.
    fn or(&self, all: &Self) -> Self {
        fn each<T: Copy, const N: usize>(own: [Option<T>; N], all: [Option<T>; N]) -> [Option<T>; N] {
            std::array::from_fn(|i| own[i].or(all[i]))
        }
        Self {
            size: (self.size.0.or(all.size.0), self.size.1.or(all.size.1)),
            // An own angle must not stand behind a common length.
            focal: if self.angle[0].is_some() { self.focal } else { each(self.focal, all.focal) },
            angle: each(self.angle, all.angle),
            principal: each(self.principal, all.principal),
            k: each(self.k, all.k),
            p: each(self.p, all.p),
            s: each(self.s, all.s),
            tau: each(self.tau, all.tau),
            model: self.model.clone().or_else(|| all.model.clone()),
            is_fisheye: self.is_fisheye.or(all.is_fisheye),
        }
    }

    fn is_panorama(&self) -> bool {
        self.model.as_deref() == Some("EQUIRECTANGULAR")
    }

    fn intrinsics(&self, place: &str) -> Result<Intrinsics> {
        // Whatever focal lengths stand there: nerfstudio has half the width, others have 1.
        if self.is_panorama() {
            return Ok(Intrinsics::of_panorama(Origin::Middle));
        }
        // Tangents of half the angle, in widths and heights.
        let of_angle = |axis: usize| self.angle[axis].map(|angle| 0.5 / (0.5 * angle).tan());
        let across = self.focal[0].map(Length::Pixels).or_else(|| of_angle(0).map(Length::Widths));
        let down = self.focal[1].map(Length::Pixels).or_else(|| {
            // Pixels are square where only the horizontal length is given.
            if self.focal[0].is_some() { None } else { of_angle(1).map(Length::Heights) }
        });
        let Some(focal) = across.map(|x| [x, down.unwrap_or(x)]).or_else(|| down.map(|y| [y, y])) else {
            return Err(Error::input(
                place,
                "no focal length",
                "fl_x or camera_angle_x, of the frame or of all frames",
            ));
        };
        Ok(match self.principal {
            [Some(cx), Some(cy)] => {
                let principal = [Length::Pixels(cx), Length::Pixels(cy)];
                Intrinsics { focal, skew: 0.0, principal, origin: Origin::Corner }
            }
            _ => Intrinsics { focal, ..Intrinsics::centred(focal[0]) },
        })
    }

    fn distortion(&self, place: &str) -> Result<Option<Distortion>> {
        if self.is_panorama() {
            return Ok(Some(Distortion::Equirectangular));
        }
        let (is_fisheye, is_rational) = match self.model.as_deref() {
            None => (self.is_fisheye.unwrap_or(false), false),
            Some("OPENCV_FISHEYE" | "FISHEYE" | "SIMPLE_RADIAL_FISHEYE" | "RADIAL_FISHEYE") => (true, false),
            Some("FULL_OPENCV") => (false, true),
            Some("OPENCV" | "PINHOLE" | "SIMPLE_PINHOLE" | "SIMPLE_RADIAL" | "RADIAL" | "PERSPECTIVE") => {
                (false, false)
            }
            Some(other) => {
                return Err(Error::input(
                    place,
                    format!("camera_model {other}"),
                    "PINHOLE, SIMPLE_PINHOLE, SIMPLE_RADIAL, RADIAL, OPENCV, FULL_OPENCV, OPENCV_FISHEYE or \
                     EQUIRECTANGULAR",
                ));
            }
        };
        let k @ [k1, k2, k3, k4, k5, k6] = self.k.map(Option::unwrap_or_default);
        let p @ [p1, p2] = self.p.map(Option::unwrap_or_default);
        let (s, tilt) = (self.s.map(Option::unwrap_or_default), self.tau.map(Option::unwrap_or_default));
        let all: Vec<f64> = k.iter().chain(&p).chain(&s).chain(&tilt).copied().collect();
        if let Some(angle) = tilt.iter().find(|angle| angle.abs() >= FRAC_PI_2) {
            return Err(Error::input(place, format!("a tilt of {angle}"), "tau_x and tau_y in radians, below pi / 2"));
        }
        let has_more = s.iter().chain(&tilt).any(|&c| c != 0.0);
        if is_rational {
            let of_eight = Distortion::FullOpenCv { k, p };
            let of_fourteen = Distortion::ThinPrismTilted { k, p, s, tilt };
            return lens(place, if has_more { of_fourteen } else { of_eight }, &all);
        }
        if has_more && (is_fisheye || k4 != 0.0) {
            return Err(Error::input(
                place,
                format!("s1 to s4, tau_x or tau_y beside {}", if is_fisheye { "a fisheye" } else { "k4" }),
                "camera_model FULL_OPENCV, if the coefficients are those of OpenCV's calibrateCamera",
            ));
        }
        if k5 != 0.0 || k6 != 0.0 {
            return Err(Error::input(
                place,
                format!("k5 {k5} and k6 {k6}"),
                "k1 to k4, p1 and p2 only, since programs differ in what k5 and k6 mean; or camera_model FULL_OPENCV, \
                 if they are OpenCV's",
            ));
        }
        let k = [k1, k2, k3, k4];
        if is_fisheye {
            return lens(place, Distortion::Fisheye { k }, &all);
        }
        if has_more {
            return lens(place, Distortion::ThinPrismTilted { k: [k1, k2, k3, 0.0, 0.0, 0.0], p, s, tilt }, &all);
        }
        // Fewer coefficients are COLMAP's model, whose formula is shorter.
        let opencv = Distortion::OpenCv { k: [k1, k2], p };
        let brown = Distortion::Brown { equidistant: false, k, p: [p1, p2, 0.0, 0.0], s: [0.0; 2] };
        lens(place, if k3 == 0.0 && k4 == 0.0 { opencv } else { brown }, &all)
    }
}

/// How the world of the file came from that of the photos' calibration.
struct Applied {
    r: DMat3,
    t: DVec3,
    scale: f64,
}

impl Applied {
    fn undone(&self, position: DVec3) -> DVec3 {
        self.r.transpose() * (position / self.scale - self.t)
    }
}

/// Rotation and translation of three or four rows of four.
fn rows_of(place: &str, field: &str, matrix: &[[f64; 4]]) -> Result<([[f64; 3]; 3], DVec3)> {
    let expected = "four rows of four numbers, the last one 0 0 0 1";
    let last = matrix.get(3).copied().unwrap_or([0.0, 0.0, 0.0, 1.0]);
    if !(3..=4).contains(&matrix.len()) {
        return Err(Error::input(place, format!("{field} of {} rows", matrix.len()), expected));
    }
    if last[..3].iter().any(|v| v.abs() > 1e-6) || (last[3] - 1.0).abs() > 1e-6 {
        let found = format!("{field} with the last row {} {} {} {}", last[0], last[1], last[2], last[3]);
        return Err(Error::input(place, found, expected));
    }
    let row = |i: usize| [matrix[i][0], matrix[i][1], matrix[i][2]];
    Ok(([row(0), row(1), row(2)], DVec3::new(matrix[0][3], matrix[1][3], matrix[2][3])))
}

/// Reads it.
///
/// # Errors
/// A file that cannot be read or holds something else; the message names the line or the frame.
pub fn read(file: &Path) -> Result<Calibration> {
    let content: File = json::read(file, EXPECTED)?;
    let mut notes = Vec::new();
    if file.file_name().is_some_and(|name| name == "transforms_train.json") {
        notes.push("the frames are those of transforms_train.json; those for validation and test are left out".into());
    }
    let applied = applied(file, &content, &mut notes)?;
    let all = content.optics();
    let mut shots = Vec::with_capacity(content.frames.len());
    for (i, frame) in content.frames.iter().enumerate() {
        let place = format!("{}: frame {i} ({})", file.display(), frame.file_path);
        let optics = frame.optics().or(&all);
        let (rows, centre) = rows_of(&place, "a transform_matrix", &frame.transform_matrix)?;
        let (mut r, mut t) = of_opengl(&place, rows, centre)?;
        if let Some(applied) = &applied {
            r *= applied.r;
            t = -(r * applied.undone(centre));
        }
        shots.push(Shot {
            photo: Some(frame.file_path.clone()),
            size: json::size(&place, optics.size.0, optics.size.1)?,
            intrinsics: optics.intrinsics(&place)?,
            distortion: optics.distortion(&place)?,
            r,
            t,
            range: None,
            place,
        });
    }
    let folder = folder_of(file);
    let points = points(&content, &folder, applied.as_ref(), &mut notes)?;
    let named = |(i, frame): (usize, &Frame)| Some((i, frame.mask_path.clone()?));
    let masks = content.frames.iter().enumerate().filter_map(named).collect();
    let depths = NamedDepths {
        files: content.frames.iter().enumerate().filter_map(|(i, frame)| Some((i, frame.depth()?.clone()))).collect(),
        // Of whole numbers: instant-ngp says what one is, nerfstudio takes millimetres.
        one: content.integer_depth_scale.unwrap_or(1e-3),
        // The world of the file is this many times as large as the scene's.
        world: applied.as_ref().map_or(1.0, |applied| applied.scale),
    };
    if !(depths.one > 0.0 && depths.one.is_finite()) {
        let place = format!("{}: integer_depth_scale", file.display());
        return Err(Error::input(place, depths.one.to_string(), "a number > 0"));
    }
    let poses = Some(PoseForm::CameraToWorldOpenGl);
    Ok(Calibration { masks, depths, poses, ..Calibration::new(file.to_owned(), folder, shots, points, notes) })
}

fn applied(file: &Path, content: &File, notes: &mut Vec<String>) -> Result<Option<Applied>> {
    if content.applied_transform.is_none() && content.applied_scale.is_none() {
        return Ok(None);
    }
    let place = format!("{}: applied_transform", file.display());
    let (r, t) = match &content.applied_transform {
        Some(matrix) => {
            let (rows, t) = rows_of(&place, "an applied_transform", matrix)?;
            (checked_rotation(&place, DMat3::from_cols_array_2d(&rows).transpose())?, t)
        }
        None => (DMat3::IDENTITY, DVec3::ZERO),
    };
    let scale = content.applied_scale.unwrap_or(1.0);
    if !(scale > 0.0 && scale.is_finite() && t.is_finite()) {
        return Err(Error::input(place, format!("scale {scale}, translation {t}"), "a scale > 0 and finite numbers"));
    }
    notes.push(
        "applied_transform and applied_scale are undone: the world is that of the calibration before nerfstudio".into(),
    );
    Ok(Some(Applied { r, t, scale }))
}

/// The sparse points of the PLY file that is named, without tracks.
fn points(content: &File, folder: &Path, applied: Option<&Applied>, notes: &mut Vec<String>) -> Result<Vec<Point>> {
    let Some(name) = &content.ply_file_path else { return Ok(Vec::new()) };
    let path = folder.join(name);
    if !path.is_file() {
        notes.push(format!("ply_file_path: there is no {}", path.display()));
        return Ok(Vec::new());
    }
    let cloud = ply_points::read(&path)?;
    notes.extend(cloud.notes(&path));
    let undone = |position: DVec3| applied.map_or(position, |applied| applied.undone(position));
    let point =
        |position: [f64; 3]| Point { position: undone(DVec3::from_array(position)), error: 0.0, shots: Vec::new() };
    Ok(cloud.points.into_iter().map(point).collect())
}
