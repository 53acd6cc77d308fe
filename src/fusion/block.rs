//! Points on their way into the cloud, and boxes around some of them, so that a view that sees none need not look at
//! each.

use glam::{BVec3, DVec3};

use crate::files::ply::Point;
use crate::scene::camera::Camera;

/// A point that may go into the cloud.
#[derive(Clone, Copy)]
pub struct Candidate {
    /// The index of its pixel.
    pub pixel: usize,
    /// The point.
    pub point: Point,
}

/// Points that are looked at together: some rows of a part of a surface, whose box is small.
pub const POINTS_OF_A_BLOCK: usize = 1024;

/// A share of a pixel by which a box around boxes may lie beyond a side of a view: rounding must not leave out a box in
/// it that would not be left out by itself.
pub const AROUND_OTHERS: f64 = 0.01;

/// The box around some points.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    low: DVec3,
    high: DVec3,
}

impl Default for Bounds {
    /// Around nothing.
    fn default() -> Self {
        Self { low: DVec3::INFINITY, high: DVec3::NEG_INFINITY }
    }
}

impl Bounds {
    /// Around these positions.
    pub fn around(points: impl Iterator<Item = DVec3>) -> Self {
        points.fold(Self::default(), |bounds, point| bounds.with(Self { low: point, high: point }))
    }

    /// Around this box and another.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self { low: self.low.min(other.low), high: self.high.max(other.high) }
    }

    /// False only where no point of the box can fall on a pixel, or less than the share `margin` of a pixel beside one:
    /// all corners, and so everything between them, are beyond the same side of the view's frustum (each side is a
    /// linear inequality on the homogeneous pixel).
    pub fn may_be_seen(&self, camera: &Camera, (width, height): (usize, usize), margin: f64) -> bool {
        let corner = |i: usize| DVec3::select(BVec3::new(i & 1 != 0, i & 2 != 0, i & 4 != 0), self.high, self.low);
        let q: [DVec3; 8] = std::array::from_fn(|i| camera.project(corner(i)));
        let all = |outside: &dyn Fn(&DVec3) -> bool| q.iter().all(outside);
        let border = 0.5 + margin;
        let (right, below) = (width as f64 - 1.0 + border, height as f64 - 1.0 + border);
        !(all(&|q| q.z <= 1e-6 * (1.0 - margin))
            || all(&|q| q.x < -border * q.z)
            || all(&|q| q.y < -border * q.z)
            || all(&|q| q.x > right * q.z)
            || all(&|q| q.y > below * q.z))
    }
}
