//! Points on their way into the cloud, and blocks of them, so that a view that sees none need not look at each.

use glam::DVec3;

use crate::files::ply::Point;
use crate::scene::camera::Camera;

/// A point that may go into the cloud.
pub struct Candidate {
    /// The index of its pixel.
    pub pixel: usize,
    /// The point.
    pub point: Point,
}

/// Points that are looked at together: some rows of a part of a surface, whose box is small.
pub const POINTS_OF_A_BLOCK: usize = 1024;

/// Neighbouring points with the box around them, so that a view that sees none of them need not look at each.
pub struct Block {
    points: Vec<DVec3>,
    corners: [DVec3; 8],
}

impl Block {
    /// Of these positions.
    pub fn new(points: Vec<DVec3>) -> Self {
        let low = points.iter().copied().reduce(DVec3::min).unwrap_or_default();
        let high = points.iter().copied().reduce(DVec3::max).unwrap_or_default();
        let corner = |i: usize| DVec3::select(glam::BVec3::new(i & 1 != 0, i & 2 != 0, i & 4 != 0), high, low);
        Self { points, corners: std::array::from_fn(corner) }
    }

    /// The points.
    pub fn points(&self) -> &[DVec3] {
        &self.points
    }

    /// False only where no point of the box can fall on a pixel: all corners, and so everything between them, are
    /// beyond the same side of the view's frustum (each side is a linear inequality on the homogeneous pixel).
    pub fn may_be_seen(&self, camera: &Camera, width: usize, height: usize) -> bool {
        let (width, height) = (width as f64, height as f64);
        let q = self.corners.map(|corner| camera.project(corner));
        let all = |outside: &dyn Fn(&DVec3) -> bool| q.iter().all(outside);
        !(all(&|q| q.z <= 1e-6)
            || all(&|q| q.x < -0.5 * q.z)
            || all(&|q| q.y < -0.5 * q.z)
            || all(&|q| q.x > (width - 0.5) * q.z)
            || all(&|q| q.y > (height - 0.5) * q.z))
    }
}
