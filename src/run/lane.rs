//! The first stage on one device: photos are decoded ahead by some threads, the network works on them, and maps are
//! written by others. Where several devices share a run, each has a lane with features of its own.
//!
//! On a device the next view's work is queued before the maps of the one before are waited for, so that the device
//! never waits for the processor ([`crate::net::backend::Pipeline`]).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Instant;

use crate::cpu::ops::ncc;
use crate::error::{Error, Result};
use crate::host::interrupt;
use crate::host::memory_limits::{expect_room_for_threads, no_thread};
use crate::host::progress::Stage;
use crate::host::trace::{span, span_of};
use crate::net::backend::{DepthJob, DepthNetwork, OfPhoto, PhotoWanted, Pipeline, Refinement};
use crate::net::confidence::Scale;
use crate::run::ahead::Ahead;
use crate::run::jobs::{DepthStage, LevelJobs, Levels};
use crate::run::memory::pipeline_of;
use crate::run::plan::{Shown, Work};
use crate::run::resume::PhotoIdentity;
use crate::run::schedule::Step;
use crate::run::writing::{Made, Unwritten, Writing};
use crate::scene::Scene;
use crate::scene::camera::{Hypotheses, PlaneSweep};
use crate::scene::look::Look;
use crate::scene::photo::Photo;

/// A decoded photo as the network takes it.
struct Decoded<P> {
    prepared: P,
    notes: Vec<String>,
    seconds: f64,
}

/// What is at hand, by photo and level.
type Features<N> = BTreeMap<Shown, BTreeMap<i32, OfPhoto<<N as DepthNetwork>::Features, <N as DepthNetwork>::Grey>>>;

/// A map that is being made.
struct Begun<P> {
    place: usize,
    level: usize,
    began: Instant,
    pending: P,
}

/// What a lane shares with the others.
pub struct Lane<'a, N> {
    /// The run.
    pub work: Work<'a>,
    /// Its own device; what all of them together do at the same time follows from `of_all`.
    pub network: &'a N,
    /// All devices of the run.
    pub of_all: &'a N,
    /// All jobs.
    pub jobs: &'a LevelJobs,
    /// On which levels features of each photo are needed.
    pub levels: &'a Levels,
    /// Hears of every map.
    pub stage: &'a Mutex<Stage>,
    /// Another lane has failed.
    pub stop: &'a AtomicBool,
}

/// A lane's way to the threads that write.
struct Ways<'a> {
    pipeline: Pipeline,
    writing: &'a Writing<'a>,
    writers: Option<SyncSender<Unwritten>>,
    /// Maps that were given to be written.
    written: usize,
}

impl Ways<'_> {
    fn write(&mut self, place: usize, level: usize, seconds: f64, maps: [crate::files::map::Map; 2]) {
        let unwritten = Unwritten { number: self.written, place, level, seconds, maps };
        self.written += 1;
        match &self.writers {
            // They only go away by a panic, which the end of their scope passes on.
            Some(writers) => _ = writers.send(unwritten),
            None => self.writing.write(unwritten),
        }
    }
}

impl<N: DepthNetwork> Lane<'_, N> {
    /// Makes the maps of these steps.
    ///
    /// # Errors
    /// Photos that cannot be decoded, files that cannot be written, the device's; [`Error::Interrupted`], also where
    /// another lane has failed.
    pub fn run(&self, steps: Vec<Step<Shown>>) -> Result<(DepthStage, Vec<Made>)> {
        let pipeline = pipeline_of(self.of_all);
        let loads: Vec<Shown> = steps.iter().flat_map(|s| s.load.iter().copied()).collect();
        let photos = Ahead::new(loads.len(), pipeline.decoders);
        let writing = Writing::new(self.work, &self.jobs.of_views, self.stage);
        let (sender, receiver) = sync_channel(pipeline.writers);
        let receiver = Mutex::new(receiver);
        let mut left = DepthStage::default();
        expect_room_for_threads(pipeline.decoders + pipeline.writers)?;
        std::thread::scope(|scope| {
            let _closing = photos.until_dropped();
            let begin =
                |name: String, what: &str, work: &mut dyn FnMut(std::thread::Builder) -> std::io::Result<()>| {
                    work(std::thread::Builder::new().name(name)).map_err(|error| no_thread(what, &error))
                };
            for i in 0..pipeline.decoders.min(loads.len()) {
                begin(format!("decoder {i}"), "the threads that decode photos", &mut |thread| {
                    let decode = || photos.work(|number| self.decode(loads[number]));
                    thread.spawn_scoped(scope, decode).map(|_| ())
                })?;
            }
            for i in 0..pipeline.writers {
                begin(format!("writer {i}"), "the threads that write maps", &mut |thread| {
                    thread.spawn_scoped(scope, || writing.work(&receiver)).map(|_| ())
                })?;
            }
            let writers = (pipeline.writers > 0).then_some(sender);
            let ways = Ways { pipeline, writing: &writing, writers, written: 0 };
            self.steps(steps, &photos, ways, &mut left)
        })?;
        writing.expect_all_well()?;
        self.network.release();
        Ok((left, writing.made()))
    }

    fn go_on(&self, writing: &Writing) -> Result<()> {
        interrupt::check()?;
        writing.expect_all_well()?;
        if self.stop.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
    }

    fn decode(&self, shown: Shown) -> Result<Decoded<N::Prepared>> {
        let Work { scene, options, .. } = self.work;
        let began = Instant::now();
        let wanted =
            PhotoWanted { levels: self.levels[&shown].clone(), finest: options.resolution, grey: options.refines() };
        let (photo, notes) = decoded(scene, shown, options.max_side, &self.jobs.photos[&shown.photo])?;
        let what = of_features(scene, shown);
        let prepared = self.network.prepare(photo, &wanted).map_err(|error| error.within(&what))?;
        Ok(Decoded { prepared, notes, seconds: began.elapsed().as_secs_f64() })
    }

    fn steps(
        &self,
        steps: Vec<Step<Shown>>,
        photos: &Ahead<Result<Decoded<N::Prepared>>>,
        mut ways: Ways,
        left: &mut DepthStage,
    ) -> Result<()> {
        let Work { scene, plan, .. } = self.work;
        let place_of: BTreeMap<usize, usize> = plan.views.iter().enumerate().map(|(at, v)| (v.view, at)).collect();
        let mut features: Features<N> = BTreeMap::new();
        let mut begun = VecDeque::new();
        for Step { job, drop: dropped, load } in steps {
            for photo in dropped {
                features.remove(&photo);
            }
            for photo in load {
                self.go_on(ways.writing)?;
                // Threads only end before the last photo by a panic, which the end of their scope passes on.
                let decoded = photos.take().unwrap_or(Err(Error::Interrupted))?;
                let began = Instant::now();
                let noted = span_of("features", || scene.views[photo.photo].name.clone());
                let what = of_features(scene, photo);
                self.network.about(&what);
                let made = self.network.of_photo(decoded.prepared).map_err(|error| error.within(&what))?;
                drop(noted);
                features.insert(photo, made);
                let seconds = left.photo_seconds.entry(photo.photo).or_default();
                seconds.decoding += decoded.seconds;
                seconds.features += began.elapsed().as_secs_f64();
                left.notes.extend(decoded.notes);
            }
            if let Some(&place) = place_of.get(&job.view) {
                self.begin_view(place, &features, &mut begun, &mut ways)?;
            }
        }
        while let Some(next) = begun.pop_front() {
            self.finish(next, &mut ways)?;
        }
        Ok(())
    }

    /// Begins the missing maps of one view, and finishes those of the views that are enough ahead of it.
    fn begin_view(
        &self,
        place: usize,
        features: &Features<N>,
        begun: &mut VecDeque<Begun<N::Pending>>,
        ways: &mut Ways,
    ) -> Result<()> {
        let name = self.work.name(&self.work.plan.views[place]);
        let at_once = ways.pipeline.views <= 1;
        for job in self.jobs.of_views[place].iter().filter(|job| job.made.is_none()) {
            self.go_on(ways.writing)?;
            let (level, began) = (job.level, Instant::now());
            let noted = at_once.then(|| span_of("depth", || format!("{name} level {level}")));
            let (of_level, refinement) = self.depth_job(place, level, features)?;
            let what = of_map(name, level);
            self.network.about(&what);
            let pending = self.network.begin_refined(level, of_level, refinement);
            let pending = pending.map_err(|error| error.within(&what))?;
            drop(noted);
            begun.push_back(Begun { place, level, began, pending });
            if at_once {
                self.finish_before(begun, None, ways)?;
            }
        }
        // The oldest view whose maps need not be waited for yet.
        let mut views: Vec<usize> = begun.iter().map(|map| map.place).collect();
        views.dedup();
        let first = views.len().checked_sub(ways.pipeline.views.saturating_sub(1));
        self.finish_before(begun, first.and_then(|first| views.get(first).copied()), ways)
    }

    /// Finishes the maps before those of a view, or all.
    fn finish_before(
        &self,
        begun: &mut VecDeque<Begun<N::Pending>>,
        place: Option<usize>,
        ways: &mut Ways,
    ) -> Result<()> {
        while begun.front().is_some_and(|map| Some(map.place) != place) {
            let Some(next) = begun.pop_front() else { break };
            self.finish(next, ways)?;
        }
        Ok(())
    }

    fn finish(&self, Begun { place, level, began, pending }: Begun<N::Pending>, ways: &mut Ways) -> Result<()> {
        self.go_on(ways.writing)?;
        let view = &self.work.plan.views[place];
        let what = of_map(self.work.name(view), level);
        let noted = (ways.pipeline.views > 1).then(|| span_of("depth", || what.replace(',', "")));
        let made = self.network.finish(pending).map_err(|error| error.within(&what))?;
        drop(noted);
        let size = self.work.plan.frames[view.view].map_size(level);
        let maps = [made.depth.cropped(size), made.confidence.cropped(size)];
        let _span = ways.writers.is_some().then(|| span("give maps to be written"));
        ways.write(place, level, began.elapsed().as_secs_f64(), maps);
        Ok(())
    }

    /// A depth map's inputs, from what is at hand.
    #[allow(clippy::type_complexity, reason = "two types of the network, each named where it comes from")]
    fn depth_job<'f>(
        &self,
        place: usize,
        level: usize,
        features: &'f Features<N>,
    ) -> Result<(DepthJob<'f, N::Features>, Option<Refinement<'f, N::Grey>>)> {
        let Work { scene, plan, .. } = self.work;
        let view = &plan.views[place];
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
        let mut hypotheses = Hypotheses::new(view.range, view.planes, view.sampling);
        let size = plan.frames[view.view].quarter_size(level);
        hypotheses.expected = scene.views[view.view].expected((&reference_camera, size), &hypotheses)?;
        let refinement = reference.grey.as_ref().and_then(|reference| {
            let sweeps: Vec<PlaneSweep> = sources.iter().map(|source| source.1).collect();
            let scale = Scale::new(&sweeps, size, &hypotheses)?;
            let sources = sources.iter().filter_map(|(held, sweep)| Some((held.grey.as_ref()?, *sweep)));
            let (sources, step) = ncc::of_view(sources, &scale);
            Some(Refinement { reference, sources, step })
        });
        let sources = sources.into_iter().map(|(held, sweep)| (&held.features, sweep)).collect();
        Ok((DepthJob { reference: &reference.features, sources, hypotheses, level }, refinement))
    }
}

/// A map's name in messages.
fn of_map(view: &str, level: usize) -> String {
    format!("view {view}, level {level}")
}

/// A photo's name in messages about its features.
fn of_features(scene: &Scene, photo: Shown) -> String {
    format!("features of view {}", scene.views[photo.photo].name)
}

/// A photo as it is shown to the network, and what there is to be said about it.
fn decoded(
    scene: &Scene,
    shown: Shown,
    max_side: Option<usize>,
    identity: &PhotoIdentity,
) -> Result<(Photo, Vec<String>)> {
    let view = &scene.views[shown.photo];
    let _span = span_of("decode", || view.name.clone());
    let loaded = Photo::load(view, max_side)?;
    identity.expect(&view.image, &loaded.sha256)?;
    Ok((loaded.photo.turned(shown.quarter_turns), loaded.notes))
}
