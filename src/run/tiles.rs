//! The points of one tile: the views that it needs are read, put aside, and fused.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use glam::DVec3;
use rayon::prelude::*;

use crate::error::Result;
use crate::files::scratch::Scratch;
use crate::fusion::funnel::Funnel;
use crate::fusion::spilled::{Spilled, Spilling};
use crate::fusion::tile::{Depths, Frustum, Reach, Tile};
use crate::fusion::tiled::{self, Pixel, Task, confirmed_pixels, confirmed_share, explained_share};
use crate::fusion::view::ViewFacts;
use crate::host::memory::{MemoryNeed, refuse_if_too_large};
use crate::host::memory_limits::room;
use crate::host::{interrupt, progress::Progress};
use crate::run::fuse_views::ReadView;
use crate::run::fusion_memory::{StreamedViews, Streaming};
use crate::run::tile_part::{Header, Part, Points, Told};
use crate::run::tile_plan::TilePlan;
use crate::run::tile_views::TileViews;

/// Halos are so many times as wide as a point can be from a pixel that it explains. Once would leave all pixels near
/// the tile's sides open.
const HALO: f64 = 2.0;
/// Views are read that meet a halo so many times as wide, so that open pixels can mostly be decided without more.
const WIDER: f64 = 2.0;
/// A share of a depth that rounding cannot reach.
const ROUNDING: f64 = 1e-6;

/// All that tiles are made of.
pub struct Tiles<'a> {
    /// The views.
    pub views: &'a TileViews<'a>,
    /// How space is cut.
    pub plan: &'a TilePlan,
    /// The folder for results.
    pub out: &'a Path,
    /// Of all views, as the origin of fusion sees them.
    facts: Vec<ViewFacts>,
    bounds: Tile,
    /// The views that were read so far: each is read once, whatever tiles need it.
    aside: Spilling,
    /// What there is to tell of them.
    told: BTreeMap<usize, Told>,
    /// Bytes of memory that the tiles so far were planned with, at most.
    planned: u64,
}

impl<'a> Tiles<'a> {
    /// Of a plan that is of these views.
    ///
    /// # Errors
    /// Maps of other sizes than planned.
    pub fn new(views: &'a TileViews<'a>, plan: &'a TilePlan, out: &'a Path) -> Result<Self> {
        let (mut facts, origin) = (views.facts(&plan.sizes)?, views.origin(&plan.sizes)?);
        let aside = Spilling::of_some(&Scratch::folder_near(out), &views.settings.fusion, facts.clone())?;
        facts.iter_mut().for_each(|view| origin.enter_camera(&mut view.camera));
        let bounds = plan.bounds(&facts);
        Ok(Self { views, plan, out, facts, bounds, aside, told: BTreeMap::new(), planned: 0 })
    }

    /// Makes the part of a tile, which are numbered from 1, unless it is there; says whether it was there.
    ///
    /// # Errors
    /// Too little memory; maps and photos that cannot be read; a full disk.
    pub fn make(&mut self, number: usize, progress: &Progress) -> Result<bool> {
        let file = self.plan.part(self.out, number);
        match Part::open(&file) {
            Ok(Some(part)) if part.header.plan == self.plan.id && part.header.tile == number => return Ok(true),
            Ok(None) => {}
            Ok(Some(_)) => progress.note(&format!("{}: of another plan; it is made again", file.display())),
            Err(error) => progress.note(&format!("{error}; it is made again")),
        }
        let tile = self.plan.tiles[number - 1].into();
        let mut points = Points::new(self.aside.folder())?;
        let mut funnels = vec![Funnel::default(); self.facts.len()];
        let (mut read, mut again) = (BTreeSet::new(), 0);
        let mut wanted: Vec<Wanted> = vec![(tile, self.halo(&tile), None)];
        let mut held: Option<(BTreeSet<usize>, Spilled)> = None;
        while let Some((target, halo, only)) = wanted.pop() {
            interrupt::check()?;
            let around = target.grown(halo);
            let (own, present) = (self.own(&around), self.present(&around));
            if held.as_ref().is_none_or(|(there, _)| !present.is_subset(there)) {
                // What was held goes before more is read.
                drop(held.take());
                let more = self.present(&target.grown(halo * WIDER));
                read.extend(&more);
                held = Some((more.clone(), self.put_aside(&more, &own)?));
            }
            let Some((_, spilled)) = &held else { break };
            let task = Task { tile: target, around, only: only.as_ref(), views: &own };
            let mut late = Vec::new();
            let mut pass = |some: Vec<tiled::TilePoint>| {
                if only.is_none() {
                    return points.append(&some);
                }
                late.extend(some);
                Ok(())
            };
            let outcome = tiled::fuse_tile(spilled, task, &mut pass)?;
            points.add_late(late);
            for (at, funnel) in own.iter().zip(&outcome.funnels) {
                funnels[*at] = Funnel::sum([&funnels[*at], funnel]);
            }
            again += outcome.open.len();
            wanted.extend(groups(outcome.open, halo));
        }
        let funnels = funnels.into_iter().enumerate().filter(|(_, funnel)| !is_empty(funnel)).collect();
        let views = read.iter().filter_map(|view| Some((*view, *self.told.get(view)?))).collect();
        let plan = self.plan.id.clone();
        points.write(&file, &Header { plan, tile: number, points: points.len(), again, funnels, views })?;
        Ok(false)
    }

    /// Bytes of memory that the tiles so far were planned with, at most.
    pub fn planned(&self) -> u64 {
        self.planned
    }

    fn frustum(&self, at: usize, depths: Depths) -> Frustum<'_> {
        Frustum::new(&self.facts[at].camera, self.facts[at].size, depths)
    }

    fn views_where(&self, is_wanted: impl Fn(usize) -> bool + Sync) -> Vec<usize> {
        (0..self.facts.len()).into_par_iter().filter(|&at| self.plan.depths[at].are_any() && is_wanted(at)).collect()
    }

    /// What of a box can have points; it has an end on all sides.
    fn limited(&self, around: &Tile) -> Tile {
        let size = (self.bounds.high - self.bounds.low).max_element();
        around.clipped(&self.bounds.grown(if size.is_finite() && size > 0.0 { size } else { 1.0 }))
    }

    /// Views that may have points in a box.
    fn own(&self, around: &Tile) -> Vec<usize> {
        let (share, inside) = (confirmed_share(&self.views.settings.fusion) + ROUNDING, self.limited(around));
        self.views_where(|at| self.frustum(at, self.plan.depths[at].widened(share)).may_meet(&inside))
    }

    /// Views that have to do with points in a box: their own, those that confirm them, and all that are heard about
    /// them. A view that confirms a point shows one that is near it, and one that is heard shows something there or
    /// behind.
    fn present(&self, around: &Tile) -> BTreeSet<usize> {
        let options = &self.views.settings.fusion;
        let (share, own) = (confirmed_share(options), self.own(around));
        let near = around.grown(self.reach(&own, around, (share, confirmed_pixels(options))));
        let inside = self.limited(&near);
        let sees = |at: usize| {
            let far = self.plan.depths[at].far / (1.0 - share) * (1.0 + ROUNDING);
            share >= 1.0 || self.frustum(at, Depths { near: 0.0, far }).may_meet(&inside)
        };
        let own: BTreeSet<usize> = own.into_iter().collect();
        self.views_where(|at| own.contains(&at) || sees(at)).into_iter().collect()
    }

    /// How far points that are so near to pixels in a box may lie from theirs.
    fn reach(&self, own: &[usize], around: &Tile, near: (f64, f64)) -> f64 {
        let inside = self.limited(around);
        let reach = |&at: &usize| {
            let (view, far) = (&self.facts[at], self.plan.depths[at].far);
            Reach::most(view, near, far.min(inside.farthest(&view.camera)))
        };
        own.iter().map(reach).fold(0.0, f64::max)
    }

    /// How wide the halo of a tile is to be at first.
    fn halo(&self, tile: &Tile) -> f64 {
        match explained_share(&self.views.settings.fusion) {
            Some(share) => HALO * self.reach(&self.own(tile), tile, (share, 0.0)),
            None => 0.0,
        }
    }

    /// Views for fusion. Those that were not read before are read, and put aside.
    fn put_aside(&mut self, present: &BTreeSet<usize>, own: &[usize]) -> Result<Spilled> {
        let pixels = |at: usize| {
            let (width, height) = self.plan.sizes[at];
            if present.contains(&at) { (width * height) as u64 } else { 0 }
        };
        let own: BTreeSet<usize> = own.iter().copied().collect();
        let sources = |at: usize| if own.contains(&at) { self.facts[at].sources.clone() } else { Vec::new() };
        let count = self.facts.len();
        let sizes = StreamedViews {
            pixels: (0..count).map(pixels).collect(),
            sources: (0..count).map(sources).collect(),
            photo: self.views.photo_bytes(),
            held: false,
            thinned: false,
            tiled: true,
        };
        let there = room(self.views.maps.memory);
        let streaming = Streaming::plan(&sizes, there.bytes);
        let need = MemoryNeed { stages: streaming.stages.clone() };
        let otherwise = "smaller maps, fewer sources (--check-sources) or fewer --threads would help";
        refuse_if_too_large(&need, &there, &[], otherwise)?;
        self.planned = self.planned.max(need.peak());
        let new: Vec<usize> = present.iter().copied().filter(|&at| !self.aside.has(at)).collect();
        for some in new.chunks(streaming.views_at_once) {
            interrupt::check()?;
            let read: Vec<Result<ReadView>> = some.par_iter().map(|&at| self.views.read(at)).collect();
            let mut of_some = Vec::with_capacity(some.len());
            for (&at, read) in some.iter().zip(read) {
                let ReadView { view, has_confidence, is_masked, is_empty, invalid } = read?;
                self.told.insert(at, Told { specks: 0, has_confidence, is_masked, is_empty, invalid });
                of_some.push(view);
            }
            self.aside.add_at(some, of_some)?;
            for &at in some {
                let specks = self.aside.specks(at);
                self.told.entry(at).and_modify(|told| told.specks = specks);
            }
        }
        let mut spilled = self.aside.only(present, streaming.budget)?;
        spilled.enter(self.views.origin(&self.plan.sizes)?);
        Ok(spilled)
    }
}

/// Pixels in a tile that are to be decided, and with what halo; `None`: all.
type Wanted = (Tile, f64, Option<BTreeSet<Pixel>>);

fn is_empty(funnel: &Funnel) -> bool {
    Funnel { agreed: Vec::new(), ..funnel.clone() } == Funnel::default()
}

/// Open pixels that lie near each other, with the halo that they are to be asked again with.
fn groups(open: Vec<(Pixel, DVec3)>, halo: f64) -> Vec<Wanted> {
    let mut cells = BTreeMap::<[i64; 3], Vec<(Pixel, DVec3)>>::new();
    for (pixel, point) in open {
        // A cell may be wide where its halo is.
        let cell = (point / (4.0 * halo.max(f64::MIN_POSITIVE))).floor().to_array().map(|side| side as i64);
        cells.entry(cell).or_default().push((pixel, point));
    }
    let group = |open: Vec<(Pixel, DVec3)>| {
        let around = Tile::around(open.iter().map(|(_, point)| *point));
        (around, halo * 2.0, Some(open.into_iter().map(|(pixel, _)| pixel).collect()))
    };
    cells.into_values().map(group).collect()
}
