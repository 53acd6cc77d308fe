//! Samples made ahead of time, on threads of their own.
//!
//! Each loader thread has its own pool of one thread for whatever a dataset does in parallel: in the global pool a
//! photo that is being rendered would hold up the network's operations, each of which waits for its slowest task.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::sample::{Dataset, TrainingSample};
use crate::host::memory_limits::{expect_room_for_threads, no_thread};
use crate::{Error, Result};

/// How much is made ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefetchOptions {
    /// Threads that make samples, at least 1.
    pub threads: usize,
    /// Samples that are made or being made beyond the one that is asked for next, at least 1.
    pub capacity: usize,
}

impl Default for PrefetchOptions {
    /// One thread, four samples.
    fn default() -> Self {
        Self { threads: 1, capacity: 4 }
    }
}

/// Gives the samples at the positions `start`, `start + 1`, ... of a row, in this order, whatever the number of
/// threads.
pub struct Prefetch {
    shared: Arc<Shared>,
    loaders: Vec<JoinHandle<()>>,
    index: Arc<dyn Fn(u64) -> u64 + Send + Sync>,
    capacity: usize,
}

struct Shared {
    queue: Mutex<Queue>,
    /// A sample has been made.
    made: Condvar,
    /// There is room for another one, or the end has come.
    room: Condvar,
}

struct Queue {
    /// What the next loader begins with.
    begin: u64,
    /// What the caller gets next.
    next: u64,
    ready: BTreeMap<u64, Result<TrainingSample>>,
    stopped: bool,
}

impl Shared {
    /// No code that can panic runs under the lock, so a poisoned one holds a sound queue.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Prefetch {
    /// Starts the loaders. `index` says which sample of the dataset is at a position of the row, `views` how many views
    /// the sample of an index is asked for with.
    ///
    /// # Errors
    /// Options out of their range; a system that gives no threads.
    pub fn new(
        dataset: Arc<dyn Dataset>,
        options: PrefetchOptions,
        start: u64,
        index: impl Fn(u64) -> u64 + Send + Sync + 'static,
        views: impl Fn(u64) -> usize + Send + Sync + 'static,
    ) -> Result<Self> {
        let PrefetchOptions { threads, capacity } = options;
        for (name, value) in [("loader threads", threads), ("samples made ahead", capacity)] {
            if value == 0 {
                return Err(Error::input(name, "0", "at least 1"));
            }
        }
        let queue = Queue { begin: start, next: start, ready: BTreeMap::new(), stopped: false };
        let shared = Arc::new(Shared { queue: Mutex::new(queue), made: Condvar::new(), room: Condvar::new() });
        let index: Arc<dyn Fn(u64) -> u64 + Send + Sync> = Arc::new(index);
        let views: Arc<dyn Fn(u64) -> usize + Send + Sync> = Arc::new(views);
        // Filled one by one: if a later thread cannot be had, dropping this ends the earlier ones.
        let mut prefetch = Self { shared, loaders: Vec::new(), index: Arc::clone(&index), capacity };
        // Each has a pool of its own beside it.
        expect_room_for_threads(2 * threads)?;
        for number in 0..threads {
            let refused = |e: &dyn std::fmt::Display| no_thread(&format!("loader thread {number}"), e);
            let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().map_err(|e| refused(&e))?;
            let (shared, dataset) = (Arc::clone(&prefetch.shared), Arc::clone(&dataset));
            let (index, views) = (Arc::clone(&index), Arc::clone(&views));
            let load = move || {
                while let Some(position) = begin_next(&shared, capacity) {
                    let index = index(position);
                    let sample = caught(index, || pool.install(|| dataset.sample(index, views(index))));
                    let mut queue = shared.lock();
                    queue.ready.insert(position, sample);
                    shared.made.notify_all();
                }
            };
            let builder = std::thread::Builder::new().name(format!("loader {number}"));
            prefetch.loaders.push(builder.spawn(load).map_err(|e| refused(&e))?);
        }
        Ok(prefetch)
    }

    /// The next sample's index, the sample, and how long the caller had to wait for it. After an error the next call
    /// goes on with the position after it.
    ///
    /// # Errors
    /// [`Error::Sample`] with the dataset's error; [`Error::Bug`] in it where the dataset panicked.
    #[expect(clippy::should_implement_trait, reason = "the row never ends, so an Option would say nothing")]
    pub fn next(&mut self) -> Result<(u64, TrainingSample, Duration)> {
        let asked = Instant::now();
        let mut queue = self.shared.lock();
        let position = queue.next;
        let sample = loop {
            if let Some(sample) = queue.ready.remove(&position) {
                break sample;
            }
            queue = self.shared.made.wait(queue).unwrap_or_else(PoisonError::into_inner);
        };
        queue.next = position.wrapping_add(1);
        drop(queue);
        self.shared.room.notify_all();
        Ok(((self.index)(position), sample?, asked.elapsed()))
    }

    /// How many samples are ready, and how many can be.
    pub fn fill(&self) -> (usize, usize) {
        (self.shared.lock().ready.len(), self.capacity)
    }
}

impl Drop for Prefetch {
    /// Waits for the samples that are being made.
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.room.notify_all();
        for loader in self.loaders.drain(..) {
            // A loader catches every panic of a dataset, and must not end its owner's thread with one of its own.
            let _ = loader.join();
        }
    }
}

/// The position to make next, once there is room for it; `None` at the end.
fn begin_next(shared: &Shared, capacity: usize) -> Option<u64> {
    let mut queue = shared.lock();
    loop {
        if queue.stopped {
            return None;
        }
        if queue.begin.wrapping_sub(queue.next) < capacity as u64 {
            let position = queue.begin;
            queue.begin = position.wrapping_add(1);
            return Some(position);
        }
        queue = shared.room.wait(queue).unwrap_or_else(PoisonError::into_inner);
    }
}

/// What the work gives, with a panic made an error, and the sample's index in every error.
fn caught(index: u64, work: impl FnOnce() -> Result<TrainingSample>) -> Result<TrainingSample> {
    // What a panic leaves behind is the dataset's caches, whose locks ignore poisoning.
    let sample = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Err(Error::Bug {
            place: "loading a training sample",
            problem: text.split_whitespace().collect::<Vec<_>>().join(" "),
        })
    });
    sample.map_err(|error| match error {
        Error::Interrupted => Error::Interrupted,
        other => Error::Sample { index, problem: Box::new(other) },
    })
}
