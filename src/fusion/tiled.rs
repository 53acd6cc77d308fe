//! The points of one tile of space, exactly as they are in the whole cloud.
//!
//! Whether a pixel is explained hangs on the points of earlier views, whose pixels may be explained in turn, and so on.
//! Each step of that leads no further than [`Reach`], and most pixels are decided after one or two. So a tile is made
//! together with a halo around it, and for each pixel there it is kept whether its fate is sure: pixels at the rim of
//! the halo may be explained by points beyond, which are not looked at. A pixel is
//!
//! - explained for sure where a sure point falls on it;
//! - open where an unsure point falls on it, or a point from beyond the halo could;
//! - a sure point, or dropped for sure, elsewhere.
//!
//! Open pixels that the guard lets pass become unsure points. The tile's own open pixels are told: they must be asked
//! again, with a wider halo. In a halo without end no pixel is open. What is sure is what fusing all views at once
//! gives, whatever the tile and its halo are.
//!
//! A pixel belongs to the tile in which its point lies, as it will be in the cloud. Counts of pixels that have none yet
//! go by the depth of its map.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use glam::DVec3;
use rayon::prelude::*;

use super::block::Candidate;
use super::cloud::{Cloud, bands, is_marked};
use super::dynamic::{self, loosest};
use super::funnel::Funnel;
use super::guard::Judge;
use super::reprojection;
use super::settings::{Dynamic, FusionOptions, Method};
use super::shared::{Confirmed, Rays, Turn, emit, enters};
use super::spilled::Spilled;
use super::store::{Depth, Store};
use super::tile::{Reach, Tile};
use crate::files::map::Map;
use crate::files::ply::Point;
use crate::files::scratch::Scratch;
use crate::host::interrupt;
use crate::maps::consistency::is_depth;
use crate::{Error, Result};

/// A pixel of a view, by their places.
pub type Pixel = (u32, u32);

/// What is to be made.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// Points in this tile.
    pub tile: Tile,
    /// The tile with its halo.
    pub around: Tile,
    /// Only of these pixels; `None`: of all.
    pub only: Option<&'a BTreeSet<Pixel>>,
    /// Views that may have points there, in order.
    pub views: &'a [usize],
}

/// A point with the pixel that it is of, by which the points of a cloud are ordered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TilePoint {
    /// View and pixel.
    pub of: Pixel,
    /// The point.
    pub point: Point,
}

/// What became of a tile's pixels.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Of the task's views; numbers of pixels and of specks are not in it.
    pub funnels: Vec<Funnel>,
    /// Pixels in the tile that the halo is too narrow for, and where they lie.
    pub open: Vec<(Pixel, DVec3)>,
}

/// The share by which the depth of a pixel that a point explains may differ; `None` where none are.
pub fn explained_share(options: &FusionOptions) -> Option<f64> {
    let (keep, share) = match &options.method {
        Method::Reprojection(constants) => (constants.keep_duplicates, constants.thresholds.max_depth_error_rel),
        Method::Dynamic(constants) => (constants.keep_duplicates, loosest(&constants.thresholds)),
        _ => (false, f64::INFINITY),
    };
    (!keep).then_some(share)
}

/// The share by which a pixel's depth may change when it is confirmed.
pub fn confirmed_share(options: &FusionOptions) -> f64 {
    match &options.method {
        Method::Reprojection(constants) => constants.thresholds.max_depth_error_rel,
        Method::Dynamic(constants) => loosest(&constants.thresholds),
        _ => f64::INFINITY,
    }
}

/// By how many pixels a pixel may move when it is confirmed.
pub fn confirmed_pixels(options: &FusionOptions) -> f64 {
    match &options.method {
        Method::Reprojection(constants) => constants.thresholds.max_reprojection_px,
        Method::Dynamic(Dynamic { thresholds, .. }) => thresholds.max_views as f64 * thresholds.reprojection_step_px,
        _ => f64::INFINITY,
    }
}

/// Makes the points of a tile, of views whose cameras see the same near the origin ([`Spilled::enter`]); they go to
/// `pass`, in the order of their pixels. What is needed of earlier points goes to scratch files beside the maps.
///
/// # Errors
/// Maps that cannot be read back; a full disk; those of `pass`; [`Error::Interrupted`].
pub fn fuse_tile(views: &Spilled, task: Task, pass: &mut dyn FnMut(Vec<TilePoint>) -> Result<()>) -> Result<Outcome> {
    let (store, options, folder) = (views as &dyn Store, views.options(), views.folder());
    let least = options.min_confidence;
    let (judge, confirm): (Option<Judge>, Box<Confirm>) = match &options.method {
        Method::Reprojection(constants) => (
            Judge::new(store, constants),
            Box::new(move |at, turn| reprojection::confirm(store, (at, turn), least, &constants.thresholds)),
        ),
        Method::Dynamic(constants) => {
            (None, Box::new(move |at, turn| dynamic::confirm(store, (at, turn), least, &constants.thresholds)))
        }
        method => return Err(Error::Bug { place: "fusion by tiles", problem: format!("method {}", method.name()) }),
    };
    let (mut to_sure, mut to_unsure) = (|_| Ok(()), |_| Ok(()));
    let (mut sure, mut unsure) =
        (Cloud::on(Some(Scratch::new(folder)?), &mut to_sure), Cloud::on(Some(Scratch::new(folder)?), &mut to_unsure));
    let mut outcome = Outcome::default();
    for &at in task.views {
        interrupt::check()?;
        let turn = Turn::new(store, at)?;
        let of_view = OfView { at, turn: &turn, task, rays: Rays::new(&turn.facts.camera), options };
        let confirmed = of_view.confirmed(&confirm)?;
        let mut funnel = of_view.counted(&confirmed);
        let share = explained_share(options);
        let marks = |cloud: &Cloud| match share {
            Some(share) => cloud.explained(turn.facts, &confirmed.depth, share),
            None => Ok(Vec::new()),
        };
        let (explained, doubted) = (marks(&sure)?, marks(&unsure)?);
        for rows in bands(&turn.depth, store.pace().pixels) {
            let maps = (&*turn.depth, &*turn.own.confidence, &*turn.own.colour);
            let mut found = emit(turn.facts, maps, &confirmed, |_| false, rows);
            let sorted = of_view.sorted(&mut found, (&explained, &doubted), &mut funnel);
            let hear = |found, funnel: &mut Funnel| match &judge {
                Some(judge) => judge.hear(at, found, funnel).map(|(found, _)| found),
                None => Ok(found),
            };
            outcome.open.extend(sorted.open.iter().map(|found| (of_view.pixel(found), position(found))));
            let own = hear(sorted.own, &mut funnel)?;
            // What becomes of these does not count here.
            let doubted = hear([sorted.open, sorted.open_beside].concat(), &mut Funnel::default())?;
            let beside = hear(sorted.beside, &mut Funnel::default())?;
            funnel.fused += own.len();
            sure.append(own.iter().chain(&beside).map(|found| found.point).collect())?;
            unsure.append(doubted.into_iter().map(|found| found.point).collect())?;
            pass(own.into_iter().map(|found| TilePoint { of: of_view.pixel(&found), point: found.point }).collect())?;
        }
        sure.end_view();
        unsure.end_view();
        outcome.funnels.push(funnel);
    }
    interrupt::check()?;
    Ok(outcome)
}

/// How the pixels of a view are confirmed.
type Confirm<'a> = dyn Fn(usize, &Turn) -> Result<(Confirmed, Funnel)> + 'a;

fn position(found: &Candidate) -> DVec3 {
    found.point.position.into()
}

/// A view's pixels that were kept, in and around a tile.
#[derive(Default)]
struct Sorted {
    /// The tile's, no more explained.
    own: Vec<Candidate>,
    /// The tile's, not decided.
    open: Vec<Candidate>,
    /// Of the halo, no more explained.
    beside: Vec<Candidate>,
    /// Of the halo, not decided.
    open_beside: Vec<Candidate>,
}

/// A view whose turn it is.
struct OfView<'a> {
    at: usize,
    turn: &'a Turn<'a>,
    task: Task<'a>,
    rays: Rays,
    options: &'a FusionOptions,
}

impl OfView<'_> {
    fn pixel(&self, found: &Candidate) -> Pixel {
        (self.at as u32, found.pixel as u32)
    }

    /// Which pixels are kept, of those whose points may lie in the tile or its halo.
    fn confirmed(&self, confirm: &Confirm) -> Result<Confirmed> {
        let Map { width, height, .. } = *self.turn.depth;
        // A mean of depths that differ from the pixel's own by less than the share; f32 rounds it.
        let share = confirmed_share(self.options) * (1.0 + 1e-6) + 1e-6;
        let mut near = Map::filled(width, height, 0.0f32);
        let rows = near.data.par_chunks_mut(width.max(1)).zip(self.turn.depth.data.par_chunks(width.max(1)));
        rows.enumerate().for_each(|(y, (near, own))| {
            for (x, (near, &depth)) in near.iter_mut().zip(own).enumerate().filter(|(_, (_, depth))| is_depth(**depth))
            {
                let way = self.rays.ray((x, y)) * f64::from(depth);
                if self.task.around.may_have_around(self.rays.centre + way, way.abs() * share) {
                    *near = depth;
                }
            }
        });
        let Turn { facts, own, .. } = self.turn;
        let turn = Turn { facts, depth: Depth::Shared(Arc::new(near)), own: own.borrowed() };
        Ok(confirm(self.at, &turn)?.0)
    }

    /// What became of the pixels whose depths lie in the tile, up to whether they are kept.
    fn counted(&self, confirmed: &Confirmed) -> Funnel {
        let width = self.turn.depth.width.max(1);
        let facts = self.turn.facts;
        let row = |(y, own): (usize, &[f32])| {
            let (mut funnel, mut with_count) = (Funnel::default(), [0usize; 256]);
            for (x, &depth) in own.iter().enumerate().filter(|(_, depth)| is_depth(**depth)) {
                let pixel = y * width + x;
                let confidence = self.turn.own.confidence.data[pixel];
                if !self.task.tile.has(self.rays.point((x, y), depth)) {
                    continue;
                }
                if enters(&mut funnel, depth, confidence, facts.range, self.options.min_confidence) {
                    with_count[usize::from(confirmed.count[pixel])] += 1;
                    funnel.kept += usize::from(confirmed.depth[pixel] > 0.0);
                }
            }
            funnel.agreed = (1..=facts.sources.len()).map(|n| with_count[n.min(255)..].iter().sum()).collect();
            funnel
        };
        let rows: Vec<Funnel> = match self.task.only {
            None => self.turn.depth.data.par_chunks(width).enumerate().map(row).collect(),
            Some(_) => Vec::new(),
        };
        let mut funnel = Funnel::sum(&rows);
        funnel.agreed.resize(facts.sources.len(), 0);
        funnel
    }

    /// Sorts kept pixels, and counts the tile's that are explained.
    fn sorted(
        &self,
        found: &mut Vec<Candidate>,
        (explained, doubted): (&[AtomicBool], &[AtomicBool]),
        funnel: &mut Funnel,
    ) -> Sorted {
        let Task { tile, around, only, .. } = self.task;
        let reach = explained_share(self.options).map(|share| Reach::new(&self.rays, share));
        let width = self.turn.depth.width.max(1);
        let mut sorted = Sorted::default();
        for found in found.drain(..).filter(|found| around.has(position(found))) {
            let is_own = tile.has(position(&found)) && only.is_none_or(|only| only.contains(&self.pixel(&found)));
            if is_marked(explained, found.pixel) {
                funnel.duplicates += usize::from(is_own);
                continue;
            }
            let is_near_rim = |reach: Reach| {
                let ray = self.rays.ray((found.pixel % width, found.pixel / width));
                let depth = ray.dot(position(&found) - self.rays.centre) / ray.length_squared();
                !around.has_around(position(&found), reach.at(ray, depth))
            };
            // Nothing comes before the first view.
            let is_open = is_marked(doubted, found.pixel) || (self.at > 0 && reach.is_some_and(is_near_rim));
            let place = match (is_own, is_open) {
                (true, false) => &mut sorted.own,
                (true, true) => &mut sorted.open,
                (false, false) => &mut sorted.beside,
                (false, true) => &mut sorted.open_beside,
            };
            place.push(found);
        }
        sorted
    }
}
