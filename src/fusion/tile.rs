//! Boxes in space whose points are made by themselves, and which views have to do with a box.

use glam::{BVec3, DVec3};
use serde::{Deserialize, Serialize};

use super::shared::Rays;
use super::view::ViewFacts;
use crate::scene::camera::Camera;

/// A box with its lower sides and without its upper ones, so that boxes side by side share no point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tile {
    /// The least coordinates, which lie in it; minus infinity where it has no end.
    pub low: DVec3,
    /// The coordinates that all points in it are below; infinity where it has no end.
    pub high: DVec3,
}

/// A tile in files: JSON has no infinity, which is `null` there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TileSides {
    /// [`Tile::low`].
    pub low: [Option<f64>; 3],
    /// [`Tile::high`].
    pub high: [Option<f64>; 3],
}

impl From<Tile> for TileSides {
    fn from(tile: Tile) -> Self {
        let sides = |corner: DVec3| corner.to_array().map(|side| side.is_finite().then_some(side));
        Self { low: sides(tile.low), high: sides(tile.high) }
    }
}

impl From<TileSides> for Tile {
    fn from(sides: TileSides) -> Self {
        let corner = |sides: [Option<f64>; 3], none: f64| DVec3::from(sides.map(|side| side.unwrap_or(none)));
        Self { low: corner(sides.low, f64::NEG_INFINITY), high: corner(sides.high, f64::INFINITY) }
    }
}

impl Tile {
    /// All of space.
    pub const EVERYWHERE: Self = Self { low: DVec3::NEG_INFINITY, high: DVec3::INFINITY };
    /// No point at all.
    pub const NOWHERE: Self = Self { low: DVec3::INFINITY, high: DVec3::NEG_INFINITY };

    /// Around these points, all of which lie in it.
    pub fn around(points: impl Iterator<Item = DVec3>) -> Self {
        points.fold(Self::NOWHERE, |tile, point| {
            let above = DVec3::from(point.to_array().map(f64::next_up));
            Self { low: tile.low.min(point), high: tile.high.max(above) }
        })
    }

    /// Whether a point is its own.
    pub fn has(&self, point: DVec3) -> bool {
        point.cmpge(self.low).all() && point.cmplt(self.high).all()
    }

    /// Whether all that differs from a point by no more than this on each axis lies in it.
    pub fn has_around(&self, point: DVec3, by: DVec3) -> bool {
        (point - by).cmpge(self.low).all() && (point + by).cmplt(self.high).all()
    }

    /// Whether something that differs from a point by no more than this on each axis may lie in it.
    pub fn may_have_around(&self, point: DVec3, by: DVec3) -> bool {
        (point + by).cmpge(self.low).all() && (point - by).cmplt(self.high).all()
    }

    /// With this much more on all sides.
    #[must_use]
    pub fn grown(&self, by: f64) -> Self {
        Self { low: self.low - by, high: self.high + by }
    }

    /// What both have.
    #[must_use]
    pub fn clipped(&self, other: &Self) -> Self {
        Self { low: self.low.max(other.low), high: self.high.min(other.high) }
    }

    /// Its halves below and above a coordinate of an axis.
    pub fn split(&self, axis: usize, at: f64) -> [Self; 2] {
        let [mut below, mut above] = [*self; 2];
        (below.high[axis], above.low[axis]) = (at, at);
        [below, above]
    }

    /// The greatest depth of its corners in a camera.
    pub fn farthest(&self, camera: &Camera) -> f64 {
        self.corners().map(|corner| camera.project(corner).z).into_iter().fold(0.0, f64::max)
    }

    fn is_empty(&self) -> bool {
        self.low.cmpgt(self.high).any()
    }

    fn corners(&self) -> [DVec3; 8] {
        let corner = |i: usize| DVec3::select(BVec3::new(i & 1 != 0, i & 2 != 0, i & 4 != 0), self.high, self.low);
        std::array::from_fn(corner)
    }
}

/// The least and the greatest depth of a view's map; the least is above the greatest where it has none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Depths {
    /// The least.
    pub near: f64,
    /// The greatest.
    pub far: f64,
}

impl Depths {
    /// Of these depths.
    pub fn of(depths: impl Iterator<Item = f32>) -> Self {
        let none = Self { near: f64::MAX, far: 0.0 };
        depths.map(f64::from).fold(none, |all, depth| Self { near: all.near.min(depth), far: all.far.max(depth) })
    }

    /// Whether there are any.
    pub fn are_any(&self) -> bool {
        self.near <= self.far
    }

    /// Changed by up to this share.
    #[must_use]
    pub fn widened(&self, share: f64) -> Self {
        Self { near: self.near * (1.0 - share).max(0.0), far: self.far * (1.0 + share) }
    }
}

/// The part of space that a view's pixels may show at some depths.
#[derive(Clone, Debug)]
pub struct Frustum<'a> {
    camera: &'a Camera,
    size: (usize, usize),
    depths: Depths,
    /// Around it.
    pub bounds: Tile,
}

impl<'a> Frustum<'a> {
    /// Of all pixels of a view, whose maps have this size.
    pub fn new(camera: &'a Camera, size: (usize, usize), depths: Depths) -> Self {
        let rays = corner_rays(camera, size);
        let ends = [depths.near, depths.far].into_iter().flat_map(|depth| rays.map(|ray| ray * depth));
        let centre = camera.centre();
        let bounds = if depths.are_any() { Tile::around(ends.map(|end| centre + end)) } else { Tile::NOWHERE };
        Self { camera, size, depths, bounds }
    }

    /// False only where it has no point in a finite box: the boxes around both lie apart, or all of the box is beyond
    /// one of its sides (each is a linear inequality on the homogeneous pixel).
    pub fn may_meet(&self, tile: &Tile) -> bool {
        if self.bounds.is_empty() || tile.is_empty() || self.bounds.clipped(tile).is_empty() {
            return false;
        }
        let (width, height) = self.size;
        let q = tile.corners().map(|corner| self.camera.project(corner));
        let all = |outside: &dyn Fn(&DVec3) -> bool| q.iter().all(outside);
        let (right, below) = (width as f64 - 1.0 + BORDER, height as f64 - 1.0 + BORDER);
        !(all(&|q| q.z < self.depths.near)
            || all(&|q| q.z > self.depths.far)
            || all(&|q| q.x < -BORDER * q.z)
            || all(&|q| q.y < -BORDER * q.z)
            || all(&|q| q.x > right * q.z)
            || all(&|q| q.y > below * q.z))
    }
}

/// Pixels beyond the centres of the outermost ones: half a pixel belongs to each, the rest is for rounding.
const BORDER: f64 = 0.51;

/// The directions, of depth 1, of a map's corners.
fn corner_rays(camera: &Camera, size: (usize, usize)) -> [DVec3; 4] {
    let Rays { world_from_pixel, .. } = Rays::new(camera);
    let (right, below) = (size.0 as f64 - 1.0 + BORDER, size.1 as f64 - 1.0 + BORDER);
    [(-BORDER, -BORDER), (right, -BORDER), (-BORDER, below), (right, below)]
        .map(|(u, v)| world_from_pixel * DVec3::new(u, v, 1.0))
}

/// How far apart a point and a pixel's point can be where the point explains the pixel: a depth that differs by a share
/// of it, anywhere on the pixel.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    /// For each axis, of a pixel to its border.
    pixel: DVec3,
    share: f64,
}

impl Reach {
    /// In a view, for depths that differ by less than this share.
    pub fn new(rays: &Rays, share: f64) -> Self {
        // Half of a pixel, and what rounding may add.
        let pixel = (rays.world_from_pixel.x_axis.abs() + rays.world_from_pixel.y_axis.abs()) * BORDER;
        Self { pixel, share }
    }

    /// On each axis, of the pixel that looks along this ray and has this depth.
    pub fn at(&self, ray: DVec3, depth: f64) -> DVec3 {
        ((ray.abs() * self.share + self.pixel * (1.0 + self.share)) * depth) * ROUNDED + f64::MIN_POSITIVE
    }

    /// At least that of all pixels of a view up to this depth, or where it may be so many pixels beside.
    pub fn most(view: &ViewFacts, (share, pixels): (f64, f64), depth: f64) -> f64 {
        let mut reach = Self::new(&Rays::new(&view.camera), share);
        reach.pixel *= 1.0 + pixels / BORDER;
        corner_rays(&view.camera, view.size)
            .map(|ray| reach.at(ray, depth).max_element())
            .into_iter()
            .fold(0.0, f64::max)
    }
}

/// Somewhat more, so that no rounding makes less of it.
const ROUNDED: f64 = 1.0 + 1e-9;
