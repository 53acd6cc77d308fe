//! A world as one camera or the lamp sees it: what all its rays share is worked out once, and every ray is tested only
//! against the objects whose outline covers its place in the picture.

use glam::{DMat3, DVec2, DVec3};

use super::bounds::Ray;
use super::shapes::Hit;
use super::world::{Object, PixelRays, Surface, World};
use crate::scene::camera::Camera;

/// What an object covers of a picture.
enum Outline {
    /// Perhaps everything.
    Everywhere,
    /// At most this convex polygon, its corners in order so that the inside is on the left.
    Hull(Vec<DVec2>),
}

impl Outline {
    /// The convex hull of some points (Andrew's monotone chain).
    fn around(mut points: Vec<DVec2>) -> Self {
        if !points.iter().all(|p| p.is_finite()) {
            return Self::Everywhere;
        }
        points.sort_by(|a, b| a.x.total_cmp(&b.x).then(a.y.total_cmp(&b.y)));
        let mut hull: Vec<DVec2> = Vec::with_capacity(2 * points.len());
        let mut chain = |points: &mut dyn Iterator<Item = &DVec2>| {
            let start = hull.len();
            for &p in points {
                while hull.len() >= start + 2 {
                    let (a, b) = (hull[hull.len() - 2], hull[hull.len() - 1]);
                    if (b - a).perp_dot(p - b) > 0.0 {
                        break;
                    }
                    hull.pop();
                }
                hull.push(p);
            }
            // The last point is the other chain's first.
            hull.pop();
        };
        chain(&mut points.iter());
        chain(&mut points.iter().rev());
        Self::Hull(hull)
    }

    /// Whether the rectangle may touch it: false only where a side of either parts them.
    fn touches(&self, low: DVec2, high: DVec2) -> bool {
        let Self::Hull(hull) = self else { return true };
        hull.iter().zip(hull.iter().cycle().skip(1)).all(|(&a, &b)| {
            let side = b - a;
            // The corner of the rectangle that lies farthest to the left of the side.
            let corner =
                DVec2::new(if side.y > 0.0 { low.x } else { high.x }, if side.x > 0.0 { high.y } else { low.y });
            side.perp_dot(corner - a) >= 0.0
        })
    }
}

/// A picture cut into squares, each with the objects that may cover it.
#[derive(Clone, Debug)]
struct Squares {
    low: DVec2,
    /// Squares a unit.
    scale: DVec2,
    columns: usize,
    rows: usize,
    /// Where each square's objects begin in `objects`; one more than squares.
    starts: Vec<u32>,
    objects: Vec<u32>,
}

impl Squares {
    /// `columns` x `rows` squares of `side` from `low` on; the objects of each square are in the order of `outlines`.
    fn new(low: DVec2, side: DVec2, columns: usize, rows: usize, outlines: &[(u32, Outline)]) -> Self {
        // Far more than the rounding of outlines and places.
        let margin = 0.01 * side;
        let mut starts = Vec::with_capacity(columns * rows + 1);
        let mut objects = Vec::with_capacity(4 * columns * rows);
        let reach: Vec<(DVec2, DVec2)> = outlines
            .iter()
            .map(|(_, outline)| match outline {
                Outline::Everywhere => (DVec2::NEG_INFINITY, DVec2::INFINITY),
                Outline::Hull(hull) => {
                    hull.iter().fold((DVec2::INFINITY, DVec2::NEG_INFINITY), |(l, h), &p| (l.min(p), h.max(p)))
                }
            })
            .collect();
        for i in 0..columns * rows {
            starts.push(objects.len() as u32);
            let from = low + side * DVec2::new((i % columns) as f64, (i / columns) as f64) - margin;
            let to = from + side + 2.0 * margin;
            for ((object, outline), (least, most)) in outlines.iter().zip(&reach) {
                if least.cmple(to).all() && most.cmpge(from).all() && outline.touches(from, to) {
                    objects.push(*object);
                }
            }
        }
        starts.push(objects.len() as u32);
        Self { low, scale: side.recip(), columns, rows, starts, objects }
    }

    /// The objects that may cover a place; beyond the squares those of the nearest square.
    #[inline]
    fn at(&self, place: DVec2) -> &[u32] {
        let square = (place - self.low) * self.scale;
        // Casts cut off what is negative.
        let (x, y) = ((square.x as usize).min(self.columns - 1), (square.y as usize).min(self.rows - 1));
        let i = y * self.columns + x;
        &self.objects[self.starts[i] as usize..self.starts[i + 1] as usize]
    }
}

/// The eight corners of the box around an object, in the world.
fn corners(object: &Object) -> [DVec3; 8] {
    let own = object.shape.bounds();
    std::array::from_fn(|i| {
        let pick = |bit: usize, low: f64, high: f64| if i >> bit & 1 == 0 { low } else { high };
        let corner =
            DVec3::new(pick(0, own.low.x, own.high.x), pick(1, own.low.y, own.high.y), pick(2, own.low.z, own.high.z));
        object.rotation * (corner * object.scale) + object.origin
    })
}

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
            let points = corners(object).map(|p| camera.k * (camera.r * p + camera.t));
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
            let corners = corners(object);
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
