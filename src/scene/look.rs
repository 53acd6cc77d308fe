//! How a source view's photo is shown to the network beside a reference: turned by quarter turns so that it lies as the
//! reference does, and at the level of its pyramid at which a thing has as many pixels as in the reference.
//!
//! Features are not the same of a photo and of its turned copy, nor of a close-up and of an overview: views that lie
//! or measure otherwise match badly, however right their cameras are.

use glam::DVec3;
use serde::{Deserialize, Serialize};

use crate::scene::camera::{Camera, DepthRange};

/// Sources of which a reference's pixel has more than 2^4.5 (23) pixels, or as few as a 23rd of one, are taken at the
/// limit: what is left of them is too coarse to match in any case.
const MOST_LEVELS: f64 = 4.0;

/// Photos are enlarged until they have this many pixels along a side for each of the reference's, at most: rounding the
/// scale to a power of two takes it to the root of two beyond the reference's own size.
const MOST_ENLARGED: f64 = 1.5;

/// How a source's photo is brought to the reference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Look {
    /// Quarter turns of the photo, clockwise as it is looked at; 0 to 3.
    pub quarter_turns: u8,
    /// The source's level less the reference's; negative where the source is coarser.
    pub levels: i32,
    /// How often the photo may be doubled in size, where a level below 0 is wanted.
    pub doublings: i32,
}

impl Look {
    /// The photo as it is, level by level.
    pub const AS_IT_IS: Self = Self { quarter_turns: 0, levels: 0, doublings: 0 };

    /// Of a source beside a reference, each with its camera and its width and height in pixels.
    ///
    /// The turn is the angle of `R_s R_r^T` about the viewing axis to the nearest quarter turn, none where the two look
    /// in opposite directions. The scale is the source's pixels for each of the reference's along a side,
    /// `(f_s / z_s) / (f_r / z_r)`, at the middle of the range in 1 / depth (geometric mean over a 3 x 3 grid of the
    /// reference's pixels, as far as the source sees them), to the nearest power of two.
    pub fn new(
        (reference, size): (&Camera, (usize, usize)),
        (source, source_size): (&Camera, (usize, usize)),
        range: DepthRange,
    ) -> Self {
        let levels = scale(reference, size, source, source_size, range).log2().clamp(-MOST_LEVELS, MOST_LEVELS).round();
        let sides = |size: (usize, usize)| size.0.max(size.1) as f64;
        let room = (MOST_ENLARGED * sides(size) / sides(source_size)).log2().floor();
        Self {
            quarter_turns: quarter_turns(reference, source),
            levels: levels as i32,
            doublings: room.clamp(0.0, (-levels).max(0.0)) as i32,
        }
    }

    /// The level at which the source is shown beside the reference's level `level`; -1 is the photo enlarged to twice
    /// its size, and so on.
    pub fn level(&self, level: usize) -> i32 {
        (level as i32 + self.levels).max(-self.doublings)
    }
}

/// How often the source's photo must be turned clockwise by a quarter to lie as the reference's.
fn quarter_turns(reference: &Camera, source: &Camera) -> u8 {
    let r = source.r * reference.r.transpose();
    // The rotation about z that is nearest to the upper left 2 x 2 of R. Of R = Rz(a) tilt(b), about any axis in the
    // image's plane, it is Rz(a), and the length of this vector is 1 + cos b.
    let (cos, sin) = (r.x_axis.x + r.y_axis.y, r.x_axis.y - r.y_axis.x);
    if cos.hypot(sin) < 1e-6 {
        return 0;
    }
    // Image coordinates have y down, so that a growing angle is clockwise.
    (-sin.atan2(cos) / std::f64::consts::FRAC_PI_2).round().rem_euclid(4.0) as u8
}

/// The source's pixels for each of the reference's, along a side.
fn scale(
    reference: &Camera,
    size: (usize, usize),
    source: &Camera,
    source_size: (usize, usize),
    range: DepthRange,
) -> f64 {
    let focal = |camera: &Camera| {
        let k = camera.k;
        (k.x_axis.x * k.y_axis.y - k.y_axis.x * k.x_axis.y).abs().sqrt()
    };
    let depth = 2.0 / (1.0 / range.near + 1.0 / range.far);
    let at = |x: f64, y: f64| {
        let place = reference.unproject(x * (size.0 as f64 - 1.0), y * (size.1 as f64 - 1.0), depth);
        let (pixel, z) = source.pixel(place)?;
        let last = DVec3::new(source_size.0 as f64 - 1.0, source_size.1 as f64 - 1.0, 0.0);
        let inside = pixel.cmpge(glam::DVec2::ZERO).all() && pixel.cmple(last.truncate()).all();
        Some((inside, ((focal(source) / z) / (focal(reference) / depth)).ln()))
    };
    // The outer ones lie a sixth from the border, so that each stands for a ninth of the photo.
    let grid = [1.0, 3.0, 5.0].map(|y| [1.0, 3.0, 5.0].map(|x| at(x / 6.0, y / 6.0)));
    let seen: Vec<f64> = grid.iter().flatten().flatten().filter(|(inside, _)| *inside).map(|(_, s)| *s).collect();
    let log = match seen.len() {
        0 => grid[1][1].map_or(0.0, |(_, s)| s),
        n => seen.iter().sum::<f64>() / n as f64,
    };
    if log.is_finite() { log.exp() } else { 1.0 }
}
