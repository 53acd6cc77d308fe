//! Consistency, pyramid merge and fusion once more: one pixel after the other, through world points, in f64, written
//! from the definitions and sharing nothing with the engine but the types of its maps and cameras.

use engine::files::map::Map;
use engine::scene::camera::Camera;

fn matrices(camera: &Camera) -> ([[f64; 3]; 3], [[f64; 3]; 3], [f64; 3]) {
    let rows = |m: glam::DMat3| [0, 1, 2].map(|i| m.row(i).to_array());
    (rows(camera.k), rows(camera.r), camera.t.to_array())
}

/// The world point at `depth` behind pixel (u, v).
pub fn world(camera: &Camera, u: f64, v: f64, depth: f64) -> [f64; 3] {
    let (k, r, t) = matrices(camera);
    let y = (v - k[1][2]) / k[1][1];
    let x = (u - k[0][2] - k[0][1] * y) / k[0][0];
    let from_centre = [x * depth - t[0], y * depth - t[1], depth - t[2]];
    [0, 1, 2].map(|i| (0..3).map(|j| r[j][i] * from_centre[j]).sum())
}

/// Pixel and depth of a world point.
pub fn pixel(camera: &Camera, point: [f64; 3]) -> [f64; 3] {
    let (k, r, t) = matrices(camera);
    let p = [0, 1, 2].map(|i| (0..3).map(|j| r[i][j] * point[j]).sum::<f64>() + t[i]);
    [(k[0][0] * p[0] + k[0][1] * p[1]) / p[2] + k[0][2], k[1][1] * p[1] / p[2] + k[1][2], p[2]]
}

fn valid(depth: f32) -> bool {
    depth.is_finite() && depth > 0.0
}

/// Bilinear depth; `None` outside or where a neighbour with weight has no depth.
pub fn sample(map: &Map, u: f64, v: f64) -> Option<f64> {
    let (mut sum, mut x0, mut y0) = (0.0, 0, 0);
    if u < 0.0 || v < 0.0 || u > (map.width - 1) as f64 || v > (map.height - 1) as f64 {
        return None;
    }
    while (x0 + 1) as f64 <= u {
        x0 += 1;
    }
    while (y0 + 1) as f64 <= v {
        y0 += 1;
    }
    for (x, y) in [(x0, y0), (x0 + 1, y0), (x0, y0 + 1), (x0 + 1, y0 + 1)] {
        let weight = (1.0 - (u - x as f64).abs()) * (1.0 - (v - y as f64).abs());
        if weight == 0.0 {
            continue;
        }
        if !valid(map.data[y * map.width + x]) {
            return None;
        }
        sum += weight * f64::from(map.data[y * map.width + x]);
    }
    Some(sum)
}

/// For every pixel the number of agreeing sources and the mean depth (0 without depth).
pub fn agreement(
    reference: (&Camera, &Map),
    sources: &[(&Camera, &Map)],
    max_px: f64,
    max_rel: f64,
) -> (Vec<usize>, Vec<f64>) {
    let (camera, depth) = reference;
    let mut counts = vec![0; depth.data.len()];
    let mut means = vec![0.0; depth.data.len()];
    for at in 0..depth.data.len() {
        if !valid(depth.data[at]) {
            continue;
        }
        let (x, y, d) = ((at % depth.width) as f64, (at / depth.width) as f64, f64::from(depth.data[at]));
        let mut sum = d;
        for (source_camera, source_depth) in sources {
            let there = pixel(source_camera, world(camera, x, y, d));
            if there[2] <= 1e-6 {
                continue;
            }
            let Some(found) = sample(source_depth, there[0], there[1]) else { continue };
            let back = pixel(camera, world(source_camera, there[0], there[1], found));
            let moved = ((back[0] - x).powi(2) + (back[1] - y).powi(2)).sqrt();
            let changed = (back[2] - d).abs() / d;
            assert!((moved - max_px).abs() > 1e-9 && (changed - max_rel).abs() > 1e-11, "input on a threshold");
            if back[2] > 1e-6 && moved < max_px && changed < max_rel {
                sum += back[2];
                counts[at] += 1;
            }
        }
        means[at] = sum / (counts[at] + 1) as f64;
    }
    (counts, means)
}

/// One level's merge, for one view: the reference network's `upsample` by 2, with "all samples with weight reliable".
pub fn merge(coarse: (&Map, &Map), reliable: &[bool], fine: (&mut Map, &mut Map), replaced_below: f32) -> usize {
    let (coarse_depth, coarse_confidence) = coarse;
    let taps = |index: usize, size: usize| {
        let at = index as f64 / 2.0;
        let low = at.floor().min((size - 1) as f64);
        let high = (low + 1.0).min((size - 1) as f64);
        let w = (at - low).clamp(0.0, 1.0);
        [(low as usize, 1.0 - w), (high as usize, w)]
    };
    let (width, height) = (fine.0.width, fine.0.height);
    let mut replaced = 0;
    for y in 0..height {
        for x in 0..width {
            let at = y * width + x;
            if fine.1.data[at] >= replaced_below {
                continue;
            }
            let (mut depth, mut confidence, mut all) = (0.0, 0.0, true);
            for (row, wy) in taps(y, coarse_depth.height) {
                for (column, wx) in taps(x, coarse_depth.width) {
                    if wx * wy > 0.0 {
                        let from = row * coarse_depth.width + column;
                        all &= reliable[from];
                        depth += wx * wy * f64::from(coarse_depth.data[from]);
                        confidence += wx * wy * f64::from(coarse_confidence.data[from]);
                    }
                }
            }
            if all {
                fine.0.data[at] = depth as f32;
                fine.1.data[at] = confidence as f32;
                replaced += 1;
            }
        }
    }
    replaced
}
