//! The lens of a photo: the distortion of its camera, and the pinhole camera that the photo is resampled to.
//!
//! A photo that sees too much for one pinhole image is wide; `faces.rs` cuts it.

use std::f64::consts::PI;

use glam::{DMat3, DVec2, DVec3};
use serde::{Deserialize, Serialize};

pub use crate::scene::distortion::Distortion;
use crate::scene::distortion::MOST_OF_PINHOLE;

/// A lens that bends rays away from the pinhole model, with the pinhole camera that replaces it.
#[derive(Clone, Debug, PartialEq)]
pub struct Lens {
    /// The distortion.
    pub distortion: Distortion,
    /// Intrinsics of the stored, distorted photo (applied after the distortion); pixel centres are integers.
    pub stored_k: DMat3,
    /// Width and height of the stored photo.
    pub stored_size: (usize, usize),
    /// Intrinsics of the undistorted photo, which has the same size, or of the face that is cut out of it.
    pub pinhole_k: DMat3,
    /// Which of a wide photo's faces this is.
    pub face: Option<Face>,
    /// Whether the photo sees too much for one pinhole image.
    is_wide: bool,
    /// See [`Distortion::one_to_one_angle`], and its tangent as far as pinhole cameras see.
    limit: f64,
    limit_radius: f64,
}

/// How much the focal length may shrink when a distorted photo is resampled: below one half the middle of a
/// fisheye photo would be sampled at less than every second pixel.
const MIN_FOCAL_SCALE: f64 = 0.5;
/// How much it may grow, which costs field of view.
const MAX_FOCAL_SCALE: f64 = 2.0;
/// A photo that sees more than this across its width or height is cut into faces: a pinhole image has 1 / cos^2 of its
/// middle's pixels for a degree where its border lies, four times as many at 60 degrees off the axis.
const WIDE: f64 = 120.0 * PI / 180.0;
/// But one that is nearly a pinhole image itself has its pixels there, and is not: beyond this share of a pinhole's
/// radius. (Fisheyes have 0.6 at 60 degrees, stereographic ones 0.67.)
const PINHOLE_LIKE: f64 = 0.75;

/// Fisheyes that fill the frame to its corners see 180 degrees there, and some 5 more at most on each side.
const MOST_IN_CORNERS: f64 = 95.0 * PI / 180.0;

impl Lens {
    /// The lens of a photo of `size` (width, height) with intrinsics `stored_k`.
    ///
    /// The pinhole camera keeps the principal point, the pixels' aspect and the photo's size; both focal lengths are
    /// multiplied by the smallest factor (0.5 to 2) at which every pixel still comes from inside the stored photo, so
    /// that as much as possible is kept without empty borders. A photo that [`Self::is_wide`] has no such camera.
    pub fn new(distortion: Distortion, stored_k: DMat3, size: (usize, usize)) -> Self {
        let scaled = |s: f64| DMat3::from_cols(stored_k.x_axis * s, stored_k.y_axis * s, stored_k.z_axis);
        let limit = distortion.one_to_one_angle();
        let limit_radius = limit.min(MOST_OF_PINHOLE).tan();
        let mut lens = Self {
            distortion,
            stored_k,
            stored_size: size,
            pinhole_k: stored_k,
            face: None,
            is_wide: false,
            limit,
            limit_radius,
        };
        if lens.sees_too_much() {
            let limit = lens.limit_of_wide();
            return Self { is_wide: true, limit, ..lens };
        }
        let mut fits = |s: f64, steps: usize| {
            lens.pinhole_k = scaled(s);
            border(size, steps).all(|pixel| lens.stored_pixel(pixel).is_some())
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

    /// Whether the photo is to be cut into faces before it is used, since it sees more than `WIDE` across its width
    /// or height, much of it in fewer pixels than a pinhole image has there.
    pub fn is_wide(&self) -> bool {
        self.is_wide && self.face.is_none()
    }

    fn sees_too_much(&self) -> bool {
        if let Distortion::Equirectangular = self.distortion {
            return true;
        }
        let is_more = |[before, after]: [f64; 2]| {
            let widest = before.max(after);
            let pinhole = if widest < MOST_OF_PINHOLE { widest.tan() } else { f64::INFINITY };
            let share = self.distortion.radius(widest) / (pinhole * self.radians_to_radius());
            before + after > WIDE && share < PINHOLE_LIKE
        };
        self.angles_of_sides().into_iter().any(is_more)
    }

    /// How far off the axis the middles of the left and right, and of the upper and lower border lie.
    fn angles_of_sides(&self) -> [[f64; 2]; 2] {
        let (k, size) = (&self.stored_k, self.stored_size);
        let of_axis = |focal: f64, centre: f64, side: usize| {
            let ends = [(centre + 0.5) / focal, (side as f64 - 0.5 - centre) / focal];
            ends.map(|radius| self.distortion.angle_of(radius.max(0.0), self.limit).unwrap_or(self.limit))
        };
        [of_axis(k.x_axis.x, k.z_axis.x, size.0), of_axis(k.y_axis.y, k.z_axis.y, size.1)]
    }

    /// The largest angle off the axis that a wide photo shows something at. A lens that sees more than
    /// [`MOST_IN_CORNERS`] leaves a circle in the photo, which its sides cut or just hold: what they do not reach both
    /// ways is black.
    fn limit_of_wide(&self) -> f64 {
        if let Distortion::Equirectangular = self.distortion {
            return self.limit;
        }
        let [across, down] = self.angles_of_sides().map(|[before, after]| before.max(after));
        self.limit.min(across.min(down).max(MOST_IN_CORNERS))
    }

    /// The distorted radius of a radian in the photo's middle.
    fn radians_to_radius(&self) -> f64 {
        const SMALL: f64 = 1e-6;
        self.distortion.radius(SMALL) / SMALL
    }

    /// Pixels for a radian in the photo's middle, the mean of both directions.
    pub(super) fn pixels_a_radian(&self) -> f64 {
        (self.stored_k.x_axis.x * self.stored_k.y_axis.y).sqrt() * self.radians_to_radius()
    }

    /// Where a direction in the axes of the stored photo's camera lies in the photo; `None` where that is outside of
    /// it.
    pub fn stored_direction(&self, direction: DVec3) -> Option<DVec2> {
        if direction.truncate().length().atan2(direction.z) > self.limit {
            return None;
        }
        self.in_stored(self.distortion.bend(direction))
    }

    /// Where pixel `pixel` of the undistorted photo, or of the face, lies in the stored one; `None` where that is
    /// outside of it.
    #[inline]
    pub fn stored_pixel(&self, pixel: DVec2) -> Option<DVec2> {
        let k = &self.pinhole_k;
        let ray = DVec2::new((pixel.x - k.z_axis.x) / k.x_axis.x, (pixel.y - k.z_axis.y) / k.y_axis.y);
        if let Some(face) = self.face {
            return self.stored_direction(face.turn() * ray.extend(1.0));
        }
        if ray.length_squared() > self.limit_radius * self.limit_radius {
            return None;
        }
        self.in_stored(self.distortion.distort(ray))
    }

    #[inline]
    fn in_stored(&self, bent: DVec2) -> Option<DVec2> {
        let size = self.stored_size;
        let stored = (self.stored_k * DVec3::new(bent.x, bent.y, 1.0)).truncate();
        // A pixel covers half a unit around its centre.
        let inside =
            stored.x >= -0.5 && stored.y >= -0.5 && stored.x <= size.0 as f64 - 0.5 && stored.y <= size.1 as f64 - 0.5;
        inside.then_some(stored)
    }

    /// Whether the photo goes all around, so that its left and right borders are neighbours ...
    pub fn goes_around(&self) -> bool {
        self.is_whole(2.0 * PI * self.stored_k.x_axis.x, self.stored_size.0)
    }

    /// ... and from pole to pole, so that there is nothing outside of it.
    pub fn sees_all(&self) -> bool {
        self.goes_around() && self.is_whole(PI * self.stored_k.y_axis.y, self.stored_size.1)
    }

    fn is_whole(&self, pixels: f64, side: usize) -> bool {
        // Half a pixel: what is not whole has borders of its own.
        matches!(self.distortion, Distortion::Equirectangular) && (pixels - side as f64).abs() < 0.5
    }
}

/// A face of the cube around a wide photo's camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Face {
    /// Where the photo's camera looks.
    Front,
    /// To its right.
    Right,
    /// Behind it.
    Back,
    /// To its left.
    Left,
    /// Above it; the lower border is that of the front.
    Up,
    /// Below it; the upper border is that of the front.
    Down,
}

impl Face {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 6] = [Self::Front, Self::Right, Self::Back, Self::Left, Self::Up, Self::Down];

    /// What stands after @ in the view's name.
    pub fn name(self) -> &'static str {
        ["front", "right", "back", "left", "up", "down"][self as usize]
    }

    /// From the axes of the face's camera to those of the photo's: x right, y down, z ahead.
    pub fn turn(self) -> DMat3 {
        let (x, y, z) = (DVec3::X, DVec3::Y, DVec3::Z);
        match self {
            Self::Front => DMat3::from_cols(x, y, z),
            Self::Right => DMat3::from_cols(-z, y, x),
            Self::Back => DMat3::from_cols(-x, y, -z),
            Self::Left => DMat3::from_cols(z, y, -x),
            Self::Up => DMat3::from_cols(x, z, -y),
            Self::Down => DMat3::from_cols(x, -z, y),
        }
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
