//! The maps that the first stage makes: which an earlier run has left, and what the others need.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use crate::error::Result;
use crate::host::interrupt;
use crate::manifest::PhotoSeconds;
use crate::net::backend::DepthNetwork;
use crate::run::plan::{Frame, Plan, Shown, ViewPlan, Work};
use crate::run::resume::{Hashes, LevelFiles, MadeBy, PhotoIdentity};
use crate::run::schedule::{self, Job};
use crate::scene::known::KnownIdentity;

/// One pair of maps to make or found made.
pub struct LevelJob {
    /// The pyramid level.
    pub level: usize,
    /// Where the maps go.
    pub files: LevelFiles,
    made_by: MadeBy,
    /// Time that the maps took and what they are, once they are there.
    pub made: Option<(f64, Hashes)>,
    /// Whether an earlier run made them.
    pub reused: bool,
}

/// The maps of all views on all levels, and the photos that they depend on.
pub struct LevelJobs {
    /// `[view of the plan][level]`.
    pub of_views: Vec<Vec<LevelJob>>,
    /// By view of the scene.
    pub photos: BTreeMap<usize, PhotoIdentity>,
}

/// What the first stage leaves beside the files.
#[derive(Default)]
pub struct DepthStage {
    /// What the loader had to say about single photos.
    pub notes: BTreeSet<String>,
    /// Time that the photos took, by view of the scene; a photo that was loaded again counts again.
    pub photo_seconds: BTreeMap<usize, PhotoSeconds>,
}

/// Looks up which maps an earlier run has left.
///
/// # Errors
/// Photos that cannot be read, [`crate::Error::Interrupted`].
pub fn find_finished<N: DepthNetwork>(work: Work, network: &N) -> Result<LevelJobs> {
    find_finished_of(work, network, &(0..work.plan.views.len()).collect())
}

/// As [`find_finished`], for the views at these places of the plan only; the others have no jobs.
///
/// # Errors
/// As [`find_finished`].
pub fn find_finished_of<N: DepthNetwork>(work: Work, network: &N, places: &BTreeSet<usize>) -> Result<LevelJobs> {
    let Work { scene, plan, options, out, hashes, .. } = work;
    let used = plan.photos_of(places.iter().copied());
    // Where hashes are not known yet, every file is read: by all threads.
    let identity = |&view: &usize| -> Result<(usize, PhotoIdentity)> {
        interrupt::check()?;
        Ok((view, PhotoIdentity::new(&scene.views[view], &plan.frames[view], hashes)?))
    };
    let used: Vec<usize> = used.into_iter().collect();
    let identities: Vec<Result<(usize, PhotoIdentity)>> = used.par_iter().map(identity).collect();
    // Collected one by one, so that of several bad photos always the first is named.
    let photos: BTreeMap<usize, PhotoIdentity> = identities.into_iter().collect::<Result<_>>()?;
    let job = |view: &ViewPlan, level: usize, known: &Option<KnownIdentity>| {
        let files = LevelFiles::new(out, level, (work.name(view), work.spread()));
        let how = (network, options.resolution, options.refines());
        let made_by = MadeBy::new(level, view, &photos, known.clone(), how);
        let made = files.finished(&made_by, hashes);
        LevelJob { level, files, made_by, reused: made.is_some(), made }
    };
    let of_view = |(place, view): (usize, &ViewPlan)| -> Result<Vec<LevelJob>> {
        interrupt::check()?;
        let levels = if places.contains(&place) { options.levels } else { 0 };
        let known = scene.views[view.view].known.as_ref().filter(|_| levels > 0);
        let known = known.map(|known| known.identity(hashes)).transpose()?;
        Ok((0..levels).map(|level| job(view, level, &known)).collect())
    };
    let of_views = plan.views.par_iter().enumerate().map(of_view).collect::<Result<_>>()?;
    Ok(LevelJobs { of_views, photos })
}

impl LevelJob {
    /// Everything that the maps depend on.
    pub fn made_by(&self) -> &MadeBy {
        &self.made_by
    }
}

impl LevelJobs {
    /// Those of a plan before any was looked up.
    pub fn none(plan: &Plan) -> Self {
        Self { of_views: plan.views.iter().map(|_| Vec::new()).collect(), photos: BTreeMap::new() }
    }

    /// Whether nothing is left to do.
    pub fn all_finished(&self) -> bool {
        self.of_views.iter().flatten().all(|job| job.reused)
    }

    /// The views with something left, and the levels that each shown photo's features are needed on.
    pub fn remaining(&self, plan: &Plan) -> (Vec<Job<Shown>>, Levels) {
        let mut jobs = Vec::new();
        let mut levels_of_photo = Levels::new();
        for (view, of_view) in plan.views.iter().zip(&self.of_views) {
            let missing: Vec<usize> = of_view.iter().filter(|j| !j.reused).map(|j| j.level).collect();
            if missing.is_empty() {
                continue;
            }
            for (photo, look) in view.shown() {
                levels_of_photo.entry(photo).or_default().extend(missing.iter().map(|&level| look.level(level)));
            }
            jobs.push(Job { view: view.view, photos: view.shown().map(|(photo, _)| photo).collect() });
        }
        (jobs, levels_of_photo)
    }

    /// Bytes of features that must be, and that could usefully be, in memory at once.
    pub fn cache_bounds(&self, plan: &Plan) -> (u64, u64) {
        let (jobs, levels) = self.remaining(plan);
        let bytes = |photo: Shown| shown_bytes(&plan.frames, photo, &levels);
        (schedule::least_cache(&jobs, &bytes), levels.keys().map(|&photo| bytes(photo)).sum())
    }
}

/// The levels ([`crate::scene::look::Look::level`]) on which features of each shown photo are needed.
pub type Levels = BTreeMap<Shown, BTreeSet<i32>>;

/// Bytes of a shown photo's features, on all levels that are needed.
pub fn shown_bytes(frames: &[Frame], photo: Shown, levels: &Levels) -> u64 {
    let of_level = |&level: &i32| {
        let (frame, level) = frames[photo.photo].shown(photo.quarter_turns, level);
        frame.feature_bytes(level)
    };
    levels.get(&photo).into_iter().flatten().map(of_level).sum()
}

/// What a pair of maps costs, in no unit.
pub fn cost(plan: &Plan, view: &ViewPlan, level: usize) -> u64 {
    let (width, height) = plan.frames[view.view].quarter_size(level);
    (width * height) as u64 * view.planes as u64 * (view.sources.len() as u64 + 1)
}
