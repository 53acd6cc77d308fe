//! A textured plane seen by five cameras, rendered exactly: small enough that the whole program runs on it in a second.

#![allow(dead_code)] // each test file uses its own part

use std::path::Path;

use engine::host::random::Random;
use glam::{DMat3, DVec3};

use crate::scene_files::{TestScene, TestView};

/// Width and height of the photos.
pub const SIZE: (u32, u32) = (96, 64);

/// Nearest and farthest depth that the scene's files state; the plane lies well inside.
pub const RANGE: (f64, f64) = (2.6, 5.6);

/// Hypotheses that the scene's files state.
pub const PLANES: usize = 16;

/// Names of the views.
pub const NAMES: [&str; 5] = ["00000000", "00000002", "00000003", "00000005", "00000009"];

/// Five cameras side by side, 4 in front of a slightly tilted plane, with gaps in the ids.
pub fn scene() -> TestScene {
    let views = [(0u32, -0.9), (2, -0.45), (3, 0.0), (5, 0.45), (9, 0.9)];
    let views = views.map(|(id, x)| looking(id, DVec3::new(x, -0.2 * x, -4.0), DVec3::ZERO));
    TestScene { size: SIZE, views: views.to_vec(), points: Vec::new(), model: None }
}

/// So many cameras in a row along the plane, of which each sees a part of what its next four see.
pub fn row(count: u32) -> TestScene {
    let view = |id: u32| {
        let x = 0.45 * (f64::from(id) - 0.5 * f64::from(count - 1));
        // In front of the plane where it is, turned a little by turns.
        let ahead = DVec3::new(x + 0.2 * f64::from(id % 3) - 0.2, 0.1 * f64::from(id % 2), -0.15 * x);
        looking(id, DVec3::new(x, -0.1, -4.0 - 0.15 * x), ahead)
    };
    TestScene { size: SIZE, views: (0..count).map(view).collect(), points: Vec::new(), model: None }
}

/// A scene of this kind whose photos have this many times as many pixels a side.
pub fn enlarged(mut scene: TestScene, times: u32) -> TestScene {
    scene.size = (SIZE.0 * times, SIZE.1 * times);
    let by = f64::from(times);
    for view in &mut scene.views {
        let centre = (view.k.z_axis + 0.5) * by - 0.5;
        view.k = DMat3::from_cols(view.k.x_axis * by, view.k.y_axis * by, centre.with_z(1.0));
    }
    scene
}

/// A camera at a place that looks at another one.
fn looking(id: u32, centre: DVec3, at: DVec3) -> TestView {
    let forward = (at - centre).normalize();
    let right = DVec3::Y.cross(forward).normalize();
    let r = DMat3::from_cols(right, forward.cross(right), forward).transpose();
    let k = DMat3::from_cols(DVec3::new(110.0, 0.0, 0.0), DVec3::new(0.0, 110.0, 0.0), DVec3::new(47.25, 31.75, 1.0));
    TestView { id, camera: 1, file: format!("{id:08}.png"), k, r, t: -(r * centre) }
}

/// Writes [`row`] in MVSNet layout: each view's sources are the nearest.
pub fn write_row(root: &Path, count: u32) {
    let scene = row(count);
    scene.write_mvsnet(root, &format!("{} {} {PLANES} {}", RANGE.0, (RANGE.1 - RANGE.0) / 15.0, RANGE.1));
    for view in &scene.views {
        render(view).save(root.join("images").join(&view.file)).unwrap();
    }
    let mut pairs = format!("{count}\n");
    for id in 0..count {
        let mut others: Vec<u32> = (0..count).filter(|&other| other != id && other.abs_diff(id) <= 4).collect();
        others.sort_by_key(|other| other.abs_diff(id));
        let scored = others.iter().map(|other| format!("{other} {} ", 10.0 / f64::from(other.abs_diff(id))));
        pairs += &format!("{id}\n{} {}\n", others.len(), scored.collect::<String>().trim_end());
    }
    std::fs::write(root.join("pair.txt"), pairs).unwrap();
}

/// Writes the scene in MVSNet layout with rendered photos.
pub fn write(root: &Path) {
    write_moved(root, DVec3::ZERO);
}

/// The same with everything moved by `offset`.
pub fn write_moved(root: &Path, offset: DVec3) {
    let still = scene();
    let mut moved = still.clone();
    moved.views.iter_mut().for_each(|view| view.t -= view.r * offset);
    moved.write_mvsnet(root, &format!("{} {} {PLANES} {}", RANGE.0, (RANGE.1 - RANGE.0) / 15.0, RANGE.1));
    for view in &still.views {
        render(view).save(root.join("images").join(&view.file)).unwrap();
    }
}

/// Gives the photos of a written scene an alpha of 0 where their pixels show such a point. Returns each view's alpha.
pub fn make_transparent(root: &Path, is_transparent: impl Fn(DVec3) -> bool) -> Vec<image::GrayImage> {
    let of_view = |view: &TestView| {
        let path = root.join("images").join(&view.file);
        let centre = -(view.r.transpose() * view.t);
        let alpha = image::GrayImage::from_fn(SIZE.0, SIZE.1, |x, y| {
            let (x, y) = (f64::from(x), f64::from(y));
            let ray = view.r.transpose() * (view.k.inverse() * DVec3::new(x, y, 1.0));
            image::Luma([if is_transparent(centre + ray * depth(view, x, y)) { 0 } else { 255 }])
        });
        let photo = image::open(&path).unwrap().into_rgb8();
        let with_alpha = image::RgbaImage::from_fn(SIZE.0, SIZE.1, |x, y| {
            let [r, g, b] = photo.get_pixel(x, y).0;
            image::Rgba([r, g, b, alpha.get_pixel(x, y).0[0]])
        });
        with_alpha.save(&path).unwrap();
        alpha
    };
    scene().views.iter().map(of_view).collect()
}

/// Depth of the plane at a pixel.
pub fn depth(view: &TestView, x: f64, y: f64) -> f64 {
    let (normal, offset) = plane();
    let centre = -(view.r.transpose() * view.t);
    let ray = view.r.transpose() * (view.k.inverse() * DVec3::new(x, y, 1.0));
    (offset - normal.dot(centre)) / normal.dot(ray)
}

/// How far a point lies from the plane.
pub fn distance(point: [f64; 3]) -> f64 {
    let (normal, offset) = plane();
    (normal.dot(DVec3::from_array(point)) - offset).abs()
}

/// `normal . X = offset`.
fn plane() -> (DVec3, f64) {
    (DVec3::new(0.15, -0.1, 1.0).normalize(), 0.05)
}

/// 3 x 3 samples a pixel.
fn render(view: &TestView) -> image::RgbImage {
    let centre = -(view.r.transpose() * view.t);
    image::RgbImage::from_fn(SIZE.0, SIZE.1, |x, y| {
        let mut sum = DVec3::ZERO;
        for sample in 0..9 {
            let (u, v) = (
                f64::from(x) + f64::from(sample % 3) / 3.0 - 1.0 / 3.0,
                f64::from(y) + f64::from(sample / 3) / 3.0 - 1.0 / 3.0,
            );
            let ray = view.r.transpose() * (view.k.inverse() * DVec3::new(u, v, 1.0));
            let point = centre + ray * depth(view, u, v);
            sum += colour(point.x, point.y);
        }
        image::Rgb((sum / 9.0).to_array().map(|c| (c * 255.0).round() as u8))
    })
}

/// Value noise in four octaves, the finest of some three pixels.
fn colour(x: f64, y: f64) -> DVec3 {
    let mut sum = DVec3::splat(0.5);
    for (octave, weight) in [(1.5, 0.25), (3.0, 0.3), (6.0, 0.3), (9.0, 0.25)] {
        sum += weight * (noise(x * octave, y * octave, octave as u64) - 0.5);
    }
    sum.clamp(DVec3::ZERO, DVec3::ONE)
}

fn noise(x: f64, y: f64, seed: u64) -> DVec3 {
    let (x0, y0) = (x.floor(), y.floor());
    let (fx, fy) = (x - x0, y - y0);
    let corner = |dx: f64, dy: f64| lattice((x0 + dx) as i64, (y0 + dy) as i64, seed);
    corner(0.0, 0.0).lerp(corner(1.0, 0.0), fx).lerp(corner(0.0, 1.0).lerp(corner(1.0, 1.0), fx), fy)
}

/// Three values in 0..1 that only depend on the place.
fn lattice(x: i64, y: i64, seed: u64) -> DVec3 {
    let state = (x as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (y as u64).wrapping_mul(0xc2b2_ae3d_27d4_eb4f) ^ seed;
    let mut random = Random::from_state(state);
    DVec3::new(random.unit(), random.unit(), random.unit())
}
