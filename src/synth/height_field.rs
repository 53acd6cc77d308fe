//! Height fields: a grid of heights, two triangles a cell, met by walking along the ray from cell to cell.

use glam::DVec3;

use super::bounds::Bounds;
use super::ray::{Hit, Ray, triangle};

/// Heights over `|x| <= half[0]`, `|y| <= half[1]`, seen from both sides.
#[derive(Clone, Debug)]
pub struct HeightField {
    columns: usize,
    rows: usize,
    half: [f64; 2],
    /// `(rows + 1) * (columns + 1)` heights, row by row from -y.
    heights: Vec<f64>,
    /// Smooth normals at the same places.
    normals: Vec<DVec3>,
    bounds: Bounds,
}

impl HeightField {
    /// A field of `columns` x `rows` cells whose corners have the height that `height` gives for (x, y).
    pub fn new(columns: usize, rows: usize, half: [f64; 2], height: impl Fn(f64, f64) -> f64) -> Self {
        let (columns, rows) = (columns.max(1), rows.max(1));
        let place = |i: usize, count: usize, half: f64| half * (2.0 * i as f64 / count as f64 - 1.0);
        let across = columns + 1;
        let mut heights = Vec::with_capacity(across * (rows + 1));
        for j in 0..=rows {
            for i in 0..=columns {
                heights.push(height(place(i, columns, half[0]), place(j, rows, half[1])));
            }
        }
        let (dx, dy) = (2.0 * half[0] / columns as f64, 2.0 * half[1] / rows as f64);
        let at = |i: usize, j: usize| heights[j * across + i];
        let slope = |low: f64, high: f64, steps: usize, step: f64| (high - low) / (steps as f64 * step);
        let mut normals = Vec::with_capacity(heights.len());
        for j in 0..=rows {
            for i in 0..=columns {
                let (left, right) = (i.saturating_sub(1), (i + 1).min(columns));
                let (below, above) = (j.saturating_sub(1), (j + 1).min(rows));
                let a = slope(at(left, j), at(right, j), right - left, dx);
                let b = slope(at(i, below), at(i, above), above - below, dy);
                normals.push(DVec3::new(-a, -b, 1.0));
            }
        }
        let (low, high) = heights.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &z| (l.min(z), h.max(z)));
        let bounds = Bounds { low: DVec3::new(-half[0], -half[1], low), high: DVec3::new(half[0], half[1], high) };
        Self { columns, rows, half, heights, normals, bounds }
    }

    /// The box around it.
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// The first hit with `from < t < to`.
    pub fn hit(&self, ray: &Ray, from: f64, to: f64) -> Option<Hit> {
        let (enter, leave) = self.bounds.crossing(ray, from, to)?;
        let counts = [self.columns, self.rows];
        // In units of cells: position p = o + t d, cell floor(p).
        let scale = [0, 1].map(|k| counts[k] as f64 / (2.0 * self.half[k]));
        let o = [0, 1].map(|k| (ray.origin[k] + self.half[k]) * scale[k]);
        let d = [0, 1].map(|k| ray.direction[k] * scale[k]);
        let cell_at = |k: usize, t: f64| (o[k] + t * d[k]).floor().clamp(0.0, counts[k] as f64 - 1.0) as usize;
        let mut cell = [0, 1].map(|k| cell_at(k, enter));
        let mut at = enter;
        // One step a cell: more than all columns and rows together cannot be crossed.
        for _ in 0..=counts[0] + counts[1] + 1 {
            // Where the ray leaves this cell, along x and along y.
            let exit = [0, 1].map(|k| {
                let border = cell[k] as f64 + if d[k] > 0.0 { 1.0 } else { 0.0 };
                if d[k] == 0.0 { f64::INFINITY } else { (border - o[k]) / d[k] }
            });
            let next = exit[0].min(exit[1]).min(leave);
            if let Some(hit) = self.in_cell(ray, cell, at, next, from, to) {
                return Some(hit);
            }
            if next >= leave {
                return None;
            }
            let k = usize::from(exit[1] < exit[0]);
            match d[k] > 0.0 {
                true if cell[k] + 1 < counts[k] => cell[k] += 1,
                false if cell[k] > 0 => cell[k] -= 1,
                _ => return None,
            }
            at = next;
        }
        None
    }

    /// The first hit of a cell's two triangles; the ray crosses the cell from t = `enter` to `exit`.
    fn in_cell(&self, ray: &Ray, [i, j]: [usize; 2], enter: f64, exit: f64, from: f64, to: f64) -> Option<Hit> {
        let across = self.columns + 1;
        let corner = j * across + i;
        let indices = [corner, corner + 1, corner + across + 1, corner + across];
        let heights = indices.map(|k| self.heights[k]);
        let low = heights.iter().copied().fold(f64::INFINITY, f64::min);
        let high = heights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (z1, z2) = (ray.at(enter).z, ray.at(exit).z);
        // Most cells lie wholly above or below the ray; the slack covers the rounding of the borders.
        let slack = 1e-9 * (self.half[0] + self.half[1]);
        if z1.min(z2) > high + slack || z1.max(z2) < low - slack {
            return None;
        }
        let place = |k: usize, count: usize, half: f64| half * (2.0 * k as f64 / count as f64 - 1.0);
        let x = [i, i + 1].map(|k| place(k, self.columns, self.half[0]));
        let y = [j, j + 1].map(|k| place(k, self.rows, self.half[1]));
        let corners = [
            DVec3::new(x[0], y[0], heights[0]),
            DVec3::new(x[1], y[0], heights[1]),
            DVec3::new(x[1], y[1], heights[2]),
            DVec3::new(x[0], y[1], heights[3]),
        ];
        let mut best: Option<Hit> = None;
        for [a, b, c] in [[0, 1, 2], [0, 2, 3]] {
            let Some((t, u, v)) = triangle(ray, [corners[a], corners[b], corners[c]]) else { continue };
            if t > from && t < best.map_or(to, |b| b.t) {
                let [na, nb, nc] = [a, b, c].map(|k| self.normals[indices[k]]);
                let normal = (corners[b] - corners[a]).cross(corners[c] - corners[a]);
                best = Some(Hit { t, normal, smooth: na * (1.0 - u - v) + nb * u + nc * v });
            }
        }
        best
    }
}
