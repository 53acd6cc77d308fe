//! What of a mesh a camera sees: the nearest depth in every pixel.

use glam::{DVec3, Vec3};
use rayon::prelude::*;

use crate::files::map::Map;
use crate::mesh::triangles::Triangles;
use crate::scene::camera::Camera;

/// Rows that are drawn at once; each such band goes through all triangles.
const ROWS: usize = 64;

/// Where the vertices lie in a photo: column, row, inverse depth; NaN behind the camera.
pub fn project(mesh: &Triangles, camera: &Camera) -> Vec<[f32; 3]> {
    let (matrix, shift) = (camera.k * camera.r, camera.k * camera.t);
    let place = |position: &[f32; 3]| {
        let q = matrix * DVec3::from(position.map(f64::from)) + shift;
        if q.z > 1e-6 { [(q.x / q.z) as f32, (q.y / q.z) as f32, (1.0 / q.z) as f32] } else { [f32::NAN; 3] }
    };
    mesh.positions.par_iter().map(place).collect()
}

/// The inverse depth of the nearest triangle at every pixel's centre; 0 where there is none. Triangles that reach
/// behind the camera are not drawn.
pub fn nearest(mesh: &Triangles, places: &[[f32; 3]], (width, height): (usize, usize)) -> Map {
    let mut map = Map::filled(width, height, 0.0);
    map.data.par_chunks_mut(ROWS * width.max(1)).enumerate().for_each(|(band, values)| {
        let first = band * ROWS;
        let rows = values.len() / width.max(1);
        for face in &mesh.faces {
            draw(face.map(|vertex| places[vertex as usize]), (width, first, rows), values);
        }
    });
    map
}

/// Draws a triangle into some rows of a map of this width, from its `first` row on. Inverse depth is affine in the
/// photo.
#[inline]
pub fn draw(corners: [[f32; 3]; 3], (width, first, rows): (usize, usize, usize), values: &mut [f32]) {
    let [a, b, c] = corners;
    let (top, bottom) = (a[1].min(b[1]).min(c[1]), a[1].max(b[1]).max(c[1]));
    // NaN fails this, too.
    if !(bottom >= first as f32 && top <= (first + rows - 1) as f32) {
        return;
    }
    let (left, right) = (a[0].min(b[0]).min(c[0]), a[0].max(b[0]).max(c[0]));
    if !(right >= 0.0 && left <= (width - 1) as f32) || [a, b, c].iter().any(|place| place[2].is_nan()) {
        return;
    }
    let side = |p: [f32; 3], q: [f32; 3], x: f32, y: f32| (q[0] - p[0]) * (y - p[1]) - (q[1] - p[1]) * (x - p[0]);
    let area = side(a, b, c[0], c[1]);
    if area == 0.0 {
        return;
    }
    let rows_of = (top.max(first as f32).ceil() as usize)..=(bottom.min((first + rows - 1) as f32) as usize);
    for y in rows_of {
        for x in (left.max(0.0).ceil() as usize)..=(right.min((width - 1) as f32) as usize) {
            let at = (x as f32, y as f32);
            let shares = [side(b, c, at.0, at.1), side(c, a, at.0, at.1), side(a, b, at.0, at.1)].map(|s| s / area);
            if shares.iter().all(|share| *share >= 0.0) {
                let inverse = shares[0] * a[2] + shares[1] * b[2] + shares[2] * c[2];
                let value = &mut values[(y - first) * width + x];
                *value = value.max(inverse);
            }
        }
    }
}

/// A camera's look at a mesh.
pub struct Sight<'a> {
    mesh: &'a Triangles,
    /// Where the vertices lie in the photo.
    pub places: Vec<[f32; 3]>,
    nearest: Map,
    centre: DVec3,
    focal: f64,
    /// How much nearer the mesh must be to hide a vertex: its own triangles are that much nearer at the pixels around
    /// it.
    slack: f64,
}

/// What a camera sees of a vertex.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    /// Where it lies in the photo.
    pub at: [f32; 2],
    /// Pixels that a unit of the surface has there.
    pub sharpness: f32,
    /// Whether something nearer lies at the pixels around it.
    pub beside: bool,
}

/// The least cosine at which a surface is looked at.
const LEAST_FACING: f64 = 0.15;

impl<'a> Sight<'a> {
    /// Draws the mesh as a camera sees it that is relative to the mesh's origin.
    pub fn new(mesh: &'a Triangles, camera: &Camera, size: (usize, usize), slack: f64) -> Self {
        let places = project(mesh, camera);
        let nearest = nearest(mesh, &places, size);
        let focal = 0.5 * (camera.k.x_axis.x + camera.k.y_axis.y);
        Self { mesh, places, nearest, centre: camera.centre(), focal, slack }
    }

    /// Whether and how a vertex is seen: in the photo, from the front, with nothing before it.
    pub fn look(&self, vertex: u32, normal: Vec3) -> Option<Look> {
        let [u, v, inverse] = self.places[vertex as usize];
        let (width, height) = (self.nearest.width, self.nearest.height);
        if !(u >= 0.0 && v >= 0.0 && u <= (width - 1) as f32 && v <= (height - 1) as f32) {
            return None;
        }
        let facing = normal.as_dvec3().dot((self.centre - self.mesh.at(vertex)).normalize());
        if facing < LEAST_FACING {
            return None;
        }
        let depth = 1.0 / f64::from(inverse);
        // The same surface is nearer at the next pixel by what its slant makes of a pixel.
        let slant = (1.0 - facing * facing).max(0.0).sqrt() / facing * depth / self.focal;
        let before = (1.0 / (depth - self.slack - 1.5 * slant).max(1e-9)) as f32;
        let (x, y) = ((u + 0.5) as usize, (v + 0.5) as usize);
        if self.nearest.at(x, y) > before {
            return None;
        }
        let around = |at: usize, length: usize| at.saturating_sub(1)..=(at + 1).min(length - 1);
        let beside = around(y, height).any(|y| around(x, width).any(|x| self.nearest.at(x, y) > before));
        let sharpness = (self.focal * self.focal * facing / (depth * depth)) as f32;
        Some(Look { at: [u, v], sharpness, beside })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use glam::DMat3;

    #[test]
    fn the_nearest_plane_is_seen_with_its_exact_depth() {
        let k = DMat3::from_cols(DVec3::new(90.0, 0.0, 0.0), DVec3::new(0.0, 90.0, 0.0), DVec3::new(40.0, 70.0, 1.0));
        let camera = Camera { k, r: DMat3::IDENTITY, t: DVec3::ZERO };
        // A slanted square of two triangles, z = 4 + x / 2, and a small one before it at z = 2.
        let slanted = [[-2.0f32, -2.0], [2.0, -2.0], [2.0, 2.0], [-2.0, 2.0]].map(|[x, y]| [x, y, 4.0 + 0.5 * x]);
        let small = [[-0.5, -0.5, 2.0], [0.5, -0.5, 2.0], [0.0, 0.5, 2.0], [0.0, 0.0, -1.0]];
        let mesh = Triangles {
            positions: slanted.into_iter().chain(small).collect(),
            // The last one reaches behind the camera.
            faces: vec![[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 5, 7]],
        };
        let map = nearest(&mesh, &project(&mesh, &camera), (80, 140));
        let (mut far, mut near) = (0, 0);
        for (i, &inverse) in map.data.iter().enumerate() {
            let ray = DVec3::new(((i % 80) as f64 - 40.0) / 90.0, ((i / 80) as f64 - 70.0) / 90.0, 1.0);
            let depth = 4.0 / (1.0 - 0.5 * ray.x);
            let (x, y) = (ray.x * 2.0, ray.y * 2.0);
            let is_near = y > -0.49 && y < 0.49 && x.abs() < 0.5 * (0.5 - y) - 0.02;
            let expected = if is_near { 0.5 } else { 1.0 / depth };
            let inside = (depth * ray).abs();
            if inside.x < 1.97 && inside.y < 1.97 && (is_near || x.abs() > 0.52 || y.abs() > 0.51) {
                // f32: a few units in the last place of 0.5.
                assert!((f64::from(inverse) - expected).abs() < 1e-6, "{i}: {inverse} {expected}");
                *(if is_near { &mut near } else { &mut far }) += 1;
            } else if inside.x > 2.03 || inside.y > 2.03 {
                assert_eq!(inverse, 0.0, "{i}");
            }
        }
        assert!(far > 3000 && near > 500, "{far} {near}");
    }
}
