//! Connected surfaces of a depth map, and a map without the small ones: specks that stand before or behind all that is
//! around them are seldom surfaces.

use crate::files::map::Map;
use crate::maps::consistency::is_depth;

/// Pixels that a segment of a map needs, where `in_a_million` are asked for in a map of a million pixels: in proportion
/// to the square root of the map's size.
///
/// The specks that a network makes have about as many pixels in a large map as in a small one, while things have their
/// share of it; the root lies between the two.
pub fn least_pixels(in_a_million: f64, pixels: usize) -> f64 {
    in_a_million * (pixels as f64 * 1e-6).sqrt()
}

/// Columns and rows from a pixel to those of its eight neighbours that come before it.
const BEFORE: [(isize, isize); 4] = [(-1, 0), (-1, -1), (0, -1), (1, -1)];

/// The segment of every pixel and how many pixels each segment has; `u32::MAX` for a pixel without depth.
///
/// Two neighbours, of a pixel's eight, belong to one segment if their depths differ by at most the share `tolerance`,
/// or if one continues the slope on the other side of the other: `1 / depth` is linear on a plane, so planes hold
/// together at any slant.
pub fn segments(depth: &Map, tolerance: f64) -> (Vec<u32>, Vec<u32>) {
    let inverse: Vec<f64> = depth.data.iter().map(|&d| if is_depth(d) { 1.0 / f64::from(d) } else { 0.0 }).collect();
    let (width, height) = (depth.width as isize, depth.height as isize);
    // Where a pixel's chain of parents ends is its segment's first pixel.
    let mut parent: Vec<u32> = (0..depth.data.len() as u32).collect();
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        // Inverse depth some steps away; 0 where there is none.
        let along = |(dx, dy): (isize, isize), steps: isize| {
            let (x, y) = (x + steps * dx, y + steps * dy);
            let inside = x >= 0 && x < width && y >= 0 && y < height;
            if inside { inverse[(y * width + x) as usize] } else { 0.0 }
        };
        for step in BEFORE {
            if is_one_surface([-1, 0, 1, 2].map(|steps| along(step, steps)), tolerance) {
                let (at, other) = (y * width + x, (y + step.1) * width + x + step.0);
                let [a, b] = [at, other].map(|at| first_of(&mut parent, at as usize));
                parent[a.max(b)] = a.min(b) as u32;
            }
        }
    }
    let mut sizes = Vec::new();
    let mut of_pixels = vec![u32::MAX; depth.data.len()];
    for at in (0..depth.data.len()).filter(|&at| inverse[at] > 0.0) {
        let first = first_of(&mut parent, at);
        // The first pixel of a segment comes before all others of it.
        if first == at {
            of_pixels[at] = sizes.len() as u32;
            sizes.push(0);
        }
        of_pixels[at] = of_pixels[first];
        sizes[of_pixels[first] as usize] += 1;
    }
    (of_pixels, sizes)
}

/// The first pixel of a pixel's segment as far as known; halves the way for the next time.
fn first_of(parent: &mut [u32], mut at: usize) -> usize {
    while parent[at] as usize != at {
        parent[at] = parent[parent[at] as usize];
        at = parent[at] as usize;
    }
    at
}

/// Whether the middle two of four inverse depths in a line, 0 where there is none, are on one surface.
fn is_one_surface([before, own, other, after]: [f64; 4], tolerance: f64) -> bool {
    if own == 0.0 || other == 0.0 {
        return false;
    }
    let continues =
        |beyond: f64, near: f64, far: f64| beyond > 0.0 && (far - (2.0 * near - beyond)).abs() <= tolerance * near;
    (own - other).abs() <= tolerance * own.max(other) || continues(before, own, other) || continues(after, other, own)
}

/// The map without its segments of fewer than `least` pixels ([`segments`]), where it has any.
pub fn without_small(depth: &Map, tolerance: f64, least: f64) -> Option<Map> {
    let (of_pixels, sizes) = segments(depth, tolerance);
    if sizes.iter().all(|&size| f64::from(size) >= least) {
        return None;
    }
    let mut left = depth.clone();
    for (value, segment) in left.data.iter_mut().zip(of_pixels) {
        if sizes.get(segment as usize).is_some_and(|&size| f64::from(size) < least) {
            *value = 0.0;
        }
    }
    Some(left)
}
