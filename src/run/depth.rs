//! The first stage: the network on every level of every view. Levels and views do not depend on each other, so
//! each finished pair of maps is written at once and survives whatever happens to the run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use serde_json::json;

use crate::error::{Error, Result};
use crate::host::interrupt;
use crate::host::progress::{Stage, duration};
use crate::host::trace::span_of;
use crate::manifest::PhotoSeconds;
use crate::net::backend::{DepthJob, DepthNetwork};
use crate::run::plan::{Frame, Plan, ViewPlan, Work};
use crate::run::resume::{LevelFiles, MadeBy, PhotoIdentity};
use crate::run::schedule::{self, Job, Step};
use crate::scene::Scene;
use crate::scene::camera::{Hypotheses, PlaneSweep};
use crate::scene::photo::Photo;

/// One pair of maps to make or found made.
pub struct LevelJob {
    /// The pyramid level.
    pub level: usize,
    /// Where the maps go.
    pub files: LevelFiles,
    made_by: MadeBy,
    /// Time that the maps took, once they are there.
    pub seconds: Option<f64>,
    /// Whether an earlier run made them.
    pub reused: bool,
}

/// The maps of all views on all levels, `[view of the plan][level]`.
pub struct LevelJobs(pub Vec<Vec<LevelJob>>);

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
    let Work { scene, plan, options, out, .. } = work;
    let used: BTreeSet<usize> =
        plan.views.iter().flat_map(|v| std::iter::once(v.view).chain(v.sources.iter().copied())).collect();
    let mut photos = BTreeMap::new();
    for view in used {
        interrupt::check()?;
        photos.insert(view, PhotoIdentity::new(&scene.views[view], &plan.frames[view])?);
    }
    let job = |view: &ViewPlan, level: usize| {
        let files = LevelFiles::new(out, level, work.name(view));
        let made_by = MadeBy::new(level, view, &photos, network);
        let seconds = files.finished(&made_by);
        LevelJob { level, files, made_by, seconds, reused: seconds.is_some() }
    };
    let of_view = |view: &ViewPlan| (0..options.levels).map(|level| job(view, level)).collect();
    Ok(LevelJobs(plan.views.iter().map(of_view).collect()))
}

impl LevelJobs {
    /// Whether nothing is left to do.
    pub fn all_finished(&self) -> bool {
        self.0.iter().flatten().all(|job| job.reused)
    }

    /// The views with something left, and the levels that each photo's features are needed on.
    fn remaining(&self, plan: &Plan) -> (Vec<Job>, BTreeMap<usize, BTreeSet<usize>>) {
        let mut jobs = Vec::new();
        let mut levels_of_photo: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for (view, of_view) in plan.views.iter().zip(&self.0) {
            let missing: Vec<usize> = of_view.iter().filter(|j| !j.reused).map(|j| j.level).collect();
            if missing.is_empty() {
                continue;
            }
            let job = Job { view: view.view, sources: view.sources.clone() };
            for photo in job.photos() {
                levels_of_photo.entry(photo).or_default().extend(&missing);
            }
            jobs.push(job);
        }
        (jobs, levels_of_photo)
    }

    /// Bytes of features that must be, and that could usefully be, in memory at once.
    pub fn cache_bounds(&self, plan: &Plan) -> (u64, u64) {
        let (jobs, levels) = self.remaining(plan);
        let bytes = |photo: usize| photo_bytes(&plan.frames[photo], levels.get(&photo));
        (schedule::least_cache(&jobs, &bytes), levels.keys().map(|&photo| bytes(photo)).sum())
    }
}

fn photo_bytes(frame: &Frame, levels: Option<&BTreeSet<usize>>) -> u64 {
    levels.into_iter().flatten().map(|&level| frame.feature_bytes(level)).sum()
}

/// A decoded photo with all that is taken from it before it is let go.
struct Decoded {
    /// Levels 0, 1, ..., as far as any is needed, padded to multiples of 4.
    levels: Vec<Photo>,
    notes: Vec<String>,
    seconds: f64,
}

fn decode(scene: &Scene, view: usize, max_side: Option<usize>, levels: usize) -> Result<Decoded> {
    let began = Instant::now();
    let _span = span_of("decode", || scene.views[view].name.clone());
    let loaded = Photo::load(&scene.views[view], max_side)?;
    let mut padded = Vec::with_capacity(levels);
    let mut photo = loaded.photo;
    for level in 0..levels {
        if level > 0 {
            photo = photo.pyramid_level();
        }
        padded.push(photo.padded_to_multiple_of_4());
    }
    Ok(Decoded { levels: padded, notes: loaded.notes, seconds: began.elapsed().as_secs_f64() })
}

/// Features that are at hand, by photo and level.
type Features<F> = BTreeMap<usize, BTreeMap<usize, F>>;

/// Makes every map that is missing. `cache` is how many bytes of features may be kept.
///
/// # Errors
/// Photos that cannot be decoded, files that cannot be written, [`Error::Interrupted`].
pub fn run<N: DepthNetwork>(work: Work, network: &N, cache: u64, jobs: &mut LevelJobs) -> Result<DepthStage> {
    let Work { scene, plan, options, .. } = work;
    let mut stage = begin_stage(work, jobs);
    let (remaining, levels_of_photo) = jobs.remaining(plan);
    let steps = schedule::plan(remaining, &|p| photo_bytes(&plan.frames[p], levels_of_photo.get(&p)), cache);
    let loads: Vec<usize> = steps.iter().flat_map(|s| s.load.iter().copied()).collect();
    let deepest = levels_of_photo.values().flatten().max().map_or(0, |&level| level + 1);
    let mut left = DepthStage::default();
    let mut features: Features<N::Features> = BTreeMap::new();

    std::thread::scope(|scope| {
        // A rendezvous: the next photo is decoded while the network works, but never more than one ahead.
        let (sender, receiver) = sync_channel(0);
        scope.spawn(move || decode_ahead(scene, &loads, options.max_side, deepest, &sender));
        for Step { job, drop: dropped, load } in steps {
            for photo in dropped {
                features.remove(&photo);
            }
            for photo in load {
                interrupt::check()?;
                let decoded = next_decoded(&receiver)?;
                let began = Instant::now();
                let noted = span_of("features", || scene.views[photo].name.clone());
                let wanted = levels_of_photo.get(&photo).into_iter().flatten();
                let of_levels = wanted
                    .filter_map(|&level| Some((level, decoded.levels.get(level)?)))
                    .map(|(level, image)| Ok((level, network.features(image)?)))
                    .collect::<Result<_>>()?;
                drop(noted);
                features.insert(photo, of_levels);
                let seconds = left.photo_seconds.entry(photo).or_default();
                seconds.decoding += decoded.seconds;
                seconds.features += began.elapsed().as_secs_f64();
                left.notes.extend(decoded.notes);
            }
            if let Some(at) = plan.views.iter().position(|v| v.view == job.view) {
                make_maps(work, network, &plan.views[at], &features, &mut jobs.0[at], &mut stage)?;
            }
        }
        Ok(())
    })?;
    Ok(left)
}

/// What a pair of maps costs, in no unit.
fn cost(plan: &Plan, view: &ViewPlan, level: usize) -> u64 {
    let (width, height) = plan.frames[view.view].map_size(level);
    (width * height) as u64 * view.planes as u64 * (view.sources.len() as u64 + 1)
}

/// Begins the stage and passes over the maps that are there.
fn begin_stage(work: Work, jobs: &LevelJobs) -> Stage {
    let Work { plan, progress, .. } = work;
    let all: Vec<(&ViewPlan, &LevelJob)> =
        plan.views.iter().zip(&jobs.0).flat_map(|(v, of_view)| of_view.iter().map(move |job| (v, job))).collect();
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
    features: &Features<N::Features>,
    jobs: &mut [LevelJob],
    stage: &mut Stage,
) -> Result<()> {
    let name = work.name(view);
    let mut began = Instant::now();
    let mut pending = Vec::new();
    for job in jobs.iter_mut().filter(|job| job.seconds.is_none()) {
        let maps = network.begin(job.level, depth_job(work.plan, view, job.level, features)?)?;
        pending.push((job, maps));
    }
    for (job, maps) in pending {
        interrupt::check()?;
        let level = job.level;
        let noted = span_of("depth", || format!("{name} level {level}"));
        let maps = network.finish(maps)?;
        drop(noted);
        let seconds = began.elapsed().as_secs_f64();
        let noted = span_of("write maps", || format!("{name} level {level}"));
        job.files.write(&maps.depth, &maps.confidence, &job.made_by, seconds)?;
        drop(noted);
        job.seconds = Some(seconds);
        let (width, height) = (maps.depth.width, maps.depth.height);
        stage.step(
            &format!("{name} level {level} ({width} x {height}), {}", duration(seconds)),
            cost(work.plan, view, level),
            json!({ "view": name, "level": level, "width": width, "height": height, "seconds": seconds,
                    "reused": false }),
        );
        began = Instant::now();
    }
    Ok(())
}

/// Decodes the photos in the order in which they are wanted. Ends when the receiver is gone.
fn decode_ahead(
    scene: &Scene,
    loads: &[usize],
    max_side: Option<usize>,
    levels: usize,
    sender: &SyncSender<Result<Decoded>>,
) {
    for &photo in loads {
        let decoded = decode(scene, photo, max_side, levels);
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

/// A depth map's inputs, from the features at hand.
fn depth_job<'a, F>(plan: &Plan, view: &ViewPlan, level: usize, features: &'a Features<F>) -> Result<DepthJob<'a, F>> {
    let of = |photo: usize| {
        features.get(&photo).and_then(|levels| levels.get(&level)).ok_or_else(|| Error::Shape {
            op: "depth",
            problem: format!("the features of view {photo} at level {level} are not at hand"),
        })
    };
    let reference_camera = plan.frames[view.view].map_camera(level);
    let sweep = |source: usize| PlaneSweep::new(&reference_camera, &plan.frames[source].map_camera(level));
    let sources = view.sources.iter().map(|&s| Ok((of(s)?, sweep(s)))).collect::<Result<Vec<_>>>()?;
    let hypotheses = Hypotheses::new(view.range, view.planes, view.sampling);
    Ok(DepthJob { reference: of(view.view)?, sources, hypotheses })
}
