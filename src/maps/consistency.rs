//! Geometric consistency between depth maps (SPEC "Multi-metric depth pyramid" 2; protocol page E.7).
//!
//! A pixel of the reference view with its depth is projected to a source view, the source's depth is sampled there
//! and projected back: the source agrees where the pixel moved by less than one pixel and the depth changed by less
//! than one percent. Everything is f64; only the maps themselves are f32.

use glam::{DMat3, DVec3};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::files::map::Map;
use crate::host::interrupt;
use crate::scene::camera::Camera;

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

/// What confirms others of a view: its confidence plays no part in it.
#[derive(Clone, Copy, Debug)]
pub struct SourceView<'a> {
    /// As in [`DepthView`].
    pub camera: Camera,
    /// As in [`DepthView`].
    pub depth: &'a Map,
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

/// When a pixel is kept under *dynamic* thresholds (D2HC-RMVSNet; protocol page E.10): some number i of source views
/// from `min_views` to `max_views` must agree, each within i steps. Few views must agree closely, many may agree
/// loosely.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DynamicThresholds {
    /// i views must bring the pixel back less than i times this far away, in pixels of the map.
    pub reprojection_step_px: f64,
    /// i views must bring the depth back changed by less than i times this share.
    pub depth_error_step_rel: f64,
    /// The least i.
    pub min_views: usize,
    /// The greatest i, at most [`Self::MOST_VIEWS`]; its tolerance is also the one under which depths are averaged.
    pub max_views: usize,
}

impl DynamicThresholds {
    /// The most views that can be asked for.
    pub const MOST_VIEWS: usize = 16;
}

impl Default for DynamicThresholds {
    /// Steps of 1/4 px and 1/1300; 2 to 10 views.
    fn default() -> Self {
        Self { reprojection_step_px: 0.25, depth_error_step_rel: 1.0 / 1300.0, min_views: 2, max_views: 10 }
    }
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
    agreement_with(reference, &depths_of(sources), thresholds, min_confidence)
}

/// As [`agreement_above`], with no more of the sources than it looks at.
///
/// # Panics
/// Where the reference's depth and confidence differ in size.
pub fn agreement_with(
    reference: &DepthView,
    sources: &[SourceView],
    thresholds: &Thresholds,
    min_confidence: f64,
) -> Agreement {
    let max_shift_squared = thresholds.max_reprojection_px * thresholds.max_reprojection_px;
    let take = |(sum, count): &mut (f64, u32), back: Returned| {
        if back.shift_squared < max_shift_squared && back.depth_error_rel < thresholds.max_depth_error_rel {
            *sum += back.depth;
            *count += 1;
        }
    };
    let of_pixel = |_: f64, (sum, count): (f64, u32)| (count.min(255) as u8, (sum / f64::from(count + 1)) as f32);
    let (count, depth) =
        compare(reference, sources, min_confidence, |own| (own, 0), take, of_pixel).into_iter().unzip();
    Agreement { count, depth: Map { data: depth, ..*reference.depth } }
}

/// As [`agreement_above`], under dynamic thresholds: counts and depths are those of the loosest tolerance. The second
/// result says for each pixel whether it is kept.
///
/// # Panics
/// As [`agreement`].
pub fn dynamic_agreement_above(
    reference: &DepthView,
    sources: &[&DepthView],
    thresholds: &DynamicThresholds,
    min_confidence: f64,
) -> (Agreement, Vec<bool>) {
    dynamic_agreement_with(reference, &depths_of(sources), thresholds, min_confidence)
}

/// As [`dynamic_agreement_above`], with no more of the sources than it looks at.
///
/// # Panics
/// As [`agreement_with`].
pub fn dynamic_agreement_with(
    reference: &DepthView,
    sources: &[SourceView],
    thresholds: &DynamicThresholds,
    min_confidence: f64,
) -> (Agreement, Vec<bool>) {
    let DynamicThresholds { reprojection_step_px, depth_error_step_rel, min_views, max_views } = *thresholds;
    let max_views = max_views.min(DynamicThresholds::MOST_VIEWS);
    let limits: Vec<(f64, f64)> = (0..=max_views)
        .map(|i| (i as f64 * reprojection_step_px, i as f64 * depth_error_step_rel))
        .map(|(px, rel)| (px * px, rel))
        .collect();
    #[derive(Clone, Copy)]
    struct Tally {
        /// Of the pixel's own and the agreeing depths.
        sum: f64,
        /// `first[i]`: sources that agree within i steps, but not within i - 1.
        first: [u32; DynamicThresholds::MOST_VIEWS + 1],
    }
    let start = |own: f64| Tally { sum: own, first: [0; DynamicThresholds::MOST_VIEWS + 1] };
    let take = |tally: &mut Tally, back: Returned| {
        let agrees = |i: &usize| back.shift_squared < limits[*i].0 && back.depth_error_rel < limits[*i].1;
        if let Some(i) = (1..=max_views).find(agrees) {
            tally.sum += back.depth;
            tally.first[i] += 1;
        }
    };
    let most = max_views.min(sources.len());
    let of_pixel = |own: f64, tally: Tally| {
        let within = |i: usize| tally.first[..=i].iter().sum::<u32>();
        let kept = own > 0.0 && (min_views..=most).any(|i| within(i) as usize >= i);
        let count = within(max_views);
        (count.min(255) as u8, (tally.sum / f64::from(count + 1)) as f32, kept)
    };
    let (mut count, mut depth, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    for (c, d, k) in compare(reference, sources, min_confidence, start, take, of_pixel) {
        count.push(c);
        depth.push(d);
        kept.push(k);
    }
    (Agreement { count, depth: Map { data: depth, ..*reference.depth } }, kept)
}

fn depths_of<'a>(sources: &[&DepthView<'a>]) -> Vec<SourceView<'a>> {
    let of_view = |view: &&DepthView<'a>| {
        expect_one_size(view);
        SourceView { camera: view.camera, depth: view.depth }
    };
    sources.iter().map(of_view).collect()
}

fn expect_one_size(view: &DepthView) {
    let [depth, confidence] = [view.depth, view.confidence].map(|m| (m.width, m.height, m.data.len()));
    assert_eq!(depth, confidence, "depth and confidence of one view differ in size");
}

/// A pixel that was sent to a source view and back with the depth found there.
struct Returned {
    /// Squared distance from where it started, in pixels.
    shift_squared: f64,
    /// Change of its depth as a share of it.
    depth_error_rel: f64,
    /// Its depth now.
    depth: f64,
}

/// Sends every examined pixel to every source and back. What is gathered for a pixel begins as `start` of its own
/// depth (0 where it is not examined), `take` is told each return, in the order of the sources, and `of_pixel` makes
/// the result of the own depth and what was gathered.
fn compare<T, R>(
    reference: &DepthView,
    sources: &[SourceView],
    min_confidence: f64,
    start: impl Fn(f64) -> T + Sync,
    take: impl Fn(&mut T, Returned) + Sync,
    of_pixel: impl Fn(f64, T) -> R + Sync,
) -> Vec<R>
where
    T: Copy + Send,
    R: Copy + Default + Send,
{
    let Map { width, height, .. } = *reference.depth;
    expect_one_size(reference);
    let mut result = vec![R::default(); width * height];
    if width == 0 || height == 0 {
        return result;
    }
    let pairs: Vec<Pair> = sources.iter().map(|source| Pair::new(&reference.camera, source)).collect();
    // Compared as the maps' own type, so that a stored 0.8 is not above 0.8.
    let min_confidence = min_confidence as f32;
    // Row by row, and in a row source by source: the transform stays in registers and the source's rows in cache.
    // Every pixel's returns are taken in the order of the sources, so the result does not depend on the threads.
    result.par_chunks_mut(width).enumerate().for_each_init(
        || vec![(0.0, start(0.0)); width],
        |pixels, (y, result)| {
            if interrupt::is_asked_to_stop() {
                return;
            }
            let own = &reference.depth.data[y * width..(y + 1) * width];
            let confidence = &reference.confidence.data[y * width..(y + 1) * width];
            for ((pixel, &depth), &confidence) in pixels.iter_mut().zip(own).zip(confidence) {
                // A pixel that is not examined is one without depth; NaN confidence is never above anything.
                let examined = confidence > min_confidence || min_confidence == f32::NEG_INFINITY;
                let own = if examined && is_depth(depth) { f64::from(depth) } else { 0.0 };
                *pixel = (own, start(own));
            }
            for pair in &pairs {
                let row_ray = pair.there.matrix * DVec3::new(0.0, y as f64, 1.0);
                for (x, (depth, gathered)) in pixels.iter_mut().enumerate() {
                    let depth = *depth;
                    if depth == 0.0 {
                        continue;
                    }
                    let ray = row_ray + pair.there.matrix.x_axis * x as f64;
                    let Some(back) = pair.round_trip(ray, depth) else { continue };
                    let (dx, dy) = (back.x - x as f64, back.y - y as f64);
                    let shift_squared = dx * dx + dy * dy;
                    let depth_error_rel = (back.z - depth).abs() / depth;
                    take(gathered, Returned { shift_squared, depth_error_rel, depth: back.z });
                }
            }
            for (result, &(own, gathered)) in result.iter_mut().zip(pixels.iter()) {
                *result = of_pixel(own, gathered);
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
    fn new(reference: &Camera, source: &SourceView<'a>) -> Self {
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
        let source_depth = sample(self.depth, self.last, u, v)?;
        let back = self.back.matrix * DVec3::new(u, v, 1.0) * source_depth + self.back.shift;
        (back.z > 1e-6).then(|| DVec3::new(back.x / back.z, back.y / back.z, back.z))
    }
}

/// Depth at a pixel position, bilinear; `None` outside the map and where one of the neighbours with a weight has no
/// depth.
pub fn depth_at(map: &Map, u: f64, v: f64) -> Option<f64> {
    sample(map, (map.width as f64 - 1.0, map.height as f64 - 1.0), u, v)
}

#[inline(always)]
fn sample(map: &Map, last: (f64, f64), u: f64, v: f64) -> Option<f64> {
    if !(u >= 0.0 && v >= 0.0 && u <= last.0 && v <= last.1) {
        return None;
    }
    let (x, y) = (u as usize, v as usize);
    let (fx, fy) = (u - x as f64, v - y as f64);
    // A neighbour with weight zero is not looked at: its place is taken by the sample beside it.
    let (right, below) = (usize::from(fx > 0.0), if fy > 0.0 { map.width } else { 0 });
    let at = y * map.width + x;
    let [a, b, c, d] = [at, at + right, at + below, at + below + right].map(|i| map.data[i]);
    if !(is_depth(a) && is_depth(b) && is_depth(c) && is_depth(d)) {
        return None;
    }
    let [a, b, c, d] = [a, b, c, d].map(f64::from);
    let top = a + (b - a) * fx;
    let bottom = c + (d - c) * fx;
    Some(top + (bottom - top) * fy)
}
