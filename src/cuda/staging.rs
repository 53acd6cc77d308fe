//! Page-locked memory that photos, a view's inputs and finished maps pass through on their way to and from a device.
//!
//! Locking memory takes a device long, so that it is kept, and used again once the copy that it was for is done. Who
//! takes some waits for that copy, on a thread of its own where photos are decoded: the thread that queues a device's
//! work never does.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use super::driver::{Driver, Event, HostMemory, Stream};
use super::storage::Pointer;
use crate::error::Result;

struct Idle {
    memory: Box<dyn HostMemory>,
    /// It is in use until then.
    until: Option<Arc<dyn Event>>,
}

/// Memory that is not in use by anybody, or not for long.
pub(super) struct Staging {
    driver: Arc<dyn Driver>,
    /// The longest idle first.
    idle: Mutex<VecDeque<Idle>>,
}

/// A piece of such memory; it goes back by itself.
pub(super) struct Staged {
    staging: Arc<Staging>,
    memory: Option<Box<dyn HostMemory>>,
    until: Option<Arc<dyn Event>>,
    length: usize,
}

/// A size that few different sizes round up to: at most a quarter more.
fn rounded(bytes: usize) -> usize {
    let bytes = bytes.max(4 << 10);
    bytes.next_multiple_of(1 << (bytes.ilog2() - 2))
}

impl Staging {
    /// None yet.
    pub fn new(driver: Arc<dyn Driver>) -> Arc<Self> {
        Arc::new(Self { driver, idle: Mutex::default() })
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<Idle>> {
        self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Room for so many bytes.
    ///
    /// # Errors
    /// The system's, where it cannot lock more memory; what went wrong in the copy that it was for before.
    pub fn take(self: &Arc<Self>, length: usize) -> Result<Staged> {
        let bytes = rounded(length);
        let found = {
            let mut idle = self.idle();
            let place = idle.iter().position(|idle| idle.memory.bytes().len() == bytes);
            place.and_then(|place| idle.remove(place))
        };
        let memory = match found {
            Some(Idle { memory, until }) => {
                until.map_or(Ok(()), |event| event.synchronize())?;
                memory
            }
            None => self.driver.host_memory(bytes)?,
        };
        Ok(Staged { staging: self.clone(), memory: Some(memory), until: None, length })
    }

    /// Lets go of what is idle.
    pub fn clear(&self) {
        let idle = std::mem::take(&mut *self.idle());
        drop(idle);
    }
}

impl Staged {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        self.memory.as_ref().map_or(&[], |memory| &memory.bytes()[..self.length])
    }

    /// Its bytes.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let length = self.length;
        self.memory.as_mut().map_or(&mut [], |memory| &mut memory.bytes_mut()[..length])
    }

    /// Queues a copy of some of its bytes to the device.
    ///
    /// # Errors
    /// The device's.
    pub fn upload(&self, to: Pointer, bytes: Range<usize>, stream: Stream) -> Result<()> {
        let Some(memory) = &self.memory else { return Ok(()) };
        self.staging.driver.upload_pinned(to, &**memory, bytes, stream)
    }

    /// Queues a copy from the device to some of its bytes.
    ///
    /// # Errors
    /// The device's.
    pub fn download(&mut self, from: Pointer, bytes: Range<usize>, stream: Stream) -> Result<()> {
        let Some(memory) = &mut self.memory else { return Ok(()) };
        self.staging.driver.download_pinned(from, &mut **memory, bytes, stream)
    }

    /// Nobody else may have it before this has passed.
    pub fn in_use_until(&mut self, event: Arc<dyn Event>) {
        self.until = Some(event);
    }

    /// What it was in use until has passed.
    pub fn is_free(&mut self) {
        self.until = None;
    }

    /// Waits until it is no longer in use by the device.
    ///
    /// # Errors
    /// What went wrong in the work before.
    pub fn settle(&mut self) -> Result<()> {
        self.until.take().map_or(Ok(()), |event| event.synchronize())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            self.staging.idle().push_back(Idle { memory, until: self.until.take() });
        }
    }
}

/// What is to be copied to a device at once: a view's many small inputs.
#[derive(Default)]
pub(super) struct Feed(Vec<(Pointer, Vec<u8>)>);

impl Feed {
    /// Bytes for an address.
    pub fn put(&mut self, to: Pointer, bytes: &[u8]) {
        self.0.push((to, bytes.to_vec()));
    }

    /// Queues the copies; what comes back holds the bytes until they are done.
    ///
    /// # Errors
    /// The device's.
    pub fn queue(&self, staging: &Arc<Staging>, stream: Stream) -> Result<Staged> {
        let aligned = |bytes: &[u8]| bytes.len().next_multiple_of(16);
        let mut staged = staging.take(self.0.iter().map(|(_, bytes)| aligned(bytes)).sum())?;
        let mut at = 0;
        for (to, bytes) in &self.0 {
            let range = at..at + bytes.len();
            staged.bytes_mut()[range.clone()].copy_from_slice(bytes);
            staged.upload(*to, range, stream)?;
            at += aligned(bytes);
        }
        Ok(staged)
    }
}
