//! The first stage: the network on every level of every view. Levels and views do not depend on each other, so
//! each finished pair of maps is written at once and survives whatever happens to the run.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::error::{Error, Result};
use crate::host::memory_limits::{expect_room_for_threads, no_thread};
use crate::host::progress::Stage;
use crate::net::backend::DepthNetwork;
pub use crate::run::jobs::{
    DepthStage, LevelJob, LevelJobs, Levels, cost, find_finished, find_finished_of, shown_bytes,
};
use crate::run::lane::Lane;
use crate::run::plan::{Shown, ViewPlan, Work};
use crate::run::schedule::{self, Job, Step};
use crate::run::writing::Made;

/// Makes every map that is missing. `cache` is how many bytes of features each device may keep.
///
/// # Errors
/// Photos that cannot be decoded, files that cannot be written, [`crate::Error::Interrupted`]; a device's, which is
/// named where there are several.
pub fn run<N: DepthNetwork>(work: Work, network: &N, cache: u64, jobs: &mut LevelJobs) -> Result<DepthStage> {
    let plan = work.plan;
    let stage = Mutex::new(begin_stage(work, jobs));
    let (remaining, levels) = jobs.remaining(plan);
    let each = network.each();
    let place_of: BTreeMap<usize, usize> = plan.views.iter().enumerate().map(|(at, v)| (v.view, at)).collect();
    let cost = |job: &Job<Shown>| {
        let place = place_of[&job.view];
        jobs.of_views[place].iter().filter(|level| !level.reused).map(|l| cost(plan, &plan.views[place], l.level)).sum()
    };
    let bytes = |photo: Shown| shown_bytes(&plan.frames, photo, &levels);
    let shares = schedule::shares(remaining, each.len(), &cost);
    let steps = shares.into_iter().map(|share| schedule::plan(share, &bytes, cache));
    let stop = AtomicBool::new(false);
    let lane = |own: &N, steps: Vec<Step<Shown>>| {
        let lane = Lane { work, network: own, of_all: network, jobs, levels: &levels, stage: &stage, stop: &stop };
        lane.run(steps)
    };
    let made = match each[..] {
        [only] => steps.map(|steps| lane(only, steps)).collect(),
        _ => on_several(each, steps.collect(), &lane, &stop)?,
    };
    let made: Vec<_> = first_failure(made)?;
    let mut left = DepthStage::default();
    for (of_lane, made) in made {
        left.notes.extend(of_lane.notes);
        for (photo, seconds) in of_lane.photo_seconds {
            let all = left.photo_seconds.entry(photo).or_default();
            all.decoding += seconds.decoding;
            all.features += seconds.features;
        }
        for Made { place, level, seconds, hashes } in made {
            if let Some(job) = jobs.of_views[place].iter_mut().find(|job| job.level == level) {
                job.made = Some((seconds, hashes));
            }
        }
    }
    Ok(left)
}

/// What came of a device's share.
type OfLane = Result<(DepthStage, Vec<Made>)>;

/// Each device's steps on a thread of its own; once one has failed the others stop.
fn on_several<N: DepthNetwork>(
    each: Vec<&N>,
    steps: Vec<Vec<Step<Shown>>>,
    lane: &(dyn Fn(&N, Vec<Step<Shown>>) -> OfLane + Sync),
    stop: &AtomicBool,
) -> Result<Vec<OfLane>> {
    expect_room_for_threads(each.len())?;
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for (i, (own, steps)) in each.into_iter().zip(steps).enumerate() {
            let work = move || {
                let made = lane(own, steps);
                if made.is_err() {
                    stop.store(true, Ordering::Relaxed);
                }
                made.map_err(|error| error.within(&own.device_alone()))
            };
            let started = std::thread::Builder::new().name(format!("device {i}")).spawn_scoped(scope, work);
            threads.push(started.map_err(|error| {
                stop.store(true, Ordering::Relaxed);
                no_thread("the threads of the devices", &error)
            })?);
        }
        let joined = |thread: std::thread::ScopedJoinHandle<OfLane>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        Ok(threads.into_iter().map(joined).collect())
    })
}

/// All results, or what went wrong where something did; the others only stopped.
fn first_failure<T>(results: Vec<Result<T>>) -> Result<Vec<T>> {
    let (mut made, mut failed) = (Vec::new(), None);
    for result in results {
        match result {
            Ok(of_lane) => made.push(of_lane),
            Err(Error::Interrupted) => failed = failed.or(Some(Error::Interrupted)),
            Err(error) if matches!(failed, None | Some(Error::Interrupted)) => failed = Some(error),
            Err(_) => {}
        }
    }
    failed.map_or(Ok(made), Err)
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
