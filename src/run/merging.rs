//! The second stage: levels are merged from the coarsest to the finest, and views hear each other.
//!
//! A view's maps are made of its own level maps and of those of a neighbourhood: a pixel of a coarser level counts if
//! the source views' merged maps of that level confirm it, which were made of their sources' in turn; and in the end a
//! view hears its sources. So any views of a scene can be merged by themselves, with their neighbourhood read and
//! partly merged beside them, and come out as they would with all the others: in blocks that fit into memory, and on
//! several machines.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;
use serde_json::json;

use crate::error::{Error, Result};
use crate::files::hash;
use crate::host::interrupt;
use crate::host::memory::readable;
use crate::host::memory_limits::room;
use crate::manifest::made::Counts;
use crate::maps::joint::Heard;
use crate::maps::merge::LevelMaps;
use crate::maps::valid::take_out_invalid;
use crate::net::confidence::Confidence;
use crate::run::depth::{LevelJob, LevelJobs};
use crate::run::fusion_memory::PROGRAM_BYTES;
use crate::run::memory::{photo_bytes, photos_at_once};
use crate::run::plan::{ViewPlan, Work, places};
use crate::scene::mask::Mask;
use crate::scene::photo::Photo;

/// The level maps of a plan's views, ready to be merged.
pub struct Merging<'a> {
    /// What it is a part of.
    pub work: Work<'a>,
    /// The level maps; of views that are in nobody's neighbourhood they need not be there.
    pub jobs: &'a LevelJobs,
    /// What a confidence becomes when views were heard.
    fits: Option<&'a Confidence>,
    /// For each view of the plan, the places of those that it is checked against.
    sources: Vec<Vec<usize>>,
    /// A hash of each view's level maps and of all that they are cut by.
    identities: Vec<String>,
}

/// A view after all coarser levels have repaired the finest one, and others were heard.
pub struct MergedView {
    /// Depth and confidence.
    pub maps: LevelMaps,
    /// What was counted meanwhile.
    pub counts: Counts,
}

impl<'a> Merging<'a> {
    /// Of the plan that `work` is on.
    pub fn new(work: Work<'a>, jobs: &'a LevelJobs, fits: Option<&'a Confidence>) -> Self {
        let plan = work.plan;
        let sources = plan.views.iter().map(|view| places(&plan.views, &view.check)).collect();
        let identity = |place: usize| {
            // Nobody's neighbour: its mask is not read either.
            if jobs.of_views[place].is_empty() {
                return String::new();
            }
            let of_level = |job: &LevelJob| json!([job.made_by(), job.made.as_ref().map(|made| &made.1)]);
            let levels: Vec<_> = jobs.of_views[place].iter().map(of_level).collect();
            let mask = work.scene.views[plan.views[place].view].mask.as_ref();
            // One that cannot be read stops the run where it is used.
            let mask = mask.map(|mask| work.hashes.of_file(mask).unwrap_or_default());
            hash::of_bytes(json!([levels, mask]).to_string().as_bytes())
        };
        let identities = (0..plan.views.len()).into_par_iter().map(identity).collect();
        Self { work, jobs, fits, sources, identities }
    }

    /// The places of the views whose merged maps are needed on each level, finest first, to finish these: on every
    /// level those of the finer one come first, in the same order.
    pub fn needed(&self, targets: &[usize]) -> Vec<Vec<usize>> {
        let wider = |inner: &[usize]| {
            let mut known: BTreeSet<usize> = inner.iter().copied().collect();
            let sources = inner.iter().flat_map(|&place| &self.sources[place]).copied();
            let others: Vec<usize> = sources.filter(|&source| known.insert(source)).collect();
            [inner, &others].concat()
        };
        let finest = if self.work.options.refines() { wider(targets) } else { targets.to_vec() };
        let mut needed = vec![finest];
        for level in 1..self.work.options.levels {
            needed.push(wider(&needed[level - 1]));
        }
        needed
    }

    /// A hash of all level maps that a view's maps are made of.
    pub fn neighbourhood(&self, place: usize) -> String {
        let needed = self.needed(&[place]);
        let all: Vec<&String> = needed.last().into_iter().flatten().map(|&view| &self.identities[view]).collect();
        hash::of_bytes(json!(all).to_string().as_bytes())
    }

    /// Merges these views, and what is needed for that; gives them in the same order. What does not show the scene
    /// ([`crate::scene::mask`]) is cut out of each level before, so that no other view is confirmed by it, and out of
    /// the merged maps.
    ///
    /// # Errors
    /// Maps that cannot be read back, masks and photos with an alpha that cannot be decoded; [`Error::Interrupted`].
    pub fn merge(&self, targets: &[usize]) -> Result<Vec<MergedView>> {
        if targets.is_empty() {
            return Ok(Vec::new());
        }
        let Work { options, progress, .. } = self.work;
        let needed = self.needed(targets);
        let masks = self.masks(needed.last().map_or(&[][..], Vec::as_slice))?;
        let levels = needed.len();
        let mut counts = vec![Counts { replaced: vec![0; levels], ..Counts::default() }; targets.len()];
        for (counts, target) in counts.iter_mut().zip(targets) {
            let mask = masks.get(target);
            (counts.is_masked, counts.is_empty) = (mask.is_some(), mask.is_some_and(Mask::is_all));
        }
        let mut stage = progress.stage("merging", levels, levels as u64);
        let mut coarse: Option<Vec<LevelMaps>> = None;
        for level in (0..levels).rev() {
            interrupt::check()?;
            let mut fine = self.read(&needed[level], level, &masks, &mut counts)?;
            let is_coarsest = coarse.is_none();
            if let Some(coarse) = &coarse {
                let sources = self.sources_within(&needed[level], &needed[level + 1]);
                let replaced = options.backend.merge_level(coarse, &mut fine, &sources, &options.merge(), progress)?;
                for (counts, replaced) in counts.iter_mut().zip(replaced) {
                    counts.replaced[level] = replaced;
                }
            }
            let total: usize = counts.iter().map(|counts| counts.replaced[level]).sum();
            let pixels: usize = fine.iter().take(targets.len()).map(|maps| maps.depth.data.len()).sum();
            let share = 100.0 * total as f64 / pixels.max(1) as f64;
            stage.step(
                &match is_coarsest {
                    true => format!("level {level}: {pixels} pixels, no coarser level"),
                    false => format!("level {level}: {share:.1} % of {pixels} pixels from the coarser level"),
                },
                1,
                json!({ "level": level, "pixels": pixels, "replaced": total }),
            );
            coarse = Some(fine);
        }
        drop(stage);
        let mut maps = coarse.unwrap_or_default();
        // Coarser levels have filled what was cut.
        for (place, maps) in needed[0].iter().zip(&mut maps) {
            if let Some(mask) = masks.get(place) {
                mask.cut(&mut maps.depth, &mut maps.confidence);
            }
        }
        if options.refines() {
            self.hear_each_other(targets, &needed[0], &mut maps)?;
        }
        Ok(maps.into_iter().zip(counts).map(|(maps, counts)| MergedView { maps, counts }).collect())
    }

    /// The masks of some views at their maps' pixels, where they have one.
    fn masks(&self, places: &[usize]) -> Result<BTreeMap<usize, Mask>> {
        let Work { scene, plan, options, .. } = self.work;
        let of_view = |&place: &usize| -> Result<Option<(usize, Mask)>> {
            let mask = Photo::load_mask(&scene.views[plan.views[place].view], options.max_side)?;
            Ok(mask.map(|mask| (place, mask.decimated(options.resolution.step().ilog2()))))
        };
        let mut masks = BTreeMap::new();
        for some in places.chunks(photos_at_once()) {
            interrupt::check()?;
            let of_some: Vec<Result<_>> = some.par_iter().map(of_view).collect();
            masks.extend(of_some.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten());
        }
        Ok(masks)
    }

    /// The maps of some views on a level, without what cannot be used; that is counted for the first of them.
    fn read(
        &self,
        places: &[usize],
        level: usize,
        masks: &BTreeMap<usize, Mask>,
        counts: &mut [Counts],
    ) -> Result<Vec<LevelMaps>> {
        let plan = self.work.plan;
        let mut all = Vec::with_capacity(places.len());
        for (at, place) in places.iter().enumerate() {
            let job = &self.jobs.of_views[*place][level];
            let (_, hashes) = job.made.as_ref().ok_or(Error::Bug { place: "merging", problem: "no map".into() })?;
            let (mut depth, mut confidence) = job.files.read(hashes)?;
            let invalid = take_out_invalid(&mut depth, &mut confidence);
            if let Some(counts) = counts.get_mut(at) {
                counts.invalid = counts.invalid.and(invalid);
            }
            if let Some(mask) = masks.get(place) {
                mask.decimated(level as u32).cut(&mut depth, &mut confidence);
            }
            let camera = plan.frames[plan.views[*place].view].map_camera(level);
            all.push(LevelMaps { camera, depth, confidence });
        }
        Ok(all)
    }

    /// For each of `views` where its sources stand in `among`.
    fn sources_within(&self, views: &[usize], among: &[usize]) -> Vec<Vec<usize>> {
        let mut stands = vec![None; self.sources.len()];
        among.iter().enumerate().for_each(|(at, &place)| stands[place] = Some(at));
        let of_view = |place: &usize| self.sources[*place].iter().filter_map(|&source| stands[source]).collect();
        views.iter().map(of_view).collect()
    }

    /// Lets views hear their sources ([`crate::maps::joint`]): depths become means, confidences are judged again.
    fn hear_each_other(&self, targets: &[usize], among: &[usize], maps: &mut [LevelMaps]) -> Result<()> {
        let Work { plan, options, progress, .. } = self.work;
        let mut stage = progress.stage("agreement", targets.len(), targets.len() as u64);
        let judge =
            |confidence: f32, heard: &Heard| self.fits.map_or(confidence, |fits| fits.after_hearing(confidence, heard));
        let sources = self.sources_within(targets, among);
        let heard = options.backend.hear(maps, &sources, judge, progress, |at| {
            let name = self.work.name(&plan.views[targets[at]]);
            stage.step(name, 1, json!({ "view": name }));
            interrupt::check()
        })?;
        // Everyone was heard as it was before.
        for (maps, (depth, confidence)) in maps.iter_mut().zip(heard) {
            (maps.depth, maps.confidence.data) = (depth, confidence);
        }
        Ok(())
    }

    /// Bytes that merging these views holds at once, apart from photos: a level and the next coarser one, masks, and
    /// what views hear.
    pub fn bytes(&self, targets: &[usize]) -> u64 {
        let Work { plan, options, .. } = self.work;
        let needed = self.needed(targets);
        let pixels = |places: &[usize], level: usize| -> u64 {
            let of_view = |&place: &usize| {
                let (width, height) = plan.frames[plan.views[place].view].map_size(level);
                (width * height) as u64
            };
            places.iter().map(of_view).sum()
        };
        let maps = |level: usize| needed.get(level).map_or(0, |places| 8 * pixels(places, level));
        let levels = (0..needed.len()).map(|level| maps(level) + maps(level + 1)).max().unwrap_or(0);
        let masks = needed.last().map_or(0, |places| pixels(places, 0));
        let heard = if options.refines() { 8 * pixels(targets, 0) } else { 0 };
        // Colours and normals of the views that are written at once.
        let written = targets.iter().map(|place| pixels(std::slice::from_ref(place), 0)).max().unwrap_or(0);
        levels.max(maps(0) + heard) + masks + written * (3 + 12) * photos_at_once() as u64
    }

    /// Divides views into runs that fit into memory, each with its neighbourhood.
    ///
    /// # Errors
    /// [`Error::Memory`] where not even one view fits.
    pub fn blocks<'b>(&self, places: &'b [usize]) -> Result<Vec<&'b [usize]>> {
        let Work { scene, plan, options, .. } = self.work;
        let there = room(options.memory);
        let of_photo = |&place: &usize| {
            let view = plan.views[place].view;
            photo_bytes(&scene.views[view], &plan.frames[view], 1)
        };
        let photos = places.iter().map(of_photo).max().unwrap_or(0) * photos_at_once() as u64;
        let need = |block: &[usize]| self.bytes(block) + photos + PROGRAM_BYTES;
        let mut blocks = Vec::new();
        let mut rest = places;
        while !rest.is_empty() {
            let mut size = rest.len();
            // Halves are tried, so that few neighbourhoods are weighed.
            while size > 1 && need(&rest[..size]) > there.bytes {
                size = size.div_ceil(2);
            }
            if need(&rest[..size]) > there.bytes {
                return Err(Error::Memory(format!(
                    "merging view {} with those around it takes {}, and {} are available{}; {}",
                    self.work.name(&plan.views[rest[0]]),
                    readable(need(&rest[..size])),
                    readable(there.bytes),
                    there.limit,
                    there.limit.advice()
                )));
            }
            let (block, left) = rest.split_at(size);
            blocks.push(block);
            rest = left;
        }
        Ok(blocks)
    }

    /// Whether a view that is not there keeps these from being merged: the first of them, and a level that it lacks.
    pub fn lacking(&self, targets: &[usize]) -> Option<(&'a ViewPlan, usize)> {
        let needed = self.needed(targets);
        let lacks = |(level, places): (usize, &Vec<usize>)| {
            let lacks = |place: &&usize| self.jobs.of_views[**place].get(level).is_none_or(|job| job.made.is_none());
            places.iter().find(lacks).map(|&place| (&self.work.plan.views[place], level))
        };
        needed.iter().enumerate().find_map(lacks)
    }
}
