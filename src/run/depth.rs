//! The first stage: the network on every level of every view. Levels and views do not depend on each other, so
//! each finished pair of maps is written at once and survives whatever happens to the run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use rayon::prelude::*;
use serde_json::json;

use crate::cpu::ops::ncc;
use crate::draw::thumbnail;
use crate::error::{Error, Result};
use crate::host::interrupt;
use crate::host::memory_limits::{expect_room_for_threads, no_thread};
use crate::host::progress::{Stage, duration};
use crate::host::trace::span_of;
use crate::manifest::PhotoSeconds;
use crate::net::backend::{DepthJob, DepthNetwork, Estimate};
use crate::net::confidence::Scale;
use crate::run::plan::{Frame, Plan, Shown, ViewPlan, Work};
use crate::run::resume::{Hashes, LevelFiles, MadeBy, PhotoIdentity};
use crate::run::schedule::{self, Job, Step};
use crate::scene::Scene;
use crate::scene::camera::{Hypotheses, PlaneSweep};
use crate::scene::look::Look;
use crate::scene::photo::Photo;

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
/// Photos that cannot be read, [`Error::Interrupted`].
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
    let job = |view: &ViewPlan, level: usize| {
        let files = LevelFiles::new(out, level, work.name(view));
        let made_by = MadeBy::new(level, view, &photos, (network, options.resolution, options.refines()));
        let made = files.finished(&made_by, hashes);
        LevelJob { level, files, made_by, reused: made.is_some(), made }
    };
    let of_view = |(place, view): (usize, &ViewPlan)| -> Result<Vec<LevelJob>> {
        interrupt::check()?;
        let levels = if places.contains(&place) { options.levels } else { 0 };
        Ok((0..levels).map(|level| job(view, level)).collect())
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
    fn remaining(&self, plan: &Plan) -> (Vec<Job<Shown>>, Levels) {
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

/// A decoded photo with all that is taken from it before it is let go.
struct Decoded {
    /// The levels that are needed, padded to multiples of 4.
    levels: BTreeMap<i32, Photo>,
    notes: Vec<String>,
    seconds: f64,
}

fn decode(
    scene: &Scene,
    shown: Shown,
    max_side: Option<usize>,
    levels: &BTreeSet<i32>,
    identity: &PhotoIdentity,
) -> Result<Decoded> {
    let began = Instant::now();
    let view = &scene.views[shown.photo];
    let _span = span_of("decode", || view.name.clone());
    let loaded = Photo::load(view, max_side)?;
    identity.expect(&view.image, &loaded.sha256)?;
    let mut photo = loaded.photo.turned(shown.quarter_turns);
    let mut padded = BTreeMap::new();
    let mut at = 0;
    for &level in levels {
        if level < 0 {
            padded.insert(level, photo.enlarged(level.unsigned_abs()).padded_to_multiple_of_4());
            continue;
        }
        while at < level {
            photo = photo.pyramid_level();
            at += 1;
        }
        padded.insert(level, photo.padded_to_multiple_of_4());
    }
    Ok(Decoded { levels: padded, notes: loaded.notes, seconds: began.elapsed().as_secs_f64() })
}

/// What is kept of a photo on a level.
struct Held<N: DepthNetwork> {
    features: N::Features,
    /// Where depths are refined against the photos.
    grey: Option<N::Grey>,
}

/// What is at hand, by photo and level.
type Features<N> = BTreeMap<Shown, BTreeMap<i32, Held<N>>>;

/// Makes every map that is missing. `cache` is how many bytes of features may be kept.
///
/// # Errors
/// Photos that cannot be decoded, files that cannot be written, [`Error::Interrupted`].
pub fn run<N: DepthNetwork>(work: Work, network: &N, cache: u64, jobs: &mut LevelJobs) -> Result<DepthStage> {
    let Work { scene, plan, options, .. } = work;
    let mut stage = begin_stage(work, jobs);
    let (remaining, levels_of_photo) = jobs.remaining(plan);
    let steps = schedule::plan(remaining, &|p| shown_bytes(&plan.frames, p, &levels_of_photo), cache);
    let loads: Vec<Shown> = steps.iter().flat_map(|s| s.load.iter().copied()).collect();
    let place_of: BTreeMap<usize, usize> = plan.views.iter().enumerate().map(|(at, v)| (v.view, at)).collect();
    let mut left = DepthStage::default();
    let mut features: Features<N> = BTreeMap::new();

    expect_room_for_threads(1)?;
    std::thread::scope(|scope| {
        // A rendezvous: the next photo is decoded while the network works, but never more than one ahead.
        let (sender, receiver) = sync_channel(0);
        let (levels, LevelJobs { of_views, photos }) = (&levels_of_photo, jobs);
        let photos = &*photos;
        let decode = move || decode_ahead(scene, &loads, options.max_side, (levels, photos), &sender);
        let started = std::thread::Builder::new().name("decoder".into()).spawn_scoped(scope, decode);
        started.map_err(|e| no_thread("the thread that decodes photos", &e))?;
        for Step { job, drop: dropped, load } in steps {
            for photo in dropped {
                features.remove(&photo);
            }
            for photo in load {
                interrupt::check()?;
                let decoded = next_decoded(&receiver)?;
                let began = Instant::now();
                let noted = span_of("features", || scene.views[photo.photo].name.clone());
                let images = decoded.levels.iter();
                let of_level = |(&level, image): (&i32, &Photo)| {
                    let what = format!("features of view {}", scene.views[photo.photo].name);
                    network.about(&what);
                    let made = network.features(image, options.resolution).and_then(|features| {
                        let grey = options.refines().then(|| network.grey(ncc::grey(image))).transpose()?;
                        Ok(Held { features, grey })
                    });
                    Ok((level, made.map_err(|error| error.within(&what))?))
                };
                let of_levels = images.map(of_level).collect::<Result<_>>()?;
                drop(noted);
                features.insert(photo, of_levels);
                let seconds = left.photo_seconds.entry(photo.photo).or_default();
                seconds.decoding += decoded.seconds;
                seconds.features += began.elapsed().as_secs_f64();
                left.notes.extend(decoded.notes);
            }
            if let Some(&at) = place_of.get(&job.view) {
                make_maps(work, network, &plan.views[at], &features, &mut of_views[at], &mut stage)?;
            }
        }
        Ok(())
    })?;
    drop(features);
    network.release();
    Ok(left)
}

/// What a pair of maps costs, in no unit.
pub fn cost(plan: &Plan, view: &ViewPlan, level: usize) -> u64 {
    let (width, height) = plan.frames[view.view].quarter_size(level);
    (width * height) as u64 * view.planes as u64 * (view.sources.len() as u64 + 1)
}

/// Begins the stage and passes over the maps that are there.
fn begin_stage(work: Work, jobs: &LevelJobs) -> Stage {
    let Work { plan, progress, .. } = work;
    let all: Vec<(&ViewPlan, &LevelJob)> = plan
        .views
        .iter()
        .zip(&jobs.of_views)
        .flat_map(|(v, of_view)| of_view.iter().map(move |job| (v, job)))
        .collect();
    let total_cost = all.iter().map(|(view, job)| cost(plan, view, job.level)).sum();
    let mut stage = progress.stage("depth", all.len(), total_cost);
    let reused: Vec<_> = all.iter().filter(|(_, job)| job.reused).collect();
    if !reused.is_empty() {
        progress.note(&format!("{} of {} level maps were made by an earlier run", reused.len(), all.len()));
    }
    for (view, job) in reused {
        let fields = json!({ "view": work.name(view), "level": job.level, "reused": true });
        stage.skip(cost(plan, view, job.level), fields);
    }
    stage
}

/// Makes and writes the missing maps of one view. A device may work on all its levels at once; the processor does what
/// is begun when it is finished.
fn make_maps<N: DepthNetwork>(
    work: Work,
    network: &N,
    view: &ViewPlan,
    features: &Features<N>,
    jobs: &mut [LevelJob],
    stage: &mut Stage,
) -> Result<()> {
    let name = work.name(view);
    let mut began = Instant::now();
    let mut pending = Vec::new();
    for job in jobs.iter_mut().filter(|job| job.made.is_none()) {
        let (of_level, photos) = depth_job(work.plan, view, job.level, features)?;
        let what = of_map(name, job.level);
        network.about(&what);
        let maps = network.begin(job.level, of_level).map_err(|error| error.within(&what))?;
        pending.push((job, maps, photos));
    }
    for (job, maps, photos) in pending {
        interrupt::check()?;
        let level = job.level;
        let noted = span_of("depth", || format!("{name} level {level}"));
        let what = of_map(name, level);
        network.about(&what);
        let mut maps = network.finish(maps).map_err(|error| error.within(&what))?;
        drop(noted);
        if work.options.refines() {
            let _span = span_of("refine", || format!("{name} level {level}"));
            photos.refine(network, &mut maps).map_err(|error| error.within(&what))?;
        }
        let size = work.plan.frames[view.view].map_size(level);
        let (depth, confidence) = (maps.depth.cropped(size), maps.confidence.cropped(size));
        let seconds = began.elapsed().as_secs_f64();
        let noted = span_of("write maps", || format!("{name} level {level}"));
        let hashes = job.files.write((&depth, &confidence), &job.made_by, seconds, work.hashes)?;
        drop(noted);
        job.made = Some((seconds, hashes));
        let (width, height) = size;
        stage.step(
            &format!("{name} level {level} ({width} x {height}), {}", duration(seconds)),
            cost(work.plan, view, level),
            json!({ "view": name, "level": level, "width": width, "height": height, "seconds": seconds,
                    "reused": false }),
        );
        if level == 0 {
            stage.show(|| thumbnail::draw(None, &depth, &confidence));
        }
        began = Instant::now();
    }
    Ok(())
}

/// A map's name in messages.
fn of_map(view: &str, level: usize) -> String {
    format!("view {view}, level {level}")
}

/// Decodes the photos in the order in which they are wanted. Ends when the receiver is gone.
fn decode_ahead(
    scene: &Scene,
    loads: &[Shown],
    max_side: Option<usize>,
    (levels, photos): (&Levels, &BTreeMap<usize, PhotoIdentity>),
    sender: &SyncSender<Result<Decoded>>,
) {
    for &photo in loads {
        let decoded = decode(scene, photo, max_side, &levels[&photo], &photos[&photo.photo]);
        let failed = decoded.is_err();
        if sender.send(decoded).is_err() || failed {
            return;
        }
    }
}

fn next_decoded(receiver: &Receiver<Result<Decoded>>) -> Result<Decoded> {
    // The sender only goes away early after an error that was received before, or by a panic of its thread, which the
    // end of the scope passes on.
    receiver.recv().unwrap_or(Err(Error::Interrupted))
}

/// What a level's depth is refined against.
struct Greys<'a, G> {
    reference: Option<&'a G>,
    sources: Vec<(Option<&'a G>, PlaneSweep)>,
    hypotheses: Hypotheses,
    quarter: (usize, usize),
}

impl<G> Greys<'_, G> {
    /// Moves the depths to where the photos agree best, where these are sure.
    fn refine<N: DepthNetwork<Grey = G>>(&self, network: &N, maps: &mut Estimate) -> Result<()> {
        let sweeps: Vec<PlaneSweep> = self.sources.iter().map(|s| s.1).collect();
        let scale = Scale::new(&sweeps, self.quarter, &self.hypotheses);
        let (Some(reference), Some(scale)) = (self.reference, scale) else { return Ok(()) };
        let sources = self.sources.iter().filter_map(|&(grey, sweep)| Some((grey?, sweep)));
        let (sources, step) = ncc::of_view(sources, &scale);
        network.refine(reference, &sources, step, &mut maps.depth)?;
        Ok(())
    }
}

/// A depth map's inputs, and what it is refined against.
type Inputs<'a, N> = (DepthJob<'a, <N as DepthNetwork>::Features>, Greys<'a, <N as DepthNetwork>::Grey>);

/// A depth map's inputs, from what is at hand.
fn depth_job<'a, N: DepthNetwork>(
    plan: &Plan,
    view: &ViewPlan,
    level: usize,
    features: &'a Features<N>,
) -> Result<Inputs<'a, N>> {
    let reference_camera = plan.frames[view.view].quarter_camera(level);
    let side = |(photo, look): (Shown, Look)| {
        let level = look.level(level);
        let held = features.get(&photo).and_then(|levels| levels.get(&level)).ok_or_else(|| Error::Shape {
            op: "depth",
            problem: format!("the features of view {} at level {level} are not at hand", photo.photo),
        })?;
        let (frame, level) = plan.frames[photo.photo].shown(photo.quarter_turns, level);
        Ok((held, PlaneSweep::new(&reference_camera, &frame.quarter_camera(level))))
    };
    let mut shown = view.shown().map(side);
    let Some(reference) = shown.next() else {
        return Err(Error::Bug { place: "depth", problem: "a view without a photo".into() });
    };
    let reference = reference?.0;
    let sources = shown.collect::<Result<Vec<_>>>()?;
    let hypotheses = Hypotheses::new(view.range, view.planes, view.sampling);
    let greys = Greys {
        reference: reference.grey.as_ref(),
        sources: sources.iter().map(|(held, sweep)| (held.grey.as_ref(), *sweep)).collect(),
        hypotheses: hypotheses.clone(),
        quarter: plan.frames[view.view].quarter_size(level),
    };
    let sources = sources.into_iter().map(|(held, sweep)| (&held.features, sweep)).collect();
    Ok((DepthJob { reference: &reference.features, sources, hypotheses, level }, greys))
}
