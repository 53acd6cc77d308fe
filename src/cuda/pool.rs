//! Memory for feature maps: large pieces of the device's memory, of which every map has a part.
//!
//! A device gives memory in pages of 2 MiB, so that a map of its own would take up to 2 MiB more than it has. Parts are
//! of one size for each size of photo, and go back to the piece that they are from; a piece that is free as a whole
//! goes back to the device before a new one would go beyond the limit. A part is written in the first stream alone; one
//! that was given back is written again after those streams' work that read it, for which the first stream waits, and
//! nobody else.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use super::driver::{Driver, Event, Stream};
use super::placement::ALIGNMENT;
use super::program::Owned;
use super::storage::Pointer;
use crate::error::{Error, Result};
use crate::host::memory::readable;

/// What a device rounds an allocation up to.
pub(super) const PAGE: u64 = 2 << 20;
/// A piece's size where parts are smaller.
const PIECE: u64 = 32 << 20;

struct Piece {
    memory: Owned,
    bytes: u64,
    /// Free ranges: offset and length.
    free: BTreeMap<u64, u64>,
}

#[derive(Default)]
struct Inner {
    pieces: Vec<Piece>,
    /// Given back, and perhaps still read by what is queued; the oldest first.
    waiting: VecDeque<GivenBack>,
    limit: Option<u64>,
    /// By stream: the last point of its work that comes after readers of parts.
    readers: BTreeMap<Stream, Arc<dyn Event>>,
}

struct GivenBack {
    pointer: Pointer,
    bytes: u64,
    /// What may have read it comes before these.
    readers: Vec<Arc<dyn Event>>,
}

/// Pieces of a device's memory.
pub(super) struct Pool {
    driver: Arc<dyn Driver>,
    inner: Mutex<Inner>,
}

/// A part of a pool; it goes back by itself.
pub(super) struct Part {
    pool: Arc<Pool>,
    pointer: Pointer,
    bytes: u64,
}

impl Part {
    /// Its address, a multiple of 256.
    pub fn pointer(&self) -> Pointer {
        self.pointer
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let mut inner = self.pool.inner();
        let readers = inner.readers.values().cloned().collect();
        inner.waiting.push_back(GivenBack { pointer: self.pointer, bytes: self.bytes, readers });
    }
}

impl Piece {
    /// The smallest free range that has so much room.
    fn fitting(&self, bytes: u64) -> Option<(u64, u64)> {
        self.free.iter().map(|(&at, &length)| (length, at)).filter(|(length, _)| *length >= bytes).min()
    }

    fn take(&mut self, at: u64, bytes: u64) {
        let Some(length) = self.free.remove(&at) else { return };
        if length > bytes {
            self.free.insert(at + bytes, length - bytes);
        }
    }

    fn give(&mut self, mut at: u64, mut bytes: u64) {
        if let Some(after) = self.free.remove(&(at + bytes)) {
            bytes += after;
        }
        if let Some((&before, &length)) = self.free.range(..at).next_back()
            && before + length == at
        {
            self.free.remove(&before);
            (at, bytes) = (before, length + bytes);
        }
        self.free.insert(at, bytes);
    }

    fn is_free(&self) -> bool {
        self.free.get(&0) == Some(&self.bytes)
    }
}

impl Pool {
    /// Empty.
    pub fn new(driver: Arc<dyn Driver>) -> Arc<Self> {
        Arc::new(Self { driver, inner: Mutex::default() })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// From now on it takes no more than this from the device.
    pub fn limit(&self, bytes: u64) {
        self.inner().limit = Some(bytes / PAGE * PAGE);
    }

    /// All that a stream has read of parts so far comes before this point of its work.
    pub fn read_before(&self, stream: Stream, event: Arc<dyn Event>) {
        self.inner().readers.insert(stream, event);
    }

    /// Bytes that it has from the device.
    pub fn taken(&self) -> u64 {
        self.inner().pieces.iter().map(|piece| piece.bytes).sum()
    }

    /// Gives back all pieces without a part in use.
    pub fn give_back(&self) {
        let mut inner = self.inner();
        // Where that fails, memory stays as it is, and whoever asks for some next is told.
        if self.driver.settle().is_ok() {
            while let Some(given) = inner.waiting.pop_front() {
                inner.free(&given);
            }
            inner.readers.clear();
            inner.pieces.retain(|piece| !piece.is_free());
        }
    }

    /// Room for `bytes`; `what` for, in messages.
    ///
    /// # Errors
    /// [`Error::Memory`] where there is none within the limit or on the device; the device's.
    pub fn part(self: &Arc<Self>, bytes: u64, what: impl Fn() -> String) -> Result<Part> {
        let bytes = bytes.max(1).next_multiple_of(ALIGNMENT);
        let mut inner = self.inner();
        if let Some(pointer) = inner.fitting(bytes) {
            return Ok(Part { pool: self.clone(), pointer, bytes });
        }
        // Of those that wait, as few as need be.
        let mut awaited: Vec<Arc<dyn Event>> = Vec::new();
        while let Some(given) = inner.waiting.pop_front() {
            for event in &given.readers {
                if !awaited.iter().any(|other| Arc::ptr_eq(other, event)) {
                    self.driver.wait(Stream::FIRST, &**event)?;
                    awaited.push(event.clone());
                }
            }
            inner.free(&given);
            if let Some(pointer) = inner.fitting(bytes) {
                return Ok(Part { pool: self.clone(), pointer, bytes });
            }
        }
        let mut taken: u64 = inner.pieces.iter().map(|piece| piece.bytes).sum();
        let least = bytes.next_multiple_of(PAGE);
        let limit = inner.limit.unwrap_or(u64::MAX);
        if taken + least > limit {
            inner.pieces.retain(|piece| !piece.is_free());
            taken = inner.pieces.iter().map(|piece| piece.bytes).sum();
        }
        if taken + least > limit {
            let [limit, taken] = [limit, taken].map(readable);
            let problem = format!("{} beside {taken} of {limit} that were planned for feature maps", what());
            return Err(Error::Memory(problem));
        }
        let size = least.max(PIECE.min(limit - taken) / PAGE * PAGE);
        let (memory, size) = match Owned::new(&self.driver, size, &what) {
            Ok(memory) => (memory, size),
            // Perhaps there is as much as is needed.
            Err(Error::Memory(_)) if size > least => (Owned::new(&self.driver, least, &what)?, least),
            Err(error) => return Err(error),
        };
        let pointer = memory.pointer();
        let mut piece = Piece { memory, bytes: size, free: BTreeMap::from([(0, size)]) };
        piece.take(0, bytes);
        inner.pieces.push(piece);
        Ok(Part { pool: self.clone(), pointer, bytes })
    }
}

impl Inner {
    /// Takes the range that fits best.
    fn fitting(&mut self, bytes: u64) -> Option<Pointer> {
        let of_piece = |(i, piece): (usize, &Piece)| piece.fitting(bytes).map(|(length, at)| (length, i, at));
        let (_, i, at) = self.pieces.iter().enumerate().filter_map(of_piece).min()?;
        self.pieces[i].take(at, bytes);
        Some(self.pieces[i].memory.pointer() + at)
    }

    /// What was given back is free now.
    fn free(&mut self, given: &GivenBack) {
        let inside = |piece: &&mut Piece| {
            let start = piece.memory.pointer();
            given.pointer >= start && given.pointer < start + piece.bytes
        };
        if let Some(piece) = self.pieces.iter_mut().find(inside) {
            let at = given.pointer - piece.memory.pointer();
            piece.give(at, given.bytes);
        }
    }
}
