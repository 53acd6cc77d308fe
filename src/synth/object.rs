//! An object of a world: a shape at a place, with a material.
//!
//! Light and sight are in [`super::world`]; here is only how the object's own coordinates lie in the world.

use glam::{DMat3, DVec3};

use super::bounds::Bounds;
use super::material::Material;
use super::ray::Ray;
use super::shapes::Shape;

/// A shape at a place, with a material.
#[derive(Clone, Debug)]
pub struct Object {
    /// The surface in its own coordinates.
    pub shape: Shape,
    /// Turns its own axes to the world's.
    pub rotation: DMat3,
    /// Where its origin lies in the world.
    pub origin: DVec3,
    /// World units a unit of its own.
    pub scale: f64,
    /// What it looks like.
    pub material: Material,
}

impl Object {
    /// The ray in the object's coordinates, with the same t.
    #[inline]
    pub fn own(&self, ray: &Ray) -> Ray {
        let back = self.rotation.transpose();
        let inverse = 1.0 / self.scale;
        Ray::new(back * (ray.origin - self.origin) * inverse, back * ray.direction * inverse)
    }

    /// The box around it in the world.
    pub fn bounds(&self) -> Bounds {
        let own = self.shape.bounds();
        let middle = self.rotation * own.middle() * self.scale + self.origin;
        let r = self.rotation;
        let absolute = DMat3::from_cols(r.x_axis.abs(), r.y_axis.abs(), r.z_axis.abs());
        let half = absolute * (own.high - own.low) * (0.5 * self.scale);
        Bounds { low: middle - half, high: middle + half }
    }

    /// The eight corners of the box around it in its own axes, in the world.
    pub fn corners(&self) -> [DVec3; 8] {
        let own = self.shape.bounds();
        std::array::from_fn(|i| {
            let pick = |bit: usize, low: f64, high: f64| if i >> bit & 1 == 0 { low } else { high };
            let corner = DVec3::new(
                pick(0, own.low.x, own.high.x),
                pick(1, own.low.y, own.high.y),
                pick(2, own.low.z, own.high.z),
            );
            self.rotation * (corner * self.scale) + self.origin
        })
    }
}
