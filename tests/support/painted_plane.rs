//! A painted plane whose every depth is known, and what refinement against its photos should say, by plain loops.
#![allow(dead_code)] // every test binary takes its own part

use engine::cpu::ops::ncc::{self, STEP_PX, TAPS};
use engine::files::map::Map;
use engine::net::tensor::Tensor;
use engine::scene::camera::{Camera, PlaneSweep};
use engine::scene::photo::Photo;
use glam::{DMat3, DVec3};

/// A slanted plane `1 / depth = a x + b y + c` in the reference's pixels, with a smooth pattern painted on it, as two
/// other cameras see it.
pub struct Scene {
    pub cameras: Vec<Camera>,
    pub size: (usize, usize),
    plane: DVec3,
    /// Amplitude of the pattern, and its waves' lengths in pixels.
    contrast: f64,
    waves: [f64; 4],
}

fn camera(x: f64, y: f64, turn: f64, (width, height): (usize, usize)) -> Camera {
    let f = width as f64;
    let k = DMat3::from_cols(
        DVec3::new(f, 0.0, 0.0),
        DVec3::new(0.0, f, 0.0),
        DVec3::new(0.5 * width as f64, 0.5 * height as f64, 1.0),
    );
    let r = DMat3::from_rotation_y(turn);
    Camera { k, r, t: r * DVec3::new(-x, -y, 0.0) }
}

impl Scene {
    pub fn new(size: (usize, usize), contrast: f64) -> Self {
        let places = [(0.0, 0.0, 0.0), (0.3, 0.02, 0.05), (-0.25, 0.1, -0.04), (0.05, -0.3, 0.01)];
        Self {
            cameras: places.into_iter().map(|(x, y, turn)| camera(x, y, turn, size)).collect(),
            size,
            plane: DVec3::new(4e-4, -3e-4, 0.2),
            contrast,
            waves: [9.7, 13.1, 7.9, 17.3],
        }
    }

    pub fn inverse_depth(&self, x: f64, y: f64) -> f64 {
        self.plane.dot(DVec3::new(x, y, 1.0))
    }

    /// The pattern where a pixel of the reference sees the plane.
    pub fn pattern(&self, x: f64, y: f64) -> f64 {
        let [a, b, c, d] = self.waves.map(|wave| std::f64::consts::TAU / wave);
        let waves = (a * x).sin() + (b * y).cos() + (c * (0.8 * x + 0.6 * y)).sin() + (d * (x - y)).cos();
        0.5 + 0.1 * self.contrast * waves
    }

    /// What a view sees: each of its pixels is followed to the plane and back to the reference.
    pub fn photo(&self, view: usize) -> Photo {
        let (width, height) = self.size;
        let (own, other) = (&self.cameras[0], &self.cameras[view]);
        // The plane in the reference's frame: 1 / z = plane . p with p = K X / z, so plane . K X = 1.
        let normal = own.k.transpose() * self.plane;
        let grey = |i: usize| {
            let pixel = DVec3::new((i % width) as f64, (i / width) as f64, 1.0);
            let direction = own.r * other.r.transpose() * (other.k.inverse() * pixel);
            let centre = own.r * other.centre() + own.t;
            let along = (1.0 - normal.dot(centre)) / normal.dot(direction);
            let p = own.k * (centre + direction * along);
            self.pattern(p.x / p.z, p.y / p.z) as f32
        };
        Photo { width, height, rgb: (0..width * height).flat_map(|i| [grey(i); 3]).collect() }
    }

    pub fn truth(&self) -> Map {
        let (width, height) = self.size;
        let depth = |i: usize| (1.0 / self.inverse_depth((i % width) as f64, (i / width) as f64)) as f32;
        Map { width, height, data: (0..width * height).map(depth).collect() }
    }

    pub fn greys(&self) -> Vec<Tensor> {
        (0..self.cameras.len()).map(|view| ncc::grey(&self.photo(view))).collect()
    }

    pub fn sweeps(&self) -> Vec<PlaneSweep> {
        self.cameras[1..].iter().map(|other| PlaneSweep::new(&self.cameras[0], other)).collect()
    }

    /// 1 / depth that moves a point by a pixel in the first source: f times the baseline, near enough.
    pub fn pixel(&self) -> f32 {
        (1.0 / (self.size.0 as f64 * 0.3)) as f32
    }
}

/// Depths that are off by up to `pixels`, smoothly.
pub fn shaken(truth: &Map, pixel: f32, pixels: f32) -> Map {
    let off = |i: usize| {
        let (x, y) = ((i % truth.width) as f32, (i / truth.width) as f32);
        pixels * (0.07 * x).sin() * (0.05 * y).cos()
    };
    let data = truth.data.iter().enumerate().map(|(i, z)| 1.0 / (1.0 / z + pixel * off(i))).collect();
    Map { data, ..*truth }
}

/// The same in f64 by plain loops, window by window; `None` where the pixel stays, or where a threshold is so near that
/// roundings may decide.
pub fn by_plain_loops(greys: &[Vec<f64>], scene: &Scene, rho: &[f64], (x, y): (usize, usize)) -> Option<Option<f64>> {
    let (width, height) = scene.size;
    let near = |value: f64, limit: f64| (value - limit).abs() < 1e-3;
    let clamp = |v: isize, n: usize| v.clamp(0, n as isize - 1) as usize;
    let window: Vec<(usize, usize)> = (-2..=2)
        .flat_map(|j| (-2..=2).map(move |i| (i, j)))
        .map(|(i, j)| (clamp(x as isize + i, width), clamp(y as isize + j, height)))
        .collect();
    let step = f64::from(STEP_PX * scene.pixel());
    let own: Vec<f64> = window.iter().map(|(x, y)| greys[0][y * width + x]).collect();
    let moments = |v: &[f64]| {
        let m = v.iter().sum::<f64>() / 25.0;
        (m, v.iter().map(|v| v * v).sum::<f64>() / 25.0 - m * m)
    };
    let (own_mean, own_variance) = moments(&own);
    if own_variance < 2e-4 {
        return None;
    }
    let mut worth = Vec::new();
    for tap in 0..TAPS {
        let mut all = Vec::new();
        for (source, sweep) in greys[1..].iter().zip(scene.sweeps()) {
            let a = sweep.a.map(|row| row.map(f64::from));
            let b = sweep.b.map(f64::from);
            let shown: Option<Vec<f64>> = window
                .iter()
                .map(|&(x, y)| {
                    let rho = rho[y * width + x] + (tap as f64 - 3.0) * step;
                    let q = [0, 1, 2].map(|r| a[r][0] * x as f64 + a[r][1] * y as f64 + a[r][2] + rho * b[r]);
                    let (u, v) = (q[0] / q[2], q[1] / q[2]);
                    let inside = u >= 0.0 && v >= 0.0 && u <= width as f64 - 1.0 && v <= height as f64 - 1.0;
                    let (i, j) = (u.floor(), v.floor());
                    let at = |i: f64, j: f64| source[clamp(j as isize, height) * width + clamp(i as isize, width)];
                    let (f, g) = (u - i, v - j);
                    let top = at(i, j) * (1.0 - f) + at(i + 1.0, j) * f;
                    let bottom = at(i, j + 1.0) * (1.0 - f) + at(i + 1.0, j + 1.0) * f;
                    inside.then_some(top * (1.0 - g) + bottom * g)
                })
                .collect();
            let Some(shown) = shown else { continue };
            let (m, variance) = moments(&shown);
            let product = own.iter().zip(&shown).map(|(a, b)| a * b).sum::<f64>() / 25.0 - own_mean * m;
            all.push(product * product.abs() / (own_variance * variance.max(1e-6)));
        }
        all.sort_by(|a, b| b.total_cmp(a));
        worth.push(match all[..] {
            [] => return None,
            [one] => one,
            [one, two, ..] => 0.5 * (one + two),
        });
    }
    let mut order: Vec<usize> = (0..TAPS).collect();
    order.sort_by(|a, b| worth[*b].total_cmp(&worth[*a]));
    let best = order[0];
    if near(worth[best], worth[order[1]]) || near(worth[best], 0.36) {
        return None;
    }
    if worth[best] < 0.36 || best == 0 || best + 1 == TAPS {
        return Some(None);
    }
    let (before, after) = (worth[best - 1], worth[best + 1]);
    let off = (0.5 * (before - after) / (before - 2.0 * worth[best] + after)).clamp(-0.5, 0.5);
    Some(Some(rho[y * width + x] + (best as f64 - 3.0 + off) * step))
}
