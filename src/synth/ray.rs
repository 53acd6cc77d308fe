//! Rays, those of a camera's pixels, and where they meet a surface.
//!
//! The rays of pixels have depth 1 at t = 1, so that t is the depth; all in f64, as exact as a pixel's depth has to be.
//! What is met is in [`super::shapes`], by whom in [`super::world`] and [`super::sight`].

use glam::{DMat3, DVec3};

use crate::scene::camera::Camera;

/// A half line `origin + t * direction`; the direction need not have length 1: for rays of pixels its depth is 1, so
/// that t is the depth.
#[derive(Clone, Copy, Debug)]
pub struct Ray {
    /// Where it starts.
    pub origin: DVec3,
    /// Where it goes to.
    pub direction: DVec3,
    /// 1 / direction, each component; infinite where that is 0.
    pub(super) inverse: DVec3,
}

impl Ray {
    /// A ray; the direction must not be zero.
    #[inline]
    pub fn new(origin: DVec3, direction: DVec3) -> Self {
        Self { origin, direction, inverse: direction.recip() }
    }

    /// The ray in the same direction from elsewhere.
    #[inline]
    pub fn from(&self, origin: DVec3) -> Self {
        Self { origin, ..*self }
    }

    /// The point at `t`.
    #[inline]
    pub fn at(&self, t: f64) -> DVec3 {
        self.origin + self.direction * t
    }
}

/// The rays of a camera's pixels, with depth 1.
#[derive(Clone, Copy, Debug)]
pub struct PixelRays {
    centre: DVec3,
    /// Pixel (u, v, 1) to the world direction of depth 1.
    matrix: DMat3,
}

impl PixelRays {
    /// The rays of this camera.
    pub fn new(camera: &Camera) -> Self {
        Self { centre: camera.centre(), matrix: camera.r.transpose() * camera.k.inverse() }
    }

    /// The ray through a pixel position; its t is the depth.
    #[inline]
    pub fn through(&self, u: f64, v: f64) -> Ray {
        Ray::new(self.centre, self.matrix * DVec3::new(u, v, 1.0))
    }

    /// Where they start.
    pub fn centre(&self) -> DVec3 {
        self.centre
    }

    /// Pixel (u, v, 1) to the world direction of depth 1.
    pub fn matrix(&self) -> DMat3 {
        self.matrix
    }

    /// How the direction changes from pixel to pixel, to the right and below.
    pub fn across(&self) -> [DVec3; 2] {
        [self.matrix.x_axis, self.matrix.y_axis]
    }
}

/// Where a ray meets a shape, in the shape's coordinates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// The ray's parameter.
    pub t: f64,
    /// The surface's normal, of any length and on either side.
    pub normal: DVec3,
    /// The normal that light is reckoned with: smooth over the faces of meshes and height fields, else the same.
    pub smooth: DVec3,
}

impl Hit {
    /// Without smoothing.
    pub fn flat(t: f64, normal: DVec3) -> Self {
        Self { t, normal, smooth: normal }
    }
}

/// Where a ray meets a triangle (Moeller and Trumbore, 1997): t and the weights of the second and third corner. Edges
/// belong to both neighbours, so that no ray slips through between two triangles.
#[inline]
pub fn triangle(ray: &Ray, [a, b, c]: [DVec3; 3]) -> Option<(f64, f64, f64)> {
    /// Twice the rounding of the weights for coordinates of size 1.
    const SLACK: f64 = 1e-12;
    let (ab, ac) = (b - a, c - a);
    let across = ray.direction.cross(ac);
    let determinant = ab.dot(across);
    let inverse = 1.0 / determinant;
    if !inverse.is_finite() {
        return None;
    }
    let from_a = ray.origin - a;
    let u = from_a.dot(across) * inverse;
    let other = from_a.cross(ab);
    let v = ray.direction.dot(other) * inverse;
    let inside = u >= -SLACK && v >= -SLACK && u + v <= 1.0 + SLACK;
    inside.then(|| (ac.dot(other) * inverse, u, v))
}
