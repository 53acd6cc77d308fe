//! Work that several threads do ahead of the one who wants it: results come in order, and never more than so many wait.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard};

struct State<T> {
    /// The next piece that nobody does yet.
    next: usize,
    /// Pieces that were taken.
    taken: usize,
    ready: BTreeMap<usize, T>,
    closed: bool,
}

/// Pieces of work, counted from 0.
pub struct Ahead<T> {
    pieces: usize,
    most: usize,
    state: Mutex<State<T>>,
    changed: Condvar,
}

/// Closes when it goes, so that no thread waits for one that has ended, however it did.
pub struct Closing<'a, T>(&'a Ahead<T>);

impl<T> Drop for Closing<'_, T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<T> Ahead<T> {
    /// So many pieces, of which at most `most` are done or being done before they are wanted.
    pub fn new(pieces: usize, most: usize) -> Self {
        let state = State { next: 0, taken: 0, ready: BTreeMap::new(), closed: false };
        Self { pieces, most: most.max(1), state: Mutex::new(state), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Does pieces until there are no more: what each of the threads is for.
    pub fn work(&self, mut piece: impl FnMut(usize) -> T) {
        while let Some(number) = self.begin() {
            let unfinished = Closing(self);
            let done = piece(number);
            // Only a piece that was not finished closes everything.
            std::mem::forget(unfinished);
            self.state().ready.insert(number, done);
            self.changed.notify_all();
        }
    }

    /// The next piece to do, once it may be done; `None` when there is none.
    fn begin(&self) -> Option<usize> {
        let mut state = self.state();
        loop {
            if state.closed || state.next >= self.pieces {
                return None;
            }
            if state.next < state.taken + self.most {
                state.next += 1;
                return Some(state.next - 1);
            }
            state = self.changed.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    /// The next result; `None` after the last, and where a thread has not come to the end of its work.
    pub fn take(&self) -> Option<T> {
        let mut state = self.state();
        loop {
            let next = state.taken;
            if let Some(done) = state.ready.remove(&next) {
                state.taken += 1;
                self.changed.notify_all();
                return Some(done);
            }
            if state.closed || next >= self.pieces {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    /// Nothing more is wanted when what comes back goes.
    pub fn until_dropped(&self) -> Closing<'_, T> {
        Closing(self)
    }

    fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn results_come_in_order_and_few_are_ahead() {
        let (ahead, begun) = (Ahead::new(50, 3), AtomicUsize::new(0));
        let piece = |number: usize| {
            begun.fetch_add(1, Ordering::SeqCst);
            number * number
        };
        std::thread::scope(|scope| {
            (0..4).for_each(|_| {
                scope.spawn(|| ahead.work(piece));
            });
            let _closing = ahead.until_dropped();
            for number in 0..50 {
                assert!(begun.load(Ordering::SeqCst) <= number + 3);
                assert_eq!(ahead.take(), Some(number * number));
            }
            assert_eq!(ahead.take(), None);
        });
    }

    #[test]
    fn nobody_waits_for_a_thread_that_has_ended() {
        let ahead = Ahead::<usize>::new(3, 1);
        std::thread::scope(|scope| {
            let broken = scope.spawn(|| ahead.work(|number| if number == 1 { panic!("on purpose") } else { number }));
            assert_eq!(ahead.take(), Some(0));
            assert_eq!(ahead.take(), None);
            assert!(broken.join().is_err());
        });
        // And threads end when the one that wants something does.
        let ahead = Ahead::new(9, 1);
        std::thread::scope(|scope| {
            scope.spawn(|| ahead.work(|number| number));
            let _closing = ahead.until_dropped();
            assert_eq!(ahead.take(), Some(0));
        });
    }
}
