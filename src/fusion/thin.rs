//! A thinner cloud: one point for each voxel of a grid.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use glam::{DVec3, Vec3};

use crate::files::ply::Point;

/// No smaller side is needed to tell coordinates apart, and none of them over this one overflows.
const LEAST_SIDE: f64 = 1e-200;

/// What the points of one voxel come to.
struct Voxel {
    /// Its first point; sums are taken from here, so that they are exact far from the origin, too.
    first: DVec3,
    count: f64,
    position: DVec3,
    normal: DVec3,
    colour: [f64; 3],
    confidence: f64,
    views: u8,
}

/// One point for each cube of this side, in the scene's units, that holds any: position, colour, normal and confidence
/// are the means of its points, `views` is their greatest. The cubes' corners lie multiples of the side from `corner`,
/// and their order is that of their first points.
///
/// Where `corner` moves with the scene, the thinned cloud of a scene that is moved is the thinned cloud, moved.
pub fn thin(points: &[Point], side: f64, corner: DVec3) -> Vec<Point> {
    let mut voxels = Voxels::new(side, corner);
    points.iter().for_each(|point| voxels.add(point));
    voxels.points()
}

/// A cloud that is thinned while its points come: see [`thin`].
pub struct Voxels {
    side: f64,
    corner: DVec3,
    places: HashMap<[u64; 3], usize>,
    voxels: Vec<Voxel>,
}

impl Voxels {
    /// Bytes that one takes at most: in its list and the table of places, either of which may be half empty, and while
    /// one of them grows.
    pub const BYTES: u64 = 3 * (size_of::<Voxel>() + size_of::<([u64; 3], usize)>() + 1) as u64;

    /// Without points.
    pub fn new(side: f64, corner: DVec3) -> Self {
        Self { side: side.max(LEAST_SIDE), corner, places: HashMap::new(), voxels: Vec::new() }
    }

    /// Adds one point.
    pub fn add(&mut self, point: &Point) {
        let position = DVec3::from(point.position);
        // Whole numbers however large; 0 added makes one zero of the two.
        let cell = ((position - self.corner) / self.side).floor() + DVec3::ZERO;
        let next = self.voxels.len();
        let at = match self.places.entry(cell.to_array().map(f64::to_bits)) {
            Entry::Occupied(place) => *place.get(),
            Entry::Vacant(place) => {
                self.voxels.push(Voxel::at(position));
                *place.insert(next)
            }
        };
        self.voxels[at].add(point, position);
    }

    /// How many hold points.
    pub fn len(&self) -> usize {
        self.voxels.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.voxels.is_empty()
    }

    /// The thinned cloud.
    pub fn points(self) -> Vec<Point> {
        self.voxels.into_iter().map(Voxel::point).collect()
    }
}

impl Voxel {
    fn at(first: DVec3) -> Self {
        let (position, normal) = (DVec3::ZERO, DVec3::ZERO);
        Self { first, count: 0.0, position, normal, colour: [0.0; 3], confidence: 0.0, views: 0 }
    }

    fn add(&mut self, point: &Point, position: DVec3) {
        self.count += 1.0;
        self.position += position - self.first;
        self.normal += Vec3::from(point.normal).as_dvec3();
        self.colour = [0, 1, 2].map(|channel| self.colour[channel] + f64::from(point.colour[channel]));
        self.confidence += f64::from(point.confidence);
        self.views = self.views.max(point.views);
    }

    fn point(self) -> Point {
        Point {
            position: (self.first + self.position / self.count).to_array(),
            normal: self.normal.normalize_or_zero().as_vec3().to_array(),
            colour: self.colour.map(|sum| (sum / self.count).round() as u8),
            confidence: (self.confidence / self.count) as f32,
            views: self.views,
        }
    }
}
