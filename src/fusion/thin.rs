//! A thinner cloud: one point for each voxel of a grid.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use glam::{DVec3, Vec3};

use crate::files::ply::Point;

/// No smaller side is needed to tell f32 coordinates apart, and none of them over this one overflows.
const LEAST_SIDE: f64 = 1e-200;

/// What the points of one voxel come to.
struct Voxel {
    /// Its corner; sums are taken from here, so that they are exact far from the origin, too.
    corner: DVec3,
    count: f64,
    position: DVec3,
    normal: DVec3,
    colour: [f64; 3],
    confidence: f64,
    views: u8,
}

/// One point for each cube of this side, in the scene's units, that holds any: position, colour, normal and confidence
/// are the means of its points, `views` is their greatest. The cubes' corners are multiples of the side, and their
/// order is that of their first points.
///
/// All of it is computed in f64; positions are rounded to f32 once more at the end, as those that were given. Far from
/// the origin a cube may be too small to hold more than one position that f32 has: then only equal positions meet.
pub fn thin(points: &[Point], side: f64) -> Vec<Point> {
    let side = side.max(LEAST_SIDE);
    let mut places: HashMap<[u64; 3], usize> = HashMap::new();
    let mut voxels: Vec<Voxel> = Vec::new();
    for point in points {
        let position = Vec3::from(point.position).as_dvec3();
        // Whole numbers however large; 0 added makes one zero of the two.
        let cell = (position / side).floor() + DVec3::ZERO;
        let next = voxels.len();
        let at = match places.entry(cell.to_array().map(f64::to_bits)) {
            Entry::Occupied(place) => *place.get(),
            Entry::Vacant(place) => {
                voxels.push(Voxel::at(cell * side));
                *place.insert(next)
            }
        };
        voxels[at].add(point, position);
    }
    voxels.into_iter().map(Voxel::point).collect()
}

impl Voxel {
    fn at(corner: DVec3) -> Self {
        let (position, normal) = (DVec3::ZERO, DVec3::ZERO);
        Self { corner, count: 0.0, position, normal, colour: [0.0; 3], confidence: 0.0, views: 0 }
    }

    fn add(&mut self, point: &Point, position: DVec3) {
        self.count += 1.0;
        self.position += position - self.corner;
        self.normal += Vec3::from(point.normal).as_dvec3();
        self.colour = [0, 1, 2].map(|channel| self.colour[channel] + f64::from(point.colour[channel]));
        self.confidence += f64::from(point.confidence);
        self.views = self.views.max(point.views);
    }

    fn point(self) -> Point {
        Point {
            position: (self.corner + self.position / self.count).as_vec3().to_array(),
            normal: self.normal.normalize_or_zero().as_vec3().to_array(),
            colour: self.colour.map(|sum| (sum / self.count).round() as u8),
            confidence: (self.confidence / self.count) as f32,
            views: self.views,
        }
    }
}
