//! Lens distortion of imported cameras: the models of COLMAP and of the foreign formats, and the pinhole camera that a
//! photo is resampled to.
//!
//! All models map a ray (x, y, 1) of the camera's frame to a distorted (x', y') and then to a pixel by
//! `(fx x' + s y' + cx, fy y' + cy)`; the names in capitals are COLMAP's, which takes OpenCV's formulas. A program that
//! writes the other direction (from the photo to the ray) has a variant here that solves it.

use std::f64::consts::FRAC_2_PI;

use glam::{DMat3, DVec2, DVec3};
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
}

impl Distortion {
    /// Whether the model bends nothing (a fisheye lens without coefficients still does).
    pub fn is_pinhole(&self) -> bool {
        match self {
            Self::Radial { k } => k.iter().all(|&c| c == 0.0),
            Self::OpenCv { k, p } => k.iter().chain(p).all(|&c| c == 0.0),
            Self::FullOpenCv { k, p } => k.iter().chain(p).all(|&c| c == 0.0),
            Self::Brown { equidistant, k, p, s } => !equidistant && k.iter().chain(p).chain(s).all(|&c| c == 0.0),
            Self::Division { k } | Self::Measured { k } => *k == 0.0,
            Self::Eucm { a, .. } => *a == 0.0,
            Self::Fisheye { .. } | Self::RadTanThinPrism { .. } | Self::Fov { .. } | Self::AnglePolynomial { .. } => {
                false
            }
        }
    }

    /// What the radial part multiplies (x, y) with at squared radius `r2`.
    #[inline]
    fn radial_factor(&self, r2: f64) -> f64 {
        match self {
            Self::Radial { k } | Self::OpenCv { k, .. } => 1.0 + r2 * (k[0] + r2 * k[1]),
            Self::FullOpenCv { k, .. } => {
                (1.0 + r2 * (k[0] + r2 * (k[1] + r2 * k[2]))) / (1.0 + r2 * (k[3] + r2 * (k[4] + r2 * k[5])))
            }
            Self::Fisheye { k } => {
                let r = r2.sqrt();
                let a = r.atan();
                let a2 = a * a;
                let bent = 1.0 + a2 * (k[0] + a2 * (k[1] + a2 * (k[2] + a2 * k[3])));
                // atan(r) / r tends to 1; below this radius the difference is under one f64 rounding.
                if r < 1e-8 { bent } else { bent * a / r }
            }
            Self::Brown { equidistant, k, .. } => {
                let angle = if *equidistant { angle_share(r2.sqrt()) } else { 1.0 };
                let r2 = r2 * angle * angle;
                angle * (1.0 + r2 * (k[0] + r2 * (k[1] + r2 * (k[2] + r2 * k[3]))))
            }
            Self::RadTanThinPrism { k, .. } => {
                let share = angle_share(r2.sqrt());
                let a2 = r2 * share * share;
                share * (1.0 + a2 * k.iter().rev().fold(0.0, |sum, k| sum * a2 + k))
            }
            Self::Fov { w } => {
                let r = r2.sqrt();
                let scale = 2.0 * (0.5 * w).tan();
                if r < 1e-8 { scale / w } else { (r * scale).atan() / (r * w) }
            }
            // Of the two solutions of k r r'^2 - r' + r = 0 the one that is r for k = 0; written without a difference.
            Self::Division { k } => 2.0 / (1.0 + (1.0 - 4.0 * k * r2).sqrt()),
            Self::Measured { k } => measured_share(*k, r2.sqrt()),
            Self::Eucm { a, b } => 1.0 / (a * (b * r2 + 1.0).sqrt() + 1.0 - a),
            Self::AnglePolynomial { c } => {
                let r = r2.sqrt();
                let q = FRAC_2_PI * r.atan();
                let bent = 1.0 + q * (c[0] + q * (c[1] + q * c[2]));
                bent * FRAC_2_PI * angle_share(r)
            }
        }
    }

    /// The distorted coordinates of the ray (x, y, 1).
    #[inline]
    pub fn distort(&self, ray: DVec2) -> DVec2 {
        let r2 = ray.length_squared();
        let radial = ray * self.radial_factor(r2);
        match self {
            Self::OpenCv { p, .. } | Self::FullOpenCv { p, .. } => {
                let xy = 2.0 * ray.x * ray.y;
                radial
                    + DVec2::new(
                        p[0] * xy + p[1] * (r2 + 2.0 * ray.x * ray.x),
                        p[1] * xy + p[0] * (r2 + 2.0 * ray.y * ray.y),
                    )
            }
            Self::Brown { equidistant, p, s, .. } => {
                let ray = if *equidistant { ray * angle_share(r2.sqrt()) } else { ray };
                let r2 = ray.length_squared();
                let xy = 2.0 * ray.x * ray.y;
                let tangential = DVec2::new(
                    p[0] * xy + p[1] * (r2 + 2.0 * ray.x * ray.x),
                    p[1] * xy + p[0] * (r2 + 2.0 * ray.y * ray.y),
                );
                radial + tangential * (1.0 + r2 * (p[2] + r2 * p[3])) + DVec2::from_array(*s) * r2
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
            | Self::Division { .. }
            | Self::Measured { .. }
            | Self::Eucm { .. }
            | Self::AnglePolynomial { .. } => radial,
        }
    }

    /// The largest radius of a ray up to which the distorted radius keeps growing. A polynomial fitted within the
    /// photo folds back outside of it: rays beyond this radius would show content of elsewhere a second time.
    fn one_to_one_radius(&self) -> f64 {
        const STEPS: usize = 4096;
        // Rays up to 89 degrees off the axis, evenly in angle.
        let radius = |i: usize| (i as f64 / STEPS as f64 * 89f64.to_radians()).tan();
        let distorted = |r: f64| r * self.radial_factor(r * r);
        let grows = |i: &usize| {
            let (before, after) = (distorted(radius(i - 1)), distorted(radius(*i)));
            after.is_finite() && after > before
        };
        radius((1..=STEPS).take_while(grows).last().unwrap_or(0))
    }
}

/// atan(r) / r, which tends to 1; below this radius the difference is under one f64 rounding.
#[inline]
fn angle_share(r: f64) -> f64 {
    if r < 1e-8 { 1.0 } else { r.atan() / r }
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

/// A lens that bends rays away from the pinhole model, with the pinhole camera that replaces it.
#[derive(Clone, Debug, PartialEq)]
pub struct Lens {
    /// The distortion.
    pub distortion: Distortion,
    /// Intrinsics of the stored, distorted photo (applied after the distortion); pixel centres are integers.
    pub stored_k: DMat3,
    /// Intrinsics of the undistorted photo, which has the same size.
    pub pinhole_k: DMat3,
    /// See [`Distortion::one_to_one_radius`].
    limit: f64,
}

/// How much the focal length may shrink when a distorted photo is resampled: below one half the middle of a
/// fisheye photo would be sampled at less than every second pixel.
const MIN_FOCAL_SCALE: f64 = 0.5;
/// How much it may grow, which costs field of view.
const MAX_FOCAL_SCALE: f64 = 2.0;

impl Lens {
    /// The lens of a photo of `size` (width, height) with intrinsics `stored_k`.
    ///
    /// The pinhole camera keeps the principal point, the pixels' aspect and the photo's size; both focal lengths are
    /// multiplied by the smallest factor (0.5 to 2) at which every pixel still comes from inside the stored photo, so
    /// that as much as possible is kept without empty borders.
    pub fn new(distortion: Distortion, stored_k: DMat3, size: (usize, usize)) -> Self {
        let scaled = |s: f64| DMat3::from_cols(stored_k.x_axis * s, stored_k.y_axis * s, stored_k.z_axis);
        let mut lens = Self { distortion, stored_k, pinhole_k: scaled(1.0), limit: distortion.one_to_one_radius() };
        let mut fits = |s: f64, steps: usize| {
            lens.pinhole_k = scaled(s);
            border(size, steps).all(|pixel| lens.stored_pixel(pixel, size).is_some())
        };
        const COARSE: usize = 64;
        let mut focal_scale = MAX_FOCAL_SCALE;
        if fits(focal_scale, COARSE) {
            // Walk down while it fits (1 % a step), then halve the last step: a plain bisection over the whole range
            // could jump over a zone that does not fit.
            let mut too_small = None;
            while focal_scale > MIN_FOCAL_SCALE {
                let next = (focal_scale / 1.01).max(MIN_FOCAL_SCALE);
                if !fits(next, COARSE) {
                    too_small = Some(next);
                    break;
                }
                focal_scale = next;
            }
            if let Some(mut low) = too_small {
                for _ in 0..30 {
                    let middle = 0.5 * (low + focal_scale);
                    if fits(middle, COARSE) { focal_scale = middle } else { low = middle }
                }
            }
            // The border pixel that decides may lie between the sampled ones.
            while focal_scale < MAX_FOCAL_SCALE && !fits(focal_scale, size.0.max(size.1).min(MOST_BORDER_STEPS)) {
                focal_scale *= 1.0005;
            }
        }
        lens.pinhole_k = scaled(focal_scale);
        lens
    }

    /// Where pixel `pixel` of the undistorted photo lies in the stored one of `size` (width, height); `None` where
    /// that is outside of it.
    #[inline]
    pub fn stored_pixel(&self, pixel: DVec2, size: (usize, usize)) -> Option<DVec2> {
        let (k, to) = (&self.pinhole_k, &self.stored_k);
        let ray = DVec2::new((pixel.x - k.z_axis.x) / k.x_axis.x, (pixel.y - k.z_axis.y) / k.y_axis.y);
        if ray.length_squared() > self.limit * self.limit {
            return None;
        }
        let bent = self.distortion.distort(ray);
        let stored = (*to * DVec3::new(bent.x, bent.y, 1.0)).truncate();
        // A pixel covers half a unit around its centre.
        let inside =
            stored.x >= -0.5 && stored.y >= -0.5 && stored.x <= size.0 as f64 - 0.5 && stored.y <= size.1 as f64 - 0.5;
        inside.then_some(stored)
    }
}

/// More pixels a side than any photo has; a camera file may claim any size.
const MOST_BORDER_STEPS: usize = 1 << 16;

/// Pixels along the border of an image, `steps + 1` evenly spaced ones a side.
fn border((width, height): (usize, usize), steps: usize) -> impl Iterator<Item = DVec2> {
    let (right, bottom) = (width.max(1) as f64 - 1.0, height.max(1) as f64 - 1.0);
    (0..=steps).flat_map(move |i| {
        let t = i as f64 / steps as f64;
        [
            DVec2::new(t * right, 0.0),
            DVec2::new(t * right, bottom),
            DVec2::new(0.0, t * bottom),
            DVec2::new(right, t * bottom),
        ]
    })
}
