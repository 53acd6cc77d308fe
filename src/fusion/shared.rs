//! What several methods share: which pixels can be used at all, the pixels that a filter has kept and the points that
//! they become.

use std::ops::Range;

use glam::{DMat3, DVec3};
use rayon::prelude::*;

use super::block::Candidate;
use super::cloud::{Cloud, bands, is_marked};
use super::funnel::Funnel;
use super::guard::Judge;
use super::store::{Depth, Own, Store};
use super::view::{End, FusionView, ViewFacts, range_end};
use crate::Result;
use crate::files::map::Map;
use crate::files::ply::Point;
use crate::host::interrupt;
use crate::maps::consistency::{Agreement, DepthView, SourceView};
use crate::maps::normals;
use crate::scene::camera::{Camera, DepthRange};

/// What is left of a view's maps after a filter; [height, width].
#[derive(Default)]
pub struct Confirmed {
    /// Mean of the pixel's own and the agreeing depths; 0 where the pixel was not kept.
    pub depth: Vec<f32>,
    /// Number of agreeing source views.
    pub count: Vec<u8>,
}

/// A view whose turn it is, with its maps.
pub struct Turn<'a> {
    /// What is known without them.
    pub facts: &'a ViewFacts,
    /// Its depths.
    pub depth: Depth<'a>,
    /// Its confidences and colours.
    pub own: Own<'a>,
}

impl<'a> Turn<'a> {
    /// Of a view, with its maps.
    ///
    /// # Errors
    /// Maps that cannot be read back.
    pub fn new(store: &'a dyn Store, view: usize) -> Result<Self> {
        Ok(Self { facts: &store.facts()[view], depth: store.depth(view, view)?, own: store.own(view)? })
    }

    /// As the consistency check takes it.
    pub fn depth_view(&self) -> DepthView<'_> {
        DepthView { camera: self.facts.camera, depth: &self.depth, confidence: &self.own.confidence }
    }

    /// Keeps the pixels in range and above the least confidence for which `is_kept`, told their index and their number
    /// of agreeing source views, says so.
    pub fn confirm(
        &self,
        agreement: Agreement,
        min_confidence: f64,
        is_kept: impl Fn(usize, u8) -> bool + Sync,
    ) -> (Confirmed, Funnel) {
        /// Pixels that a thread takes at a time.
        const SOME: usize = 1 << 15;
        let Agreement { count, depth: Map { data: mut mean, .. } } = agreement;
        let range = self.facts.range;
        let of_some = |(part, mean): (usize, &mut [f32])| {
            let mut funnel = Funnel::default();
            let mut with_count = [0usize; 256];
            for (at, mean) in (part * SOME..).zip(mean) {
                let (depth, confidence) = (self.depth.data[at], self.own.confidence.data[at]);
                let kept = enters(&mut funnel, depth, confidence, range, min_confidence) && {
                    with_count[usize::from(count[at])] += 1;
                    is_kept(at, count[at])
                };
                funnel.kept += usize::from(kept);
                if !kept {
                    *mean = 0.0;
                }
            }
            (funnel, with_count)
        };
        let parts: Vec<(Funnel, [usize; 256])> = mean.par_chunks_mut(SOME).enumerate().map(of_some).collect();
        let mut funnel = Funnel::sum(parts.iter().map(|(funnel, _)| funnel));
        let at_least = |n: usize| parts.iter().map(|(_, with)| with[n.min(255)..].iter().sum::<usize>()).sum();
        funnel.agreed = (1..=self.facts.sources.len()).map(at_least).collect();
        funnel.pixels = mean.len();
        (Confirmed { depth: mean, count }, funnel)
    }
}

/// The depths of a view's sources, for its own turn.
///
/// # Errors
/// Maps that cannot be read back.
pub fn sources_of(store: &dyn Store, view: usize) -> Result<Vec<Depth<'_>>> {
    store.facts()[view].sources.par_iter().map(|&source| store.depth(source, view)).collect()
}

/// As the consistency check takes them.
pub fn source_views<'a>(store: &dyn Store, view: usize, depths: &'a [Depth]) -> Vec<SourceView<'a>> {
    let facts = store.facts();
    let source = |(&source, depth): (&usize, &'a Depth)| SourceView { camera: facts[source].camera, depth };
    facts[view].sources.iter().zip(depths).map(source).collect()
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
pub fn enters(funnel: &mut Funnel, depth: f32, confidence: f32, range: DepthRange, min_confidence: f64) -> bool {
    let Some(end) = range_end(depth, range) else { return false };
    funnel.in_range += 1;
    funnel.near_end += usize::from(end == End::Near);
    funnel.far_end += usize::from(end == End::Far);
    let confident = confidence > min_confidence as f32;
    funnel.confident += usize::from(confident);
    confident
}

/// Makes the cloud of all kept pixels, view by view and row by row, without those that the judge drops. `confirm` says
/// which pixels of a view are kept. Where a share is given, a point takes the pixels of later views that it explains
/// out of the running: those on which it falls, with a depth that differs by less than that.
///
/// # Errors
/// Maps that cannot be read back; those of the cloud; [`crate::Error::Interrupted`].
pub fn emit_in_order(
    store: &dyn Store,
    confirm: impl Fn(usize, &Turn) -> Result<(Confirmed, Funnel)> + Sync,
    explained: Option<f64>,
    judge: Option<&Judge>,
    cloud: &mut Cloud,
) -> Result<Vec<Funnel>> {
    let pace = store.pace();
    let views: Vec<usize> = (0..store.facts().len()).collect();
    let mut funnels = Vec::with_capacity(views.len());
    for some in views.chunks(pace.views.max(1)) {
        interrupt::check()?;
        // No view waits for another with this.
        let confirmed = some.par_iter().map(|&at| {
            let turn = Turn::new(store, at)?;
            let (confirmed, mut funnel) = confirm(at, &turn)?;
            funnel.in_range += store.specks(at);
            funnel.specks = store.specks(at);
            Ok((turn, confirmed, funnel))
        });
        let confirmed: Vec<Result<_>> = confirmed.collect();
        for (&at, confirmed) in some.iter().zip(confirmed) {
            interrupt::check()?;
            let (turn, confirmed, mut funnel) = confirmed?;
            let marks = match explained {
                Some(max_depth_error_rel) => cloud.explained(turn.facts, &confirmed.depth, max_depth_error_rel)?,
                None => Vec::new(),
            };
            let maps = (&*turn.depth, &*turn.own.confidence, &*turn.own.colour);
            let mut left = 0;
            for rows in bands(&turn.depth, pace.pixels) {
                let mut emitted = emit(turn.facts, maps, &confirmed, |pixel| is_marked(&marks, pixel), rows);
                left += emitted.len();
                if let Some(judge) = judge {
                    (emitted, _) = judge.hear(at, emitted, &mut funnel)?;
                }
                funnel.fused += emitted.len();
                cloud.append(emitted.into_iter().map(|candidate| candidate.point).collect())?;
            }
            funnel.duplicates = funnel.kept - left;
            cloud.end_view();
            funnels.push(funnel);
        }
    }
    interrupt::check()?;
    Ok(funnels)
}

/// Where a view's pixels look.
pub struct Rays {
    /// Homogeneous pixel to direction, of depth 1.
    pub world_from_pixel: DMat3,
    /// Where the camera stands.
    pub centre: DVec3,
}

impl Rays {
    /// Of a camera.
    pub fn new(camera: &Camera) -> Self {
        Self { world_from_pixel: camera.r.transpose() * camera.k.inverse(), centre: camera.centre() }
    }

    /// The direction of a pixel, of depth 1.
    pub fn ray(&self, (x, y): (usize, usize)) -> DVec3 {
        self.world_from_pixel * DVec3::new(x as f64, y as f64, 1.0)
    }

    /// The point that a pixel of this depth shows.
    pub fn point(&self, pixel: (usize, usize), depth: f32) -> DVec3 {
        self.centre + self.ray(pixel) * f64::from(depth)
    }
}

/// The points of a view's kept pixels in some rows that no earlier view has explained, row by row. `maps` are its
/// depths, confidences and colours.
pub fn emit(
    view: &ViewFacts,
    (depth, confidence, colour): (&Map, &Map, &[[u8; 3]]),
    confirmed: &Confirmed,
    is_explained: impl Fn(usize) -> bool + Sync,
    rows: Range<usize>,
) -> Vec<Candidate> {
    let width = depth.width;
    let rays = Rays::new(&view.camera);
    let world_from_image = normals::world_from_image(&view.camera);
    let candidate = |pixel: usize| {
        let (x, y) = (pixel % width, pixel / width);
        let position = rays.point((x, y), confirmed.depth[pixel]);
        let point = Point {
            position: position.to_array(),
            // Of the view's own map: it is complete, while the means have holes and change with every view that agrees.
            normal: normals::at(depth, x, y, &world_from_image),
            colour: colour[pixel],
            confidence: confidence.data[pixel],
            views: confirmed.count[pixel].saturating_add(1),
        };
        Candidate { pixel, point }
    };
    let emitted = |i: &usize| confirmed.depth[*i] > 0.0 && !is_explained(*i);
    let row = |y: usize| -> Vec<_> { (y * width..(y + 1) * width).filter(emitted).map(candidate).collect() };
    rows.into_par_iter().flat_map_iter(row).collect()
}
