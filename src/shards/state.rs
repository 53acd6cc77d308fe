//! How far a shard is: a small file of its own, `OUT/shards/I-of-N.json` (of tiles, `tiles/J-of-M.json`), written again
//! every few seconds while its process lives.
//!
//! Nothing depends on these files but what people are told: what is done is told by the maps' own records. Machines'
//! clocks may differ by hours, so a file's age is taken from the times that the file system itself gives.

use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files::{folder, input, mirror};
use crate::host::copies::named;
use crate::host::{interrupt, memory};
use crate::shards::which::Shard;

/// Seconds between two signs of life.
const BEAT: Duration = Duration::from_secs(5);
/// Seconds without a sign of life after which a process is taken for lost: several beats, and what a network file
/// system may keep back.
const LOST_AFTER: f64 = 60.0;

/// What a process does with its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Makes the level maps of its views.
    Maps,
    /// Merges them into the finished maps.
    Merge,
    /// Makes the points or the surface of its tiles.
    Tiles,
}

/// How it stands with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// Its process lives, if the file is fresh.
    Running,
    /// All of it is there.
    Done,
    /// It ended with an error.
    Failed,
    /// The user or the scheduler has stopped it.
    Stopped,
}

/// The file's content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardState {
    /// The hash in the plan.
    pub plan: String,
    /// The shard's number, from 1.
    pub shard: usize,
    /// How many there are.
    pub of: usize,
    /// What is done with it.
    pub stage: Stage,
    /// How it stands.
    pub condition: Condition,
    /// The machine.
    pub host: String,
    /// The process there.
    pub pid: u32,
    /// When it began, by the machine's clock.
    pub since_unix_s: u64,
    /// Signs of life so far.
    pub beats: u64,
    /// Seconds since it began.
    pub seconds: f64,
    /// Views or tiles of the shard.
    pub count: usize,
    /// Those that are finished.
    pub done: usize,
    /// Those that were finished before it began.
    pub found: usize,
    /// Why it ended, where it ended early.
    pub message: Option<String>,
    /// The most memory that it held, in bytes, where the system tells.
    pub memory_peak: Option<u64>,
}

impl ShardState {
    /// The place of a shard's file in the folder of such files.
    pub fn path(folder: &Path, shard: Shard, stage: Stage) -> PathBuf {
        let Shard { number, of } = shard;
        let ending = match stage {
            Stage::Maps | Stage::Tiles => "json",
            Stage::Merge => "merge.json",
        };
        folder.join(format!("{number}-of-{of}.{ending}"))
    }

    /// What a file tells, if it can be read and is of the plan with this hash.
    pub fn read(file: &Path, plan: &str) -> Option<Self> {
        let bytes = input::read(file, "read the shard's state").ok()?;
        serde_json::from_slice(&bytes).ok().filter(|state: &Self| state.plan == plan)
    }

    /// How it stands, by a word, when it was last heard of so many seconds ago.
    pub fn word(&self, silent_for: f64) -> &'static str {
        match self.condition {
            Condition::Running if silent_for > LOST_AFTER => "lost",
            Condition::Running => "running",
            Condition::Failed => "failed",
            Condition::Stopped => "stopped",
            Condition::Done => "done",
        }
    }

    /// The seconds that a view or tile takes, once one is done.
    pub fn seconds_each(&self) -> Option<f64> {
        let made = self.done.saturating_sub(self.found);
        (made > 0).then(|| self.seconds / made as f64)
    }
}

/// What of a plan a process works on.
pub struct Part<'a> {
    /// The folder of the shards' files.
    pub folder: PathBuf,
    /// The plan's file.
    pub plan_file: PathBuf,
    /// The hash in it.
    pub plan: &'a str,
    /// Whether it still has this hash, as far as it can be read.
    pub holds: &'a (dyn Fn() -> bool + Sync),
    /// The shard.
    pub shard: Shard,
    /// What is done with it.
    pub stage: Stage,
    /// Views or tiles of the shard.
    pub count: usize,
}

impl Part<'_> {
    /// Does the work, and keeps the shard's file up to date meanwhile. `done` counts the views or tiles that are
    /// finished.
    ///
    /// # Errors
    /// Those of `work`; a plan that was replaced by another one meanwhile; the system's, where the file cannot be
    /// written.
    pub fn told<T>(&self, done: impl Fn() -> usize + Sync, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let file = ShardState::path(&self.folder, self.shard, self.stage);
        let (began, found) = (Instant::now(), done());
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
        let state = |condition, beats, message: Option<String>| ShardState {
            plan: self.plan.to_owned(),
            shard: self.shard.number,
            of: self.shard.of,
            stage: self.stage,
            condition,
            host: sysinfo::System::host_name().unwrap_or_default(),
            pid: std::process::id(),
            since_unix_s: since,
            beats,
            seconds: began.elapsed().as_secs_f64(),
            count: self.count,
            done: done(),
            found,
            message,
            memory_peak: memory::peak(),
        };
        let write = |state: &ShardState| folder::write_json(&file, "write the shard's state", state);
        write(&state(Condition::Running, 0, None))?;

        let (ended, replaced) = ((Mutex::new(false), Condvar::new()), Mutex::new(false));
        let beat = || {
            let mut beats = 0;
            let mut looked_at = modified(&self.plan_file);
            let mut over = ended.0.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                // Work may be over before this thread has begun.
                let is_at_work = |over: &mut bool| !*over;
                over = ended.1.wait_timeout_while(over, BEAT, is_at_work).unwrap_or_else(PoisonError::into_inner).0;
                if *over {
                    return;
                }
                beats += 1;
                // What cannot be reached now will be at the next beat, or where it is needed.
                let _ = mirror::look_again(&self.plan_file);
                // It only serves people: what cannot be written is no reason to stop.
                let _ = write(&state(Condition::Running, beats, None));
                if modified(&self.plan_file) != looked_at {
                    looked_at = modified(&self.plan_file);
                    if !(self.holds)() {
                        *replaced.lock().unwrap_or_else(PoisonError::into_inner) = true;
                        interrupt::ask_to_stop();
                        return;
                    }
                }
            }
        };
        let result = std::thread::scope(|scope| {
            let heart = std::thread::Builder::new().name("heartbeat".into()).spawn_scoped(scope, beat);
            let result = work();
            *ended.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
            ended.1.notify_all();
            // Without a heart the work goes on; it only looks lost meanwhile.
            drop(heart);
            result
        });
        let result = match result {
            Err(Error::Interrupted) if *replaced.lock().unwrap_or_else(PoisonError::into_inner) => Err(Error::input(
                self.plan_file.display().to_string(),
                "another plan than when this shard began",
                "one plan for all shards; start the shards of the new one",
            )),
            result => result,
        };
        match result {
            Ok(value) => write(&state(Condition::Done, 0, None)).map(|()| value),
            Err(error) => {
                let condition =
                    if matches!(error, Error::Interrupted) { Condition::Stopped } else { Condition::Failed };
                // The error itself counts more.
                let _ = write(&state(condition, 0, Some(named(&error.to_string()).into_owned())));
                Err(error)
            }
        }
    }
}

/// When a file was written, if it is there.
pub fn modified(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file).and_then(|data| data.modified()).ok()
}

/// Seconds since a file was written, by the clock of the file system that it lies in: that of a file which is written
/// beside it now. Where nothing can be written there, by this machine's clock.
pub fn age(file: &Path, now: SystemTime) -> Option<f64> {
    let modified = modified(file)?;
    Some(now.duration_since(modified).map_or(0.0, |age| age.as_secs_f64()))
}

/// What the file system of a folder takes for now, and whether it is in truth this machine's clock.
pub fn now_in(folder: &Path) -> (SystemTime, bool) {
    let there = tempfile::Builder::new().prefix(".engine-").suffix(".part").tempfile_in(folder);
    let there = there.and_then(|file| file.as_file().metadata()).and_then(|data| data.modified());
    there.map_or_else(|_| (SystemTime::now(), true), |time| (time, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_told_whatever_it_is() {
        let root = tempfile::tempdir().unwrap();
        let (folder, shard) = (root.path().to_owned(), Shard { number: 1, of: 1 });
        let [file, of_merging] = [Stage::Maps, Stage::Merge].map(|stage| ShardState::path(&folder, shard, stage));
        let plan_file = folder.join("plan.json");
        let part = Part { folder, plan_file, plan: "1", holds: &|| true, shard, stage: Stage::Maps, count: 1 };
        let read = || ShardState::read(&file, "1").unwrap();
        let work = || {
            assert_eq!(read().condition, Condition::Running);
            Ok(())
        };
        part.told(|| 0, work).unwrap();
        assert_eq!((read().condition, read().message), (Condition::Done, None));
        let failed = part.told(|| 0, || Err::<(), _>(Error::Nothing("no photo".into()))).unwrap_err();
        assert_eq!((read().condition, read().message), (Condition::Failed, Some(failed.to_string())));
        part.told(|| 0, || Err::<(), _>(Error::Interrupted)).unwrap_err();
        assert_eq!(read().condition, Condition::Stopped);
        assert_eq!(ShardState::read(&file, "2"), None, "of another plan");
        assert_eq!(ShardState::read(&of_merging, "1"), None);
    }

    #[test]
    fn ages_are_those_of_the_file_system() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("state");
        let written = std::fs::File::create(&file).unwrap();
        let (now, is_own) = now_in(root.path());
        assert!(!is_own && age(&file, now).unwrap() < 5.0);
        written.set_modified(now - Duration::from_secs(90)).unwrap();
        assert!((89.0..95.0).contains(&age(&file, now).unwrap()));
        written.set_modified(now + Duration::from_secs(3600)).unwrap();
        assert_eq!(age(&file, now), Some(0.0));
        assert!(now_in(&root.path().join("none")).1);
    }
}
