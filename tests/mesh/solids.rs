//! Solids whose surface is a formula: rays, distances and points of it in f64. Shares nothing with the engine.

use engine::files::map::Map;
use engine::scene::camera::Camera;
use glam::{DMat3, DVec3};

/// Something solid.
#[derive(Clone, Copy, Debug)]
pub enum Solid {
    Ball {
        centre: DVec3,
        radius: f64,
    },
    /// A box that is turned: `turn` takes its axes to the world's.
    Block {
        middle: DVec3,
        half: DVec3,
        turn: DMat3,
    },
}

impl Solid {
    /// The first positive s with `origin + s * direction` on the surface.
    pub fn hit(&self, origin: DVec3, direction: DVec3) -> Option<f64> {
        match *self {
            Self::Ball { centre, radius } => {
                let (a, b) = (direction.length_squared(), direction.dot(origin - centre));
                let root = (b * b - a * ((origin - centre).length_squared() - radius * radius)).sqrt();
                [(-b - root) / a, (-b + root) / a].into_iter().find(|s| *s > 0.0)
            }
            Self::Block { middle, half, turn } => {
                let (o, d) = (turn.transpose() * (origin - middle), turn.transpose() * direction);
                let (one, other) = ((-half - o) / d, (half - o) / d);
                let (enter, leave) = (one.min(other).max_element(), one.max(other).min_element());
                (enter <= leave && enter > 0.0).then_some(enter)
            }
        }
    }

    /// The signed distance of a point to the surface, outside positive.
    pub fn signed(&self, at: DVec3) -> f64 {
        match *self {
            Self::Ball { centre, radius } => at.distance(centre) - radius,
            Self::Block { middle, half, turn } => {
                let beyond = (turn.transpose() * (at - middle)).abs() - half;
                beyond.max(DVec3::ZERO).length() + beyond.max_element().min(0.0)
            }
        }
    }

    /// Points all over the surface, about `spacing` apart, with the normal there.
    pub fn points(&self, spacing: f64) -> Vec<(DVec3, DVec3)> {
        match *self {
            Self::Ball { centre, radius } => {
                let count = (4.0 * std::f64::consts::PI * radius * radius / (spacing * spacing)).ceil();
                let at = |i: usize| {
                    let y = 1.0 - 2.0 * (i as f64 + 0.5) / count;
                    let turn = i as f64 * std::f64::consts::PI * (3.0 - 5f64.sqrt());
                    let ring = (1.0 - y * y).sqrt();
                    let normal = DVec3::new(ring * turn.cos(), y, ring * turn.sin());
                    (centre + radius * normal, normal)
                };
                (0..count as usize).map(at).collect()
            }
            Self::Block { middle, half, turn } => {
                let mut points = Vec::new();
                for (axis, side) in (0..6).map(|face| (face / 2, if face % 2 == 0 { -1.0 } else { 1.0 })) {
                    let [p, q] = [(axis + 1) % 3, (axis + 2) % 3];
                    let [along_p, along_q] = [p, q].map(|a| (2.0 * half[a] / spacing).ceil() as usize);
                    for (i, j) in (0..=along_p).flat_map(|i| (0..=along_q).map(move |j| (i, j))) {
                        let mut at = DVec3::ZERO;
                        at[axis] = side * half[axis];
                        at[p] = half[p] * (2.0 * i as f64 / along_p as f64 - 1.0);
                        at[q] = half[q] * (2.0 * j as f64 / along_q as f64 - 1.0);
                        let mut normal = DVec3::ZERO;
                        normal[axis] = side;
                        points.push((middle + turn * at, turn * normal));
                    }
                }
                points
            }
        }
    }
}

/// The nearest surface along a ray of a camera whose pixels these are.
fn first(solids: &[Solid], camera: &Camera, x: f64, y: f64) -> Option<f64> {
    let eye = -(camera.r.transpose() * camera.t);
    let (k, r) = (camera.k, camera.r.transpose());
    let ray = r * DVec3::new((x - k.z_axis.x) / k.x_axis.x, (y - k.z_axis.y) / k.y_axis.y, 1.0);
    solids.iter().filter_map(|solid| solid.hit(eye, ray)).min_by(f64::total_cmp)
}

/// The exact depth at every pixel's centre; 0 where nothing is.
pub fn depth(solids: &[Solid], camera: &Camera, (width, height): (usize, usize)) -> Map {
    let at = |i: usize| first(solids, camera, (i % width) as f64, (i / width) as f64).unwrap_or(0.0) as f32;
    Map { width, height, data: (0..width * height).map(at).collect() }
}

/// How many cameras see a point of the surface at a cosine of at least a quarter.
pub fn seen_by(solids: &[Solid], cameras: &[Camera], (at, normal): (DVec3, DVec3), size: (usize, usize)) -> usize {
    let sees = |camera: &&Camera| {
        let q = camera.k * (camera.r * at + camera.t);
        let (x, y) = (q.x / q.z, q.y / q.z);
        let eye = -(camera.r.transpose() * camera.t);
        let inside = x >= 0.0 && y >= 0.0 && x <= (size.0 - 1) as f64 && y <= (size.1 - 1) as f64;
        let faces = normal.dot((eye - at).normalize()) >= 0.25;
        q.z > 0.0 && inside && faces && first(solids, camera, x, y).is_some_and(|s| (s - q.z).abs() < 1e-6 * q.z)
    };
    cameras.iter().filter(sees).count()
}
