//! How well a mesh meets the true surface: shares of either within a distance of the other.

use std::collections::HashMap;

use glam::DVec3;

use crate::readers::TestMesh;
use crate::solids::{self, Solid};
use crate::{Run, SIZE};

/// Shares of samples at one distance.
#[derive(Clone, Copy, Debug)]
pub struct Score {
    /// Of the mesh's area, within the distance of the true surface.
    pub accuracy: f64,
    /// Of the true surface that four views see, within the distance of the mesh.
    pub completeness: f64,
}

impl Score {
    pub fn f(self) -> f64 {
        2.0 * self.accuracy * self.completeness / (self.accuracy + self.completeness)
    }
}

/// Points all over a mesh, about `spacing` apart at most.
pub fn samples(mesh: &TestMesh, spacing: f64) -> Vec<DVec3> {
    let mut points = Vec::new();
    for face in &mesh.faces {
        let [a, b, c] = face.map(|v| mesh.positions[v]);
        let longest = a.distance(b).max(b.distance(c)).max(c.distance(a));
        let steps = (longest / spacing).ceil().max(1.0) as usize;
        // Of small triangles, each a part of a grid over the triangle, the middle: equal areas.
        for (i, j) in (0..steps).flat_map(|i| (0..steps - i).map(move |j| (i, j))) {
            let at = |u: f64, v: f64| a + (b - a) * (u / steps as f64) + (c - a) * (v / steps as f64);
            points.push(at(i as f64 + 1.0 / 3.0, j as f64 + 1.0 / 3.0));
            if i + j + 2 <= steps {
                points.push(at(i as f64 + 2.0 / 3.0, j as f64 + 2.0 / 3.0));
            }
        }
    }
    points
}

/// At each of these distances.
pub fn score<const N: usize>(run: &Run, solids: &[Solid], mesh: &TestMesh, distances: [f64; N]) -> [Score; N] {
    let nearest = distances.iter().copied().fold(f64::INFINITY, f64::min);
    let on_mesh = samples(mesh, 0.25 * nearest);
    let off: Vec<f64> = on_mesh
        .iter()
        .map(|&at| solids.iter().map(|solid| solid.signed(at)).min_by(f64::total_cmp).unwrap().abs())
        .collect();
    let farthest = distances.iter().copied().fold(0.0, f64::max);
    let cell = |at: DVec3| (at / farthest).floor().as_i64vec3().to_array();
    let mut cells: HashMap<[i64; 3], Vec<DVec3>> = HashMap::new();
    on_mesh.iter().for_each(|&at| cells.entry(cell(at)).or_default().push(at));
    let to_mesh = |at: DVec3| {
        let [x, y, z] = cell(at);
        let around = (0..27).map(|i| [x + i % 3 - 1, y + i / 3 % 3 - 1, z + i / 9 - 1]);
        let points = around.filter_map(|key| cells.get(&key)).flatten();
        points.map(|point| point.distance(at)).fold(f64::INFINITY, f64::min)
    };
    let truth: Vec<f64> = solids
        .iter()
        .flat_map(|solid| solid.points(nearest))
        // What is inside another solid is no surface.
        .filter(|(at, _)| solids.iter().all(|solid| solid.signed(*at) > -1e-9))
        .filter(|point| solids::seen_by(solids, &run.cameras, *point, SIZE) >= 4)
        .map(|(at, _)| to_mesh(at))
        .collect();
    assert!(on_mesh.len() > 1000 && truth.len() > 500, "{} {}", on_mesh.len(), truth.len());
    let share = |all: &[f64], most: f64| all.iter().filter(|d| **d <= most).count() as f64 / all.len() as f64;
    distances.map(|most| Score { accuracy: share(&off, most), completeness: share(&truth, most) })
}
