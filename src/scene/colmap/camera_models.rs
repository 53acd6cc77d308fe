//! What the parameters of COLMAP's camera models mean.

use std::f64::consts::PI;

use crate::scene::lens::Distortion;
use crate::{Error, Result};

const SUPPORTED: &str = "SIMPLE_PINHOLE, PINHOLE, SIMPLE_RADIAL, RADIAL, OPENCV, FULL_OPENCV, OPENCV_FISHEYE, \
                         SIMPLE_RADIAL_FISHEYE, RADIAL_FISHEYE, FOV, THIN_PRISM_FISHEYE, RAD_TAN_THIN_PRISM_FISHEYE, \
                         SIMPLE_DIVISION, DIVISION, \
                         SIMPLE_FISHEYE, FISHEYE, EUCM or EQUIRECTANGULAR; `colmap image_undistorter` turns the \
                         others into PINHOLE";

/// Focal lengths, principal point and distortion.
pub type Optics = ([f64; 2], [f64; 2], Option<Distortion>);

/// Focal lengths, principal point (the first pixel's centre being (0.5, 0.5)) and distortion of a camera of this model.
///
/// # Errors
/// A model that is not supported, another number of parameters, parameters that are not finite.
pub fn optics(place: &str, model: &str, parameters: &[f64]) -> Result<Optics> {
    use Distortion::{
        Brown, Division, Equirectangular, Eucm, Fisheye, Fov, FullOpenCv, OpenCv, RadTanThinPrism, Radial,
    };
    let some = |f: [f64; 2], c: [f64; 2], distortion: Distortion| (f, c, Some(distortion));
    let (f, c, distortion) = match (model, parameters) {
        ("SIMPLE_PINHOLE", &[f, cx, cy]) => ([f, f], [cx, cy], None),
        ("PINHOLE", &[fx, fy, cx, cy]) => ([fx, fy], [cx, cy], None),
        ("SIMPLE_RADIAL", &[f, cx, cy, k]) => some([f, f], [cx, cy], Radial { k: [k, 0.0] }),
        ("RADIAL", &[f, cx, cy, k1, k2]) => some([f, f], [cx, cy], Radial { k: [k1, k2] }),
        ("OPENCV", &[fx, fy, cx, cy, k1, k2, p1, p2]) => some([fx, fy], [cx, cy], OpenCv { k: [k1, k2], p: [p1, p2] }),
        ("FULL_OPENCV", &[fx, fy, cx, cy, k1, k2, p1, p2, k3, k4, k5, k6]) => {
            some([fx, fy], [cx, cy], FullOpenCv { k: [k1, k2, k3, k4, k5, k6], p: [p1, p2] })
        }
        ("OPENCV_FISHEYE", &[fx, fy, cx, cy, k1, k2, k3, k4]) => {
            some([fx, fy], [cx, cy], Fisheye { k: [k1, k2, k3, k4] })
        }
        ("SIMPLE_RADIAL_FISHEYE", &[f, cx, cy, k]) => some([f, f], [cx, cy], Fisheye { k: [k, 0.0, 0.0, 0.0] }),
        ("RADIAL_FISHEYE", &[f, cx, cy, k1, k2]) => some([f, f], [cx, cy], Fisheye { k: [k1, k2, 0.0, 0.0] }),
        ("SIMPLE_FISHEYE", &[f, cx, cy]) => some([f, f], [cx, cy], Fisheye { k: [0.0; 4] }),
        ("FISHEYE", &[fx, fy, cx, cy]) => some([fx, fy], [cx, cy], Fisheye { k: [0.0; 4] }),
        ("THIN_PRISM_FISHEYE", &[fx, fy, cx, cy, k1, k2, p1, p2, k3, k4, sx1, sy1]) => some(
            [fx, fy],
            [cx, cy],
            Brown { equidistant: true, k: [k1, k2, k3, k4], p: [p1, p2, 0.0, 0.0], s: [sx1, sy1] },
        ),
        ("RAD_TAN_THIN_PRISM_FISHEYE", &[fx, fy, cx, cy, k1, k2, k3, k4, k5, k6, p1, p2, s1, s2, s3, s4]) => {
            some([fx, fy], [cx, cy], RadTanThinPrism { k: [k1, k2, k3, k4, k5, k6], p: [p1, p2], s: [s1, s2, s3, s4] })
        }
        // An angle of 0 is no lens, and the formula's limit.
        ("FOV", &[fx, fy, cx, cy, 0.0]) => ([fx, fy], [cx, cy], None),
        ("FOV", &[fx, fy, cx, cy, w]) => some([fx, fy], [cx, cy], Fov { w }),
        ("SIMPLE_DIVISION", &[f, cx, cy, k]) => some([f, f], [cx, cy], Division { k }),
        ("DIVISION", &[fx, fy, cx, cy, k]) => some([fx, fy], [cx, cy], Division { k }),
        // Its parameters are the width and height of the whole turn.
        ("EQUIRECTANGULAR", &[w, h]) => some([0.5 * w / PI, h / PI], [0.5 * w, 0.5 * h], Equirectangular),
        ("EUCM", &[fx, fy, cx, cy, a, b]) => some([fx, fy], [cx, cy], Eucm { a, b }),
        _ => {
            let found = format!("camera model {model} with {} parameters", parameters.len());
            let found = if is_known(model) { found } else { format!("camera model {model}") };
            return Err(Error::input(place, found, SUPPORTED));
        }
    };
    if let Some(i) = parameters.iter().position(|p| !p.is_finite()) {
        let found = format!("parameter {} of {} is {}", i + 1, parameters.len(), parameters[i]);
        return Err(Error::input(place, found, "finite numbers"));
    }
    Ok((f, c, distortion.filter(|d| !d.is_pinhole())))
}

/// Whether only the number of parameters can be wrong.
fn is_known(model: &str) -> bool {
    SUPPORTED.split([',', ' ', ';']).any(|word| word == model)
}
