//! Geometric consistency between depth maps (SPEC "Multi-metric depth pyramid" 2; protocol page E.7).
//!
//! A pixel of the reference view with its depth is projected to a source view, the source's depth is sampled there
//! and projected back: the source agrees where the pixel moved by less than one pixel and the depth changed by less
//! than one percent. Everything is f64; only the maps themselves are f32.

use glam::{DMat3, DVec3};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::camera::Camera;
use crate::map::Map;

/// A view's depth and confidence with the camera at the maps' own resolution. Other views' maps may have other
/// sizes.
#[derive(Clone, Copy, Debug)]
pub struct DepthView<'a> {
    /// The camera whose pixels are the maps' pixels.
    pub camera: Camera,
    /// Depth (z in the camera's frame); zero, negative, NaN or infinite where there is none.
    pub depth: &'a Map,
    /// Confidence 0..1, the same size.
    pub confidence: &'a Map,
}

/// When a source view agrees, and how many must.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    /// A source agrees only where the pixel comes back less than this far away, in pixels of the map.
    pub max_reprojection_px: f64,
    /// A source agrees only where the depth comes back changed by less than this share.
    pub max_depth_error_rel: f64,
    /// Number of source views that must agree; all of them where a view has fewer.
    pub min_views: usize,
}

impl Default for Thresholds {
    /// 1 px, 1 %, 3 source views.
    fn default() -> Self {
        Self { max_reprojection_px: 1.0, max_depth_error_rel: 0.01, min_views: 3 }
    }
}

impl Thresholds {
    /// How many of a view's `sources` must agree: `min_views`, or all where there are fewer; `None` for a view
    /// without sources, whose depth nothing can confirm.
    pub fn required(&self, sources: usize) -> Option<usize> {
        (sources > 0).then(|| self.min_views.min(sources))
    }
}

/// What the source views say about a reference view's depth map.
#[derive(Clone, Debug, PartialEq)]
pub struct Agreement {
    /// [height, width]: the number of source views that agree; 255 stands for more.
    pub count: Vec<u8>,
    /// Mean of the pixel's own depth and the agreeing sources' reprojected ones; 0 where the pixel has no depth or
    /// was not examined.
    pub depth: Map,
}

/// Compares every pixel of `reference` with the `sources`.
///
/// The source's depth is sampled bilinearly. Where the sample falls outside the source map, or one of the up to four
/// neighbours with a non-zero weight has no depth, the source does not agree: a mixture with "none" is no depth.
///
/// # Panics
/// Where a view's depth and confidence differ in size; callers check that with a message that names the view.
pub fn agreement(reference: &DepthView, sources: &[&DepthView], thresholds: &Thresholds) -> Agreement {
    agreement_above(reference, sources, thresholds, f64::NEG_INFINITY)
}

/// As [`agreement`], for the pixels with a confidence above `min_confidence` only: the others get a count and a
/// depth of 0 without the work.
///
/// # Panics
/// As [`agreement`].
pub fn agreement_above(
    reference: &DepthView,
    sources: &[&DepthView],
    thresholds: &Thresholds,
    min_confidence: f64,
) -> Agreement {
    let Map { width, height, .. } = *reference.depth;
    for view in sources.iter().copied().chain([reference]) {
        let [depth, confidence] = [view.depth, view.confidence].map(|m| (m.width, m.height, m.data.len()));
        assert_eq!(depth, confidence, "depth and confidence of one view differ in size");
    }
    let mut result = Agreement { count: vec![0; width * height], depth: Map::filled(width, height, 0.0) };
    if width == 0 || height == 0 {
        return result;
    }
    let pairs: Vec<Pair> = sources.iter().map(|source| Pair::new(&reference.camera, source)).collect();
    // Compared as the maps' own type, so that a stored 0.8 is not above 0.8.
    let min_confidence = min_confidence as f32;
    let max_shift_squared = thresholds.max_reprojection_px * thresholds.max_reprojection_px;
    // Row by row, and in a row source by source: the transform stays in registers and the source's rows in cache.
    // Every pixel's sum is taken in the order of the sources, so the result does not depend on the threads.
    let rows = result.count.par_chunks_mut(width).zip(result.depth.data.par_chunks_mut(width)).enumerate();
    rows.for_each_init(
        || vec![(0.0, 0u32); width],
        |sums, (y, (count, mean))| {
            let own = &reference.depth.data[y * width..(y + 1) * width];
            let confidence = &reference.confidence.data[y * width..(y + 1) * width];
            for ((sum, &depth), &confidence) in sums.iter_mut().zip(own).zip(confidence) {
                // A pixel that is not examined is one without depth; NaN confidence is never above anything.
                let examined = confidence > min_confidence || min_confidence == f32::NEG_INFINITY;
                *sum = (if examined && is_depth(depth) { f64::from(depth) } else { 0.0 }, 0);
            }
            for pair in &pairs {
                let row_ray = pair.there.matrix * DVec3::new(0.0, y as f64, 1.0);
                for (x, (sum, &depth)) in sums.iter_mut().zip(own).enumerate() {
                    if sum.0 == 0.0 {
                        continue;
                    }
                    let depth = f64::from(depth);
                    let ray = row_ray + pair.there.matrix.x_axis * x as f64;
                    let Some(back) = pair.round_trip(ray, depth) else { continue };
                    let (dx, dy) = (back.x - x as f64, back.y - y as f64);
                    if dx * dx + dy * dy < max_shift_squared
                        && (back.z - depth).abs() / depth < thresholds.max_depth_error_rel
                    {
                        sum.0 += back.z;
                        sum.1 += 1;
                    }
                }
            }
            for ((count, mean), sum) in count.iter_mut().zip(mean).zip(sums) {
                *count = sum.1.min(255) as u8;
                *mean = (sum.0 / f64::from(sum.1 + 1)) as f32;
            }
        },
    );
    result
}

/// Whether a map's value is a depth at all.
#[inline]
pub fn is_depth(value: f32) -> bool {
    value > 0.0 && value < f32::INFINITY
}

/// From one camera's pixels with depth to another's homogeneous pixels: `q = depth * matrix * (u, v, 1) + shift`.
pub(crate) struct Transform {
    pub matrix: DMat3,
    pub shift: DVec3,
}

impl Transform {
    /// Computed once for a pair of views, so that no pixel needs an inverse.
    pub fn new(from: &Camera, to: &Camera) -> Self {
        let r = to.r * from.r.transpose();
        Self { matrix: to.k * r * from.k.inverse(), shift: to.k * (to.t - r * from.t) }
    }
}

/// A reference and a source view.
struct Pair<'a> {
    there: Transform,
    back: Transform,
    depth: &'a Map,
    /// The largest column and row of the source map, for the test that nearly every pixel makes.
    last: (f64, f64),
}

impl<'a> Pair<'a> {
    fn new(reference: &Camera, source: &DepthView<'a>) -> Self {
        let depth = source.depth;
        Self {
            there: Transform::new(reference, &source.camera),
            back: Transform::new(&source.camera, reference),
            depth,
            // An empty map has no last pixel: -1 lets no position in.
            last: (depth.width as f64 - 1.0, depth.height as f64 - 1.0),
        }
    }

    /// Where the pixel with this ray comes back in the reference view: column, row and depth there. `None` behind
    /// a camera, outside the source map, or where that has no depth.
    #[inline(always)]
    fn round_trip(&self, ray: DVec3, depth: f64) -> Option<DVec3> {
        let q = ray * depth + self.there.shift;
        if q.z <= 1e-6 {
            return None;
        }
        let (u, v) = (q.x / q.z, q.y / q.z);
        let source_depth = self.sample(u, v)?;
        let back = self.back.matrix * DVec3::new(u, v, 1.0) * source_depth + self.back.shift;
        (back.z > 1e-6).then(|| DVec3::new(back.x / back.z, back.y / back.z, back.z))
    }

    #[inline(always)]
    fn sample(&self, u: f64, v: f64) -> Option<f64> {
        if !(u >= 0.0 && v >= 0.0 && u <= self.last.0 && v <= self.last.1) {
            return None;
        }
        let (x, y) = (u as usize, v as usize);
        let (fx, fy) = (u - x as f64, v - y as f64);
        // A neighbour with weight zero is not looked at: its place is taken by the sample beside it.
        let (right, below) = (usize::from(fx > 0.0), if fy > 0.0 { self.depth.width } else { 0 });
        let at = y * self.depth.width + x;
        let [a, b, c, d] = [at, at + right, at + below, at + below + right].map(|i| self.depth.data[i]);
        if !(is_depth(a) && is_depth(b) && is_depth(c) && is_depth(d)) {
            return None;
        }
        let [a, b, c, d] = [a, b, c, d].map(f64::from);
        let top = a + (b - a) * fx;
        let bottom = c + (d - c) * fx;
        Some(top + (bottom - top) * fy)
    }
}
