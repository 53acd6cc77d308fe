//! Surface normals from a depth map.

use glam::{DMat3, DVec3};
use rayon::prelude::*;

use crate::files::map::Map;
use crate::maps::consistency::is_depth;
use crate::scene::camera::Camera;

/// A surface continues from one side of a pixel to the other where the two one-sided differences of inverse depth
/// differ by less than this share of it. A smooth surface seen by a camera stays far below (a sphere of a tenth of
/// its distance: about 1e-4 at the resolution of usual maps); 0.25 % is a quarter of the change of depth at which
/// two views no longer agree.
const SMOOTH: f64 = 0.0025;

/// World-frame unit normals [height, width], towards the camera; zero where a pixel has no depth.
///
/// The inverse depth of a plane is an affine function of the pixel, so its differences give the normal of a plane
/// exactly: with gradient (a, b) and value w at (x, y), every point on the plane fulfils
/// `(a, b, w - a x - b y) K X_cam = 1`. Along each axis the difference is the mean of both sides where the surface is
/// smooth, else the smaller one (the other side is across a depth edge), and zero where neither neighbour has depth.
pub fn from_depth(camera: &Camera, depth: &Map) -> Vec<[f32; 3]> {
    let Map { width, height, .. } = *depth;
    let mut normals = vec![[0.0f32; 3]; width * height];
    let world_from_image = world_from_image(camera);
    normals.par_chunks_mut(width.max(1)).enumerate().for_each(|(y, row)| {
        for (x, normal) in row.iter_mut().enumerate() {
            *normal = at(depth, x, y, &world_from_image);
        }
    });
    normals
}

/// From planes in a camera's image to normals in the world: like (K R)^T, since a plane's gradient is a plane vector.
pub(crate) fn world_from_image(camera: &Camera) -> DMat3 {
    camera.r.transpose() * camera.k.transpose()
}

/// The normal of one pixel, as [`from_depth`] has it.
pub(crate) fn at(depth: &Map, x: usize, y: usize, world_from_image: &DMat3) -> [f32; 3] {
    of_pixel((depth.width, depth.height), (x, y), world_from_image, |x, y| depth.at(x, y))
}

/// As [`at`], of a map of this size whose depths `depth` tells: the pixel's own and its four neighbours' are asked for.
pub(crate) fn of_pixel(
    (width, height): (usize, usize),
    (x, y): (usize, usize),
    world_from_image: &DMat3,
    depth: impl Fn(usize, usize) -> f32,
) -> [f32; 3] {
    let inverse = |x: usize, y: usize| {
        let value = depth(x, y);
        is_depth(value).then(|| 1.0 / f64::from(value))
    };
    let Some(own) = inverse(x, y) else { return [0.0; 3] };
    let left = x.checked_sub(1).and_then(|x| inverse(x, y));
    let right = (x + 1 < width).then(|| inverse(x + 1, y)).flatten();
    let above = y.checked_sub(1).and_then(|y| inverse(x, y));
    let below = (y + 1 < height).then(|| inverse(x, y + 1)).flatten();
    let (a, b) = (slope(left, own, right), slope(above, own, below));
    let away = *world_from_image * DVec3::new(a, b, own - a * x as f64 - b * y as f64);
    // That vector's product with the pixel's ray is the inverse depth, positive: it points away from the camera.
    (-away.normalize_or_zero()).as_vec3().to_array()
}

fn slope(before: Option<f64>, own: f64, after: Option<f64>) -> f64 {
    match (before.map(|b| own - b), after.map(|a| a - own)) {
        (Some(b), Some(a)) if (b - a).abs() < SMOOTH * own => 0.5 * (a + b),
        (Some(b), Some(a)) => {
            if b.abs() <= a.abs() {
                b
            } else {
                a
            }
        }
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => 0.0,
    }
}
