//! A world as the lamp sees it: whether anything stands between a point and the lamp.
//!
//! What all rays to the lamp share is worked out once; the lamp is infinitely far away, so that they are parallel.

use glam::{DMat3, DVec2, DVec3};

use super::object::Object;
use super::ray::Ray;
use super::squares::{Outline, Squares};

/// What the rays to the lamp share about an object.
#[derive(Clone, Debug)]
struct Shaded {
    /// Turns and scales a world's vector to the object's coordinates.
    back: DMat3,
    /// A ray to the lamp, in the object's coordinates.
    ray: Ray,
    /// No point of it lies farther towards the lamp.
    top: f64,
}

/// A world as the lamp sees it.
#[derive(Clone, Debug)]
pub struct Shadows {
    to_sun: DVec3,
    /// Axes across the direction to the lamp.
    axes: [DVec3; 2],
    objects: Vec<Shaded>,
    squares: Squares,
}

/// Squares along either side of what the lamp sees.
const SHADOW_SQUARES: usize = 32;

impl Shadows {
    /// Of objects in the light from a direction.
    pub fn new(objects: &[Object], to_sun: DVec3) -> Self {
        let x = to_sun.any_orthonormal_vector();
        let axes = [x, to_sun.cross(x)];
        let flat = |p: DVec3| DVec2::new(p.dot(axes[0]), p.dot(axes[1]));
        let mut outlines = Vec::with_capacity(objects.len());
        let (mut low, mut high) = (DVec2::INFINITY, DVec2::NEG_INFINITY);
        let shaded = |object: &Object| {
            let corners = object.corners();
            let points: Vec<DVec2> = corners.iter().map(|&p| flat(p)).collect();
            (low, high) = points.iter().fold((low, high), |(l, h), &p| (l.min(p), h.max(p)));
            outlines.push(Outline::around(points));
            let back = object.rotation.transpose() * (1.0 / object.scale);
            let top = corners.iter().map(|p| p.dot(to_sun)).fold(f64::NEG_INFINITY, f64::max);
            Shaded { back, ray: Ray::new(DVec3::ZERO, back * to_sun), top: top + 1e-9 * top.abs() }
        };
        let shaded: Vec<Shaded> = objects.iter().map(shaded).collect();
        let mut outlines: Vec<(u32, Outline)> = (0..).zip(outlines).collect();
        let top = |i: u32| shaded[i as usize].top;
        outlines.sort_by(|a, b| top(b.0).total_cmp(&top(a.0)));
        let side = (high - low) / SHADOW_SQUARES as f64;
        // A world of nothing, or of something flat along the light.
        let (low, side) = if side.is_finite() && side.min_element() > 0.0 {
            (low, side)
        } else {
            (DVec2::ZERO, DVec2::splat(f64::MAX.sqrt()))
        };
        let squares = Squares::new(low, side, SHADOW_SQUARES, SHADOW_SQUARES, &outlines);
        Self { to_sun, axes, objects: shaded, squares }
    }

    /// Whether anything stands between a point and the lamp; the object `except` does not count.
    #[inline]
    pub fn covers(&self, objects: &[Object], point: DVec3, except: Option<usize>) -> bool {
        let place = DVec2::new(point.dot(self.axes[0]), point.dot(self.axes[1]));
        let height = point.dot(self.to_sun);
        for &index in self.squares.at(place) {
            let index = index as usize;
            let shaded = &self.objects[index];
            // All others end still lower.
            if shaded.top <= height {
                return false;
            }
            let object = &objects[index];
            if except != Some(index)
                && object
                    .shape
                    .hit(&shaded.ray.from(shaded.back * (point - object.origin)), 0.0, f64::INFINITY)
                    .is_some()
            {
                return true;
            }
        }
        false
    }
}
