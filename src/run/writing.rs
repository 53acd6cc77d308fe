//! The maps of the first stage on their way into files: by whoever has made them, or by threads of their own. They are
//! told in the order in which they were made, whoever was faster.

use std::collections::BTreeMap;
use std::sync::mpsc::Receiver;
use std::sync::{Mutex, MutexGuard};

use serde_json::json;

use crate::draw::thumbnail;
use crate::error::{Error, Result};
use crate::files::map::Map;
use crate::host::progress::{Stage, duration};
use crate::host::trace::span_of;
use crate::run::jobs::{LevelJob, cost};
use crate::run::plan::Work;
use crate::run::resume::Hashes;

/// Maps that are there.
pub struct Made {
    /// Place of the view in the plan.
    pub place: usize,
    /// Level.
    pub level: usize,
    /// Time that they took.
    pub seconds: f64,
    /// What they are.
    pub hashes: Hashes,
}

/// Maps to be written.
pub struct Unwritten {
    /// How many came before.
    pub number: usize,
    /// Place of the view in the plan.
    pub place: usize,
    /// Level.
    pub level: usize,
    /// Time that they took.
    pub seconds: f64,
    /// Depth and confidence.
    pub maps: [Map; 2],
}

#[derive(Default)]
struct Told {
    next: usize,
    waiting: BTreeMap<usize, Result<Made>>,
    made: Vec<Made>,
    failed: Option<Error>,
}

/// Where the maps of a device go.
pub struct Writing<'a> {
    work: Work<'a>,
    jobs: &'a [Vec<LevelJob>],
    stage: &'a Mutex<Stage>,
    told: Mutex<Told>,
}

impl<'a> Writing<'a> {
    /// Of these jobs; `stage` hears of each.
    pub fn new(work: Work<'a>, jobs: &'a [Vec<LevelJob>], stage: &'a Mutex<Stage>) -> Self {
        Self { work, jobs, stage, told: Mutex::default() }
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Writes what comes until nothing does: what each of the threads is for.
    pub fn work(&self, maps: &Mutex<Receiver<Unwritten>>) {
        loop {
            let next = maps.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).recv();
            let Ok(maps) = next else { return };
            self.write(maps);
        }
    }

    /// Writes a view's maps on a level. What goes wrong is told by [`Writing::expect_all_well`].
    pub fn write(&self, unwritten: Unwritten) {
        let Unwritten { number, place, level, seconds, maps: [depth, confidence] } = unwritten;
        let name = self.work.name(&self.work.plan.views[place]);
        let noted = span_of("write maps", || format!("{name} level {level}"));
        let written = match self.jobs[place].iter().find(|job| job.level == level) {
            Some(job) => job.files.write((&depth, &confidence), job.made_by(), seconds, self.work.hashes),
            None => Err(Error::Bug { place: "depth", problem: "maps without a job".into() }),
        };
        drop(noted);
        if level == 0 && written.is_ok() {
            self.stage().show(|| thumbnail::draw(None, &depth, &confidence));
        }
        let mut told = self.told();
        told.waiting.insert(number, written.map(|hashes| Made { place, level, seconds, hashes }));
        loop {
            let next = told.next;
            match told.waiting.remove(&next) {
                Some(Ok(made)) => {
                    self.tell(&made);
                    told.made.push(made);
                }
                // Of several errors the first counts.
                Some(Err(error)) => _ = told.failed.get_or_insert(error),
                None => return,
            }
            told.next += 1;
        }
    }

    fn tell(&self, Made { place, level, seconds, .. }: &Made) {
        let Work { plan, .. } = self.work;
        let (view, level, seconds) = (&plan.views[*place], *level, *seconds);
        let (name, (width, height)) = (self.work.name(view), plan.frames[view.view].map_size(level));
        self.stage().step(
            &format!("{name} level {level} ({width} x {height}), {}", duration(seconds)),
            cost(plan, view, level),
            json!({ "view": name, "level": level, "width": width, "height": height, "seconds": seconds,
                    "reused": false }),
        );
    }

    /// Whether all that was written so far could be.
    ///
    /// # Errors
    /// What went wrong first.
    pub fn expect_all_well(&self) -> Result<()> {
        self.told().failed.take().map_or(Ok(()), Err)
    }

    /// What was made.
    pub fn made(self) -> Vec<Made> {
        self.told.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()).made
    }
}
