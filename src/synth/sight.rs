//! A world as one camera sees it: what all its rays share is worked out once, and every ray is tested only against the
//! objects whose outline covers its place in the picture.

use glam::{DMat3, DVec2, DVec3};

use super::object::Object;
use super::ray::{Hit, PixelRays, Ray};
use super::squares::{Outline, Squares};
use super::world::{Surface, World};
use crate::scene::camera::Camera;

/// What the rays of one camera share about an object.
struct Viewed {
    /// The camera's centre in the object's coordinates.
    centre: DVec3,
    /// Pixel (u, v, 1) to the ray's direction in the object's coordinates.
    matrix: DMat3,
    /// No point of it is nearer than this depth.
    nearest: f64,
}

/// A world seen by one camera.
pub struct Sight<'a> {
    world: &'a World,
    rays: PixelRays,
    objects: Vec<Viewed>,
    squares: Squares,
}

/// Pixels along the side of a square.
const SQUARE: usize = 8;

impl<'a> Sight<'a> {
    /// Prepares for rays within photos of this size, at most half a pixel beyond the outermost pixels' middles.
    pub fn new(world: &'a World, camera: &Camera, size: (usize, usize)) -> Self {
        let rays = PixelRays::new(camera);
        let mut outlines = Vec::with_capacity(world.objects().len());
        let view = |object: &Object| {
            let back = object.rotation.transpose() * (1.0 / object.scale);
            let points = object.corners().map(|p| camera.k * (camera.r * p + camera.t));
            let nearest = points.iter().map(|p| p.z).fold(f64::INFINITY, f64::min);
            let farthest = points.iter().map(|p| p.z).fold(f64::NEG_INFINITY, f64::max);
            // A box that reaches behind the camera may be anywhere.
            let outline = if nearest > 1e-3 * farthest {
                Outline::around(points.iter().map(|p| p.truncate() / p.z).collect())
            } else {
                Outline::Everywhere
            };
            outlines.push(outline);
            Viewed {
                centre: back * (rays.centre() - object.origin),
                matrix: back * rays.matrix(),
                nearest: nearest - 1e-9 * farthest.abs(),
            }
        };
        let objects: Vec<Viewed> = world.objects().iter().map(view).collect();
        let mut outlines: Vec<(u32, Outline)> = (0..).zip(outlines).collect();
        let nearest = |i: u32| objects[i as usize].nearest;
        outlines.sort_by(|a, b| nearest(a.0).total_cmp(&nearest(b.0)));
        let side = DVec2::splat(SQUARE as f64);
        let count = |length: usize| length.div_ceil(SQUARE).max(1);
        let squares = Squares::new(DVec2::splat(-0.5), side, count(size.0), count(size.1), &outlines);
        Self { world, rays, objects, squares }
    }

    /// The camera's rays.
    pub fn rays(&self) -> &PixelRays {
        &self.rays
    }

    /// The object and where the ray through a pixel position meets it first with `from < t < to`; t is the depth.
    #[inline]
    pub fn hit(&self, u: f64, v: f64, from: f64, to: f64) -> Option<(usize, Hit)> {
        let pixel = DVec3::new(u, v, 1.0);
        let (mut best, mut to) = (None, to);
        for &index in self.squares.at(DVec2::new(u, v)) {
            let viewed = &self.objects[index as usize];
            // All others are farther away still.
            if viewed.nearest >= to {
                break;
            }
            let ray = Ray::new(viewed.centre, viewed.matrix * pixel);
            if let Some(hit) = self.world.objects()[index as usize].shape.hit(&ray, from, to) {
                to = hit.t;
                best = Some((index as usize, hit));
            }
        }
        best
    }

    /// The surface that the ray through a pixel position meets first with `from < t < to`.
    #[inline]
    pub fn first(&self, u: f64, v: f64, from: f64, to: f64) -> Option<Surface> {
        let (object, hit) = self.hit(u, v, from, to)?;
        Some(self.world.surface(&self.rays.through(u, v), object, &hit))
    }
}
