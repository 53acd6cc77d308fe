//! Lens distortion of imported cameras: the models of COLMAP and of the foreign formats.
//!
//! All models map a ray (x, y, 1) of the camera's frame to a distorted (x', y') and then to a pixel by
//! `(fx x' + s y' + cx, fy y' + cy)`; the names in capitals are COLMAP's, which takes OpenCV's formulas. A program that
//! writes the other direction (from the photo to the ray) has a variant here that solves it. Models that take the angle
//! off the axis, and those that say where rays from the side come to lie, go on beyond 90 degrees.

use std::f64::consts::{FRAC_2_PI, PI};

use glam::{DVec2, DVec3};
use serde::{Deserialize, Serialize};

/// How a ray's normalised coordinates are bent. With `r2 = x^2 + y^2`:
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Distortion {
    /// SIMPLE_RADIAL (k2 = 0) and RADIAL: `x' = x (1 + k1 r2 + k2 r2^2)`.
    Radial {
        /// Coefficients of r^2 and r^4.
        k: [f64; 2],
    },
    /// OPENCV: RADIAL and `x' += 2 p1 x y + p2 (r2 + 2 x^2)`, `y' += 2 p2 x y + p1 (r2 + 2 y^2)`.
    OpenCv {
        /// Coefficients of r^2 and r^4.
        k: [f64; 2],
        /// Tangential coefficients.
        p: [f64; 2],
    },
    /// FULL_OPENCV: as OPENCV, the radial factor being
    /// `(1 + k1 r2 + k2 r2^2 + k3 r2^3) / (1 + k4 r2 + k5 r2^2 + k6 r2^3)`.
    FullOpenCv {
        /// k1 to k6.
        k: [f64; 6],
        /// Tangential coefficients.
        p: [f64; 2],
    },
    /// OpenCV's with 12 coefficients (`tilt` = 0) and 14: FULL_OPENCV and
    /// `x' += s1 r2 + s2 r2^2`, `y' += s3 r2 + s4 r2^2`, seen by a sensor that is turned about its x and then about its
    /// y axis.
    ThinPrismTilted {
        /// k1 to k6.
        k: [f64; 6],
        /// Tangential coefficients.
        p: [f64; 2],
        /// Thin prism.
        s: [f64; 4],
        /// Angles of the sensor about x and y, in radians, below a right angle.
        tilt: [f64; 2],
    },
    /// SIMPLE_RADIAL_FISHEYE (k2 = k3 = k4 = 0) and OPENCV_FISHEYE: with `a = atan(r)`,
    /// `x' = x / r (a + k1 a^3 + k2 a^5 + k3 a^7 + k4 a^9)`.
    Fisheye {
        /// Coefficients of a^3, a^5, a^7 and a^9.
        k: [f64; 4],
    },
    /// Metashape, nerfstudio, RealityCapture, kapture, and COLMAP's THIN_PRISM_FISHEYE. Where `equidistant`, (x, y) is
    /// first scaled to the radius atan(r), and r2 is that radius squared:
    /// `x' = x (1 + k1 r2 + k2 r2^2 + k3 r2^3 + k4 r2^4) + (2 p1 x y + p2 (r2 + 2 x^2)) (1 + p3 r2 + p4 r2^2) + s1 r2`,
    /// `y'` with x and y, p1 and p2 exchanged, and s2.
    Brown {
        /// Whether the angle off the axis takes the place of its tangent.
        equidistant: bool,
        /// Coefficients of r^2 to r^8.
        k: [f64; 4],
        /// Tangential coefficients, and two by which these grow outwards.
        p: [f64; 4],
        /// Thin prism.
        s: [f64; 2],
    },
    /// RAD_TAN_THIN_PRISM_FISHEYE (Project Aria's): with `a = atan(r)` and (x, y) scaled to the radius
    /// `a (1 + k1 a^2 + ... + k6 a^12)`, and r2 that radius squared:
    /// `x' = x + 2 x (p1 x + p2 y) + p1 r2 + s1 r2 + s2 r2^2`, `y'` with p1 and p2, x and y exchanged, and s3 and s4.
    RadTanThinPrism {
        /// Coefficients of a^2 to a^12.
        k: [f64; 6],
        /// Tangential coefficients: the first is that of x, unlike OpenCV's.
        p: [f64; 2],
        /// Thin prism.
        s: [f64; 4],
    },
    /// FOV, and AliceVision's fisheye1: `x' = x / r atan(2 r tan(w / 2)) / w`.
    Fov {
        /// Angle in radians, > 0.
        w: f64,
    },
    /// SIMPLE_DIVISION and DIVISION, from the photo to the ray: `x = x' / (1 + k r'^2)`.
    Division {
        /// Coefficient of r'^2.
        k: f64,
    },
    /// VisualSFM, from the photo to the ray: `x = x' (1 + k r'^2)`.
    Measured {
        /// Coefficient of r'^2.
        k: f64,
    },
    /// EUCM: `x' = x / (a sqrt(b r2 + 1) + 1 - a)`.
    Eucm {
        /// Between a pinhole (0) and a parabola.
        a: f64,
        /// Eccentricity, > 0.
        b: f64,
    },
    /// Pix4D's fisheye: with `q = 2 / pi atan(r)`, `x' = x / r (q + c2 q^2 + c3 q^3 + c4 q^4)`.
    AnglePolynomial {
        /// Coefficients of q^2, q^3 and q^4.
        c: [f64; 3],
    },
    /// EQUIRECTANGULAR: x' is the longitude, y' the latitude, both in radians and 0 ahead: of a direction (X, Y, Z)
    /// `x' = atan2(X, Z)`, `y' = atan2(Y, sqrt(X^2 + Z^2))`.
    Equirectangular,
}

impl Distortion {
    /// Whether the model bends nothing (a fisheye lens without coefficients still does).
    pub fn is_pinhole(&self) -> bool {
        match self {
            Self::Radial { k } => k.iter().all(|&c| c == 0.0),
            Self::OpenCv { k, p } => k.iter().chain(p).all(|&c| c == 0.0),
            Self::FullOpenCv { k, p } => k.iter().chain(p).all(|&c| c == 0.0),
            Self::ThinPrismTilted { k, p, s, tilt } => k.iter().chain(p).chain(s).chain(tilt).all(|&c| c == 0.0),
            Self::Brown { equidistant, k, p, s } => !equidistant && k.iter().chain(p).chain(s).all(|&c| c == 0.0),
            Self::Division { k } | Self::Measured { k } => *k == 0.0,
            Self::Eucm { a, .. } => *a == 0.0,
            Self::Fisheye { .. }
            | Self::RadTanThinPrism { .. }
            | Self::Fov { .. }
            | Self::AnglePolynomial { .. }
            | Self::Equirectangular => false,
        }
    }

    /// Whether the angle off the axis takes the place of its tangent.
    fn takes_angles(&self) -> bool {
        match self {
            Self::Brown { equidistant, .. } => *equidistant,
            Self::Fisheye { .. } | Self::RadTanThinPrism { .. } | Self::AnglePolynomial { .. } => true,
            _ => false,
        }
    }

    /// What the model's polynomials take of a direction: its place on the plane before the camera, or one as far from
    /// the middle as the angle off the axis. Not a number for directions that it has no place for.
    #[inline]
    fn flat(&self, direction: DVec3) -> DVec2 {
        if self.takes_angles() {
            direction.truncate() * angle_share(direction.truncate().length(), direction.z)
        } else if direction.z > 0.0 {
            direction.truncate() / direction.z
        } else {
            DVec2::NAN
        }
    }

    /// What the radial part multiplies [`Self::flat`] with at its squared radius `r2`.
    #[inline]
    fn radial_factor(&self, r2: f64) -> f64 {
        match self {
            Self::Radial { k } | Self::OpenCv { k, .. } => 1.0 + r2 * (k[0] + r2 * k[1]),
            Self::FullOpenCv { k, .. } | Self::ThinPrismTilted { k, .. } => {
                (1.0 + r2 * (k[0] + r2 * (k[1] + r2 * k[2]))) / (1.0 + r2 * (k[3] + r2 * (k[4] + r2 * k[5])))
            }
            Self::Fisheye { k } | Self::Brown { k, .. } => 1.0 + r2 * (k[0] + r2 * (k[1] + r2 * (k[2] + r2 * k[3]))),
            Self::RadTanThinPrism { k, .. } => 1.0 + r2 * k.iter().rev().fold(0.0, |sum, k| sum * r2 + k),
            Self::Fov { w } => {
                let r = r2.sqrt();
                let scale = 2.0 * (0.5 * w).tan();
                if r < 1e-8 { scale / w } else { (r * scale).atan() / (r * w) }
            }
            Self::Measured { k } => measured_share(*k, r2.sqrt()),
            Self::AnglePolynomial { c } => {
                let q = FRAC_2_PI * r2.sqrt();
                FRAC_2_PI * (1.0 + q * (c[0] + q * (c[1] + q * c[2])))
            }
            // Of the whole direction: see `bend`.
            Self::Division { .. } | Self::Eucm { .. } | Self::Equirectangular => 1.0,
        }
    }

    /// The distorted coordinates of the ray (x, y, 1).
    #[inline]
    pub fn distort(&self, ray: DVec2) -> DVec2 {
        self.bend(ray.extend(1.0))
    }

    /// The distorted coordinates of any direction, which need not have the length 1; not a number where the model has
    /// no place for it.
    #[inline]
    pub fn bend(&self, direction: DVec3) -> DVec2 {
        let DVec3 { x, y, z } = direction;
        let flat = self.flat(direction);
        let r2 = flat.length_squared();
        let radial = flat * self.radial_factor(r2);
        let xy = 2.0 * flat.x * flat.y;
        let tangential = |p: [f64; 2]| {
            DVec2::new(p[0] * xy + p[1] * (r2 + 2.0 * flat.x * flat.x), p[1] * xy + p[0] * (r2 + 2.0 * flat.y * flat.y))
        };
        match self {
            Self::OpenCv { p, .. } | Self::FullOpenCv { p, .. } => radial + tangential(*p),
            Self::ThinPrismTilted { p, s, tilt, .. } => {
                let prism = DVec2::new(s[0] + s[1] * r2, s[2] + s[3] * r2) * r2;
                on_tilted_sensor(radial + tangential(*p) + prism, *tilt)
            }
            Self::Brown { p, s, .. } => {
                radial + tangential([p[0], p[1]]) * (1.0 + r2 * (p[2] + r2 * p[3])) + DVec2::from_array(*s) * r2
            }
            Self::RadTanThinPrism { p, s, .. } => {
                let p = DVec2::from_array(*p);
                let r2 = radial.length_squared();
                let prism = DVec2::new(s[0] + s[1] * r2, s[2] + s[3] * r2) * r2;
                radial + 2.0 * radial * p.dot(radial) + p * r2 + prism
            }
            Self::Radial { .. }
            | Self::Fisheye { .. }
            | Self::Fov { .. }
            | Self::Measured { .. }
            | Self::AnglePolynomial { .. } => radial,
            // Of the two solutions of k r r'^2 - z r' + r = 0 the one that is r for k = 0, without a difference.
            Self::Division { k } => {
                let side = direction.truncate();
                side * (2.0 / (z + (z * z - 4.0 * k * side.length_squared()).sqrt()))
            }
            Self::Eucm { a, b } => {
                let side = direction.truncate();
                let share = a * (b * side.length_squared() + z * z).sqrt() + (1.0 - a) * z;
                if share > 0.0 { side / share } else { DVec2::NAN }
            }
            Self::Equirectangular => DVec2::new(x.atan2(z), y.atan2(x.hypot(z))),
        }
    }

    /// The distorted radius at an angle off the axis, without what is not radial.
    pub(super) fn radius(&self, angle: f64) -> f64 {
        let direction = DVec3::new(angle.sin(), 0.0, angle.cos());
        match self {
            Self::Division { .. } | Self::Eucm { .. } | Self::Equirectangular => self.bend(direction).x,
            _ => {
                let flat = self.flat(direction).x;
                flat * self.radial_factor(flat * flat)
            }
        }
    }

    /// The largest angle off the axis up to which the distorted radius keeps growing. A polynomial fitted within the
    /// photo folds back outside of it: rays beyond it would show content of elsewhere a second time.
    pub(super) fn one_to_one_angle(&self) -> f64 {
        if let Self::Equirectangular = self {
            return PI;
        }
        // Evenly in angle, so many for every 89 degrees; never quite to the opposite of where the camera looks.
        const STEPS: usize = 4096;
        let step = MOST_OF_PINHOLE / STEPS as f64;
        let grows = |i: &usize| {
            let (before, after) = (self.radius(step * (i - 1) as f64), self.radius(step * *i as f64));
            after.is_finite() && after > before
        };
        step * (1..=2 * STEPS).take_while(grows).last().unwrap_or(0) as f64
    }

    /// The angle off the axis whose distorted radius this is, if it is reached below `limit`.
    pub(super) fn angle_of(&self, radius: f64, limit: f64) -> Option<f64> {
        let (mut low, mut high) = (0.0, limit);
        if self.radius(limit) < radius {
            return None;
        }
        for _ in 0..60 {
            let middle = 0.5 * (low + high);
            if self.radius(middle) < radius { low = middle } else { high = middle }
        }
        Some(high)
    }
}

/// The largest angle off the axis that a pinhole camera's pixels are taken from.
pub(super) const MOST_OF_PINHOLE: f64 = 89.0 * PI / 180.0;

/// The angle of (r, z) by r, which tends to 1 / z; below this radius the difference is under one f64 rounding.
#[inline]
fn angle_share(r: f64, z: f64) -> f64 {
    if r < 1e-8 * z { 1.0 / z } else { r.atan2(z) / r }
}

/// Where the ray (x, y, 1) meets a sensor that is turned about x and then about y, in coordinates of the sensor whose
/// origin is where the axis meets it.
#[inline]
fn on_tilted_sensor(at: DVec2, [about_x, about_y]: [f64; 2]) -> DVec2 {
    let ((sin_x, cos_x), (sin_y, cos_y)) = (about_x.sin_cos(), about_y.sin_cos());
    let turned = DVec3::new(
        cos_y * at.x + sin_y * (sin_x * at.y - cos_x),
        cos_x * at.y + sin_x,
        sin_y * at.x + cos_y * (cos_x - sin_x * at.y),
    );
    // How far along the sensor's normal the axis meets it, and how far aside that is.
    let (depth, aside) = (cos_y * cos_x, DVec2::new(-sin_y * cos_x, sin_x));
    if turned.z > 0.0 { depth * turned.truncate() / turned.z - aside } else { DVec2::NAN }
}

/// r' / r of `r = r' (1 + k r'^2)`; not a number beyond the fold of a negative k.
#[inline]
fn measured_share(k: f64, r: f64) -> f64 {
    // The largest r that any r' reaches: where the derivative 1 + 3 k r'^2 is 0.
    if k < 0.0 && r > 2.0 / 3.0 * (-1.0 / (3.0 * k)).sqrt() {
        return f64::NAN;
    }
    let kr2 = k * r * r;
    // Newton for m (1 + kr2 m^2) = 1 from m = 1: the curve bends to one side only, so that the steps go one way.
    // Near the fold they only halve the distance, hence so many.
    let mut m = 1.0;
    for _ in 0..60 {
        let step = (m * (1.0 + kr2 * m * m) - 1.0) / (1.0 + 3.0 * kr2 * m * m);
        if step.is_nan() || step.abs() <= f64::EPSILON * m {
            break;
        }
        m -= step;
    }
    m
}
