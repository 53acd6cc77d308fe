//! What several methods share: which pixels can be used at all, the pixels that a filter has kept and the points that
//! they become.

use glam::{DMat3, DVec3};
use rayon::prelude::*;

use super::block::{Block, Candidate, POINTS_OF_A_BLOCK};
use super::funnel::Funnel;
use super::guard::Judge;
use super::view::{End, Fused, FusionView, range_end};
use crate::files::map::Map;
use crate::files::ply::Point;
use crate::host::interrupt;
use crate::maps::consistency::Agreement;
use crate::maps::normals;
use crate::scene::camera::DepthRange;

/// What is left of a view's maps after a filter; [height, width].
#[derive(Default)]
pub struct Confirmed {
    /// Mean of the pixel's own and the agreeing depths; 0 where the pixel was not kept.
    pub depth: Vec<f32>,
    /// Number of agreeing source views.
    pub count: Vec<u8>,
    /// Whether a point of an earlier view has explained the pixel.
    pub explained: Vec<bool>,
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

/// The cloud of all kept pixels, view by view and row by row, without those that the judge drops. Where a share is
/// given, a point takes the pixels of later views that it explains out of the running: those on which it falls, with a
/// depth that differs by less than that.
pub fn emit_in_order(
    views: &[FusionView],
    confirmed: Vec<(Confirmed, Funnel)>,
    explained: Option<f64>,
    judge: Option<&Judge>,
) -> Fused {
    let (mut confirmed, mut funnels): (Vec<_>, Vec<_>) = confirmed.into_iter().unzip();
    let mut points = Vec::new();
    for (at, view) in views.iter().enumerate() {
        if interrupt::is_asked_to_stop() {
            break;
        }
        let (done, later) = confirmed.split_at_mut(at + 1);
        let own = std::mem::take(&mut done[at]);
        let mut emitted = emit(view, &own);
        funnels[at].duplicates = funnels[at].kept - emitted.len();
        if let Some(judge) = judge {
            (emitted, _) = judge.hear(at, emitted, &mut funnels[at]);
        }
        funnels[at].fused = emitted.len();
        if let Some(max_depth_error_rel) = explained {
            let positions = |some: &[Candidate]| some.iter().map(|candidate| candidate.point.position.into()).collect();
            let blocks: Vec<Block> =
                emitted.chunks(POINTS_OF_A_BLOCK).map(|some| Block::new(positions(some))).collect();
            later.par_iter_mut().zip(&views[at + 1..]).for_each(|(confirmed, view)| {
                explain_away(view, confirmed, &blocks, max_depth_error_rel);
            });
        }
        points.extend(emitted.into_iter().map(|candidate| candidate.point));
    }
    Fused { points, funnels }
}

/// The points of a view's kept pixels that no earlier view has explained, row by row.
pub fn emit(view: &FusionView, confirmed: &Confirmed) -> Vec<Candidate> {
    let width = view.depth.width;
    // Of the view's own map: it is complete, while the means have holes and change with every view that agrees.
    let normals = normals::from_depth(&view.camera, &view.depth);
    let world_from_pixel: DMat3 = view.camera.r.transpose() * view.camera.k.inverse();
    let centre = view.camera.centre();
    let candidate = |pixel: usize| {
        let ray = world_from_pixel * DVec3::new((pixel % width) as f64, (pixel / width) as f64, 1.0);
        let position = centre + ray * f64::from(confirmed.depth[pixel]);
        let point = Point {
            position: position.to_array(),
            normal: normals[pixel],
            colour: view.colour[pixel],
            confidence: view.confidence.data[pixel],
            views: confirmed.count[pixel].saturating_add(1),
        };
        Candidate { pixel, point }
    };
    let emitted = |i: &usize| confirmed.depth[*i] > 0.0 && !confirmed.explained[*i];
    let row = |y: usize| -> Vec<_> { (y * width..(y + 1) * width).filter(emitted).map(candidate).collect() };
    (0..view.depth.height).into_par_iter().flat_map_iter(row).collect()
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
        for &point in block.points() {
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
