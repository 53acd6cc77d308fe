//! What several methods share: which pixels can be used at all, the pixels that a filter has kept and the points that
//! they become.

use glam::{DMat3, DVec3};
use rayon::prelude::*;

use super::funnel::Funnel;
use super::view::{Fused, FusionView};
use crate::files::map::Map;
use crate::files::ply::Point;
use crate::maps::consistency::{Agreement, is_depth};
use crate::maps::normals;
use crate::scene::camera::{Camera, DepthRange};

/// What is left of a view's maps after a filter; [height, width].
#[derive(Default)]
pub struct Confirmed {
    /// Mean of the pixel's own and the agreeing depths; 0 where the pixel was not kept.
    depth: Vec<f32>,
    /// Number of agreeing source views.
    count: Vec<u8>,
    /// Whether a point of an earlier view has explained the pixel.
    explained: Vec<bool>,
}

/// Keeps the pixels in range and above the least confidence for which `is_kept`, told their index and their number of
/// agreeing source views, says so.
pub fn confirm(
    view: &FusionView,
    agreement: Agreement,
    min_confidence: f64,
    is_kept: impl Fn(usize, u8) -> bool,
) -> (Confirmed, Funnel) {
    let mut funnel = Funnel { pixels: view.depth.data.len(), ..Funnel::default() };
    let mut with_count = [0usize; 256];
    let mut mean = agreement.depth.data;
    let pixels = view.depth.data.iter().zip(&view.confidence.data).zip(&agreement.count).zip(&mut mean);
    for (at, (((&depth, &confidence), &count), mean)) in pixels.enumerate() {
        let kept = enters(&mut funnel, depth, confidence, view.range, min_confidence) && {
            with_count[usize::from(count)] += 1;
            is_kept(at, count)
        };
        funnel.kept += usize::from(kept);
        if !kept {
            *mean = 0.0;
        }
    }
    let at_least = |n: usize| with_count[n.min(255)..].iter().sum();
    funnel.agreed = (1..=view.sources.len()).map(at_least).collect();
    let explained = vec![false; mean.len()];
    (Confirmed { depth: mean, count: agreement.count, explained }, funnel)
}

/// The view's depths in range and above the least confidence, 0 elsewhere; the funnel counts them.
pub fn usable(view: &FusionView, min_confidence: f64) -> (Map, Funnel) {
    let mut funnel = Funnel { pixels: view.depth.data.len(), agreed: vec![0; view.sources.len()], ..Funnel::default() };
    let mut depth = view.depth.clone();
    for (depth, &confidence) in depth.data.iter_mut().zip(&view.confidence.data) {
        if !enters(&mut funnel, *depth, confidence, view.range, min_confidence) {
            *depth = 0.0;
        }
    }
    (depth, funnel)
}

/// Whether a pixel is in range and above the least confidence. Counts it.
fn enters(funnel: &mut Funnel, depth: f32, confidence: f32, range: DepthRange, min_confidence: f64) -> bool {
    let Some(end) = range_end(depth, range) else { return false };
    funnel.in_range += 1;
    funnel.near_end += usize::from(end == End::Near);
    funnel.far_end += usize::from(end == End::Far);
    let confident = confidence > min_confidence as f32;
    funnel.confident += usize::from(confident);
    confident
}

/// Where in its range a depth lies.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Near,
    Inside,
    Far,
}

/// `None` outside the range. Depth maps are f32: near and far themselves are inside however they were rounded.
fn range_end(depth: f32, range: DepthRange) -> Option<End> {
    let DepthRange { near, far } = range;
    let d = f64::from(depth);
    if !is_depth(depth) || d < near * (1.0 - 1e-6) || d > far * (1.0 + 1e-6) {
        return None;
    }
    // How planes were spaced is not known here: the end is where both spacings have their last 2 %.
    let (span, inverse_span) = (0.02 * (far - near), 0.02 * (1.0 / near - 1.0 / far));
    Some(if d - near < span && 1.0 / near - 1.0 / d < inverse_span {
        End::Near
    } else if far - d < span && 1.0 / d - 1.0 / far < inverse_span {
        End::Far
    } else {
        End::Inside
    })
}

/// The cloud of all kept pixels, view by view and row by row. Where a share is given, a point takes the pixels of later
/// views that it explains out of the running: those on which it falls, with a depth that differs by less than that.
pub fn emit_in_order(views: &[FusionView], confirmed: Vec<(Confirmed, Funnel)>, explained: Option<f64>) -> Fused {
    let (mut confirmed, mut funnels): (Vec<_>, Vec<_>) = confirmed.into_iter().unzip();
    let mut points = Vec::new();
    for (at, view) in views.iter().enumerate() {
        let (done, later) = confirmed.split_at_mut(at + 1);
        let own = std::mem::take(&mut done[at]);
        let emitted = emit(view, &own);
        funnels[at].fused = emitted.len();
        funnels[at].duplicates = funnels[at].kept - emitted.len();
        if let Some(max_depth_error_rel) = explained {
            let positions: Vec<DVec3> = emitted.iter().map(|(position, _)| *position).collect();
            let blocks: Vec<Block> = positions.chunks(1024).map(Block::new).collect();
            later.par_iter_mut().zip(&views[at + 1..]).for_each(|(confirmed, view)| {
                explain_away(view, confirmed, &blocks, max_depth_error_rel);
            });
        }
        points.extend(emitted.into_iter().map(|(_, point)| point));
    }
    Fused { points, funnels }
}

/// The points of a view's kept pixels that no earlier view has explained, row by row, with their exact positions.
fn emit(view: &FusionView, confirmed: &Confirmed) -> Vec<(DVec3, Point)> {
    let width = view.depth.width;
    // Of the view's own map: it is complete, while the means have holes and change with every view that agrees.
    let normals = normals::from_depth(&view.camera, &view.depth);
    let world_from_pixel: DMat3 = view.camera.r.transpose() * view.camera.k.inverse();
    let centre = view.camera.centre();
    let point = |i: usize| {
        let ray = world_from_pixel * DVec3::new((i % width) as f64, (i / width) as f64, 1.0);
        let position = centre + ray * f64::from(confirmed.depth[i]);
        let point = Point {
            position: position.as_vec3().to_array(),
            normal: normals[i],
            colour: view.colour[i],
            confidence: view.confidence.data[i],
            views: confirmed.count[i].saturating_add(1),
        };
        (position, point)
    };
    let emitted = |i: &usize| confirmed.depth[*i] > 0.0 && !confirmed.explained[*i];
    let row = |y: usize| -> Vec<_> { (y * width..(y + 1) * width).filter(emitted).map(point).collect() };
    let rows: Vec<_> = (0..view.depth.height).into_par_iter().map(row).collect();
    rows.concat()
}

/// Neighbouring points with the box around them, so that a view that sees none of them need not look at each.
struct Block<'a> {
    points: &'a [DVec3],
    corners: [DVec3; 8],
}

impl<'a> Block<'a> {
    fn new(points: &'a [DVec3]) -> Self {
        let low = points.iter().copied().reduce(DVec3::min).unwrap_or_default();
        let high = points.iter().copied().reduce(DVec3::max).unwrap_or_default();
        let corner = |i: usize| DVec3::select(glam::BVec3::new(i & 1 != 0, i & 2 != 0, i & 4 != 0), high, low);
        Self { points, corners: std::array::from_fn(corner) }
    }

    /// False only where no point of the box can fall on a pixel: all corners, and so everything between them, are
    /// beyond the same side of the view's frustum (each side is a linear inequality on the homogeneous pixel).
    fn may_be_seen(&self, camera: &Camera, width: usize, height: usize) -> bool {
        let (width, height) = (width as f64, height as f64);
        let q = self.corners.map(|corner| camera.project(corner));
        let all = |outside: &dyn Fn(&DVec3) -> bool| q.iter().all(outside);
        !(all(&|q| q.z <= 1e-6)
            || all(&|q| q.x < -0.5 * q.z)
            || all(&|q| q.y < -0.5 * q.z)
            || all(&|q| q.x > (width - 0.5) * q.z)
            || all(&|q| q.y > (height - 0.5) * q.z))
    }
}

/// Marks the kept pixels of a view that points explain: they fall within the pixel, at its depth.
fn explain_away(view: &FusionView, confirmed: &mut Confirmed, blocks: &[Block], max_depth_error_rel: f64) {
    let Map { width, height, .. } = view.depth;
    let matrix = view.camera.k * view.camera.r;
    let shift = view.camera.k * view.camera.t;
    for block in blocks {
        if !block.may_be_seen(&view.camera, width, height) {
            continue;
        }
        for &point in block.points {
            let q = matrix * point + shift;
            if q.z <= 1e-6 {
                continue;
            }
            let (x, y) = ((q.x / q.z + 0.5).floor(), (q.y / q.z + 0.5).floor());
            if x >= 0.0 && y >= 0.0 && x < width as f64 && y < height as f64 {
                let at = y as usize * width + x as usize;
                let own = f64::from(confirmed.depth[at]);
                // Without a kept depth there, `own` is 0 and nothing is smaller.
                if (q.z - own).abs() < max_depth_error_rel * own {
                    confirmed.explained[at] = true;
                }
            }
        }
    }
}
