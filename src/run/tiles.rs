//! The points of one tile: the views that it needs are read, put aside, and fused.

use std::collections::BTreeSet;
use std::path::Path;

use glam::DVec3;
use rayon::prelude::*;

use crate::error::Result;
use crate::files::scratch::Scratch;
use crate::fusion::funnel::Funnel;
use crate::fusion::spilled::{Spilled, Spilling};
use crate::fusion::tile::{Depths, Frustum, Reach, Tile};
use crate::fusion::tiled::{self, Pixel, Task, confirmed_share, explained_share};
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
    /// Likewise, as they are.
    unmoved: Vec<ViewFacts>,
    bounds: Tile,
}

impl<'a> Tiles<'a> {
    /// Of a plan that is of these views.
    ///
    /// # Errors
    /// Maps of other sizes than planned.
    pub fn new(views: &'a TileViews<'a>, plan: &'a TilePlan, out: &'a Path) -> Result<Self> {
        let (unmoved, origin) = (views.facts(&plan.sizes)?, views.origin(&plan.sizes)?);
        let mut facts = unmoved.clone();
        facts.iter_mut().for_each(|view| origin.enter_camera(&mut view.camera));
        let bounds = plan.bounds(&facts);
        Ok(Self { views, plan, out, facts, unmoved, bounds })
    }

    /// Makes the part of a tile, which are numbered from 1, unless it is there; says whether it was there.
    ///
    /// # Errors
    /// Too little memory; maps and photos that cannot be read; a full disk.
    pub fn make(&self, number: usize, progress: &Progress) -> Result<bool> {
        let file = self.plan.part(self.out, number);
        match Part::open(&file) {
            Ok(Some(part)) if part.header.plan == self.plan.id && part.header.tile == number => return Ok(true),
            Ok(None) => {}
            Ok(Some(_)) => progress.note(&format!("{}: of another plan; it is made again", file.display())),
            Err(error) => progress.note(&format!("{error}; it is made again")),
        }
        let tile = self.plan.tiles[number - 1].into();
        let scratch = Scratch::folder_near(self.out);
        let mut points = Points::new(&scratch)?;
        let mut header = Header { plan: self.plan.id.clone(), tile: number, ..Header::default() };
        let mut funnels = vec![Funnel::default(); self.facts.len()];
        let halo = self.halo(&tile);
        let mut wanted: Vec<(Tile, f64, Option<BTreeSet<Pixel>>)> = vec![(tile, halo, None)];
        let mut held: Option<(BTreeSet<usize>, Spilled)> = None;
        while let Some((target, halo, only)) = wanted.pop() {
            interrupt::check()?;
            let around = target.grown(halo);
            let (own, present) = (self.own(&around), self.present(&around));
            if held.as_ref().is_none_or(|(there, _)| !present.iter().all(|view| there.contains(view))) {
                // What was held goes before more is read.
                drop(held.take());
                let more = self.present(&target.grown(halo * WIDER));
                let spilled = self.put_aside(&more, &own, &scratch, &mut header)?;
                held = Some((more.into_iter().collect(), spilled));
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
            wanted.extend(groups(outcome.open, halo));
        }
        header.points = points.len();
        header.funnels = funnels.into_iter().enumerate().filter(|(_, funnel)| !is_empty(funnel)).collect();
        header.views.sort_by_key(|(view, _)| *view);
        header.views.dedup_by_key(|(view, _)| *view);
        points.write(&file, &header)?;
        Ok(false)
    }

    fn frustum(&self, at: usize, depths: Depths) -> Frustum<'_> {
        Frustum::new(&self.facts[at], depths)
    }

    fn views_where(&self, is_wanted: impl Fn(usize) -> bool + Sync) -> Vec<usize> {
        (0..self.facts.len()).into_par_iter().filter(|&at| self.plan.depths[at].are_any() && is_wanted(at)).collect()
    }

    /// Views that may have points in a box.
    fn own(&self, around: &Tile) -> Vec<usize> {
        let (share, box_) =
            (confirmed_share(&self.views.settings.fusion), around.clipped(&self.bounds.grown(self.slack())));
        self.views_where(|at| self.frustum(at, self.plan.depths[at].widened(share + 1e-6)).may_meet(&box_))
    }

    /// Views that have to do with points in a box: their own, those that confirm them, and all that are heard about
    /// them, for which it is enough that they look there, at what is there or behind.
    fn present(&self, around: &Tile) -> Vec<usize> {
        let (share, box_) =
            (confirmed_share(&self.views.settings.fusion), around.clipped(&self.bounds.grown(self.slack())));
        let own = self.own(around);
        // A sample that confirms a point differs from it by a share of its depth, and a pixel.
        let beyond = if share < 0.5 { 4.0 * share + 1e-3 } else { f64::INFINITY };
        let sees = |at: usize| {
            let far = self.plan.depths[at].far * (1.0 + beyond);
            beyond.is_infinite() || {
                let box_ = box_.grown(Reach::most(&self.facts[at], share, self.plan.depths[at].far));
                self.frustum(at, Depths { near: 0.0, far }).may_meet(&box_)
            }
        };
        let own: BTreeSet<usize> = own.into_iter().collect();
        self.views_where(|at| own.contains(&at) || sees(at))
    }

    /// How far points can lie beyond the box around the maps.
    fn slack(&self) -> f64 {
        let size = (self.bounds.high - self.bounds.low).max_element();
        if size.is_finite() && size > 0.0 { size } else { 1.0 }
    }

    /// How wide the halo of a tile is to be at first.
    fn halo(&self, tile: &Tile) -> f64 {
        let Some(share) = explained_share(&self.views.settings.fusion) else { return 0.0 };
        let box_ = tile.clipped(&self.bounds);
        let reach = |at: usize| {
            let depths = self.plan.depths[at];
            Reach::most(&self.facts[at], share, depths.far.min(box_.farthest(&self.facts[at].camera)))
        };
        self.own(tile).into_iter().map(reach).fold(0.0, f64::max) * HALO
    }

    /// Reads views, and puts them aside.
    fn put_aside(&self, present: &[usize], own: &[usize], scratch: &Path, header: &mut Header) -> Result<Spilled> {
        let is_present: BTreeSet<usize> = present.iter().copied().collect();
        let pixels = |at: usize| {
            let (width, height) = self.plan.sizes[at];
            if is_present.contains(&at) { (width * height) as u64 } else { 0 }
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
        let mut spilling = Spilling::of_some(scratch, &self.views.settings.fusion, self.unmoved.clone())?;
        for some in present.chunks(streaming.views_at_once) {
            interrupt::check()?;
            let read: Vec<Result<ReadView>> = some.par_iter().map(|&at| self.views.read(at)).collect();
            let mut of_some = Vec::with_capacity(some.len());
            for (&at, read) in some.iter().zip(read) {
                let ReadView { view, has_confidence, is_masked, is_empty, invalid } = read?;
                header.views.push((at, Told { specks: 0, has_confidence, is_masked, is_empty, invalid }));
                of_some.push(view);
            }
            spilling.add_at(some, of_some)?;
        }
        let mut spilled = spilling.finish(streaming.budget)?;
        let specks: std::collections::BTreeMap<usize, usize> = spilled.specks().collect();
        header.views.iter_mut().for_each(|(at, told)| {
            told.specks = specks.get(at).copied().unwrap_or(told.specks);
        });
        spilled.enter(self.views.origin(&self.plan.sizes)?);
        Ok(spilled)
    }
}

fn is_empty(funnel: &Funnel) -> bool {
    Funnel { agreed: Vec::new(), ..funnel.clone() } == Funnel::default()
}

/// Open pixels that lie near each other, with the halo that they are to be asked again with.
fn groups(open: Vec<(Pixel, DVec3)>, halo: f64) -> Vec<(Tile, f64, Option<BTreeSet<Pixel>>)> {
    let mut cells = std::collections::BTreeMap::<[i64; 3], Vec<(Pixel, DVec3)>>::new();
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
