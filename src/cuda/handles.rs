//! What a GPU hands out: page-locked memory, events, recordings. Each keeps the context open until it is gone.

use std::any::Any;
use std::sync::{Arc, Mutex};

use cudarc::driver::sys::{self, CUevent, CUresult};
use cudarc::driver::{CudaContext, CudaEvent, CudaStream, DriverError, result};

use super::driver::{Event, HostMemory, Recording, Stream};
use super::failure::{Launched, Launches, Trail, failed};
use crate::error::{Error, Result};

/// What was launched, shared by all that may fail because of it.
pub(super) type SharedTrail = Arc<Mutex<Trail>>;

pub(super) fn trail(shared: &SharedTrail) -> std::sync::MutexGuard<'_, Trail> {
    shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Page-locked memory.
pub(super) struct Pinned {
    context: Arc<CudaContext>,
    at: *mut u8,
    bytes: usize,
}
// SAFETY: plain memory with one owner.
unsafe impl Send for Pinned {}

impl Pinned {
    /// So many bytes, all zero. The context is bound to the thread.
    pub fn new(context: &Arc<CudaContext>, bytes: usize) -> Result<Self, DriverError> {
        // SAFETY: a context is bound. Flags 0: memory that the processor reads as fast as any other.
        let at: *mut u8 = unsafe { result::malloc_host(bytes.max(1), 0) }?.cast();
        // SAFETY: that many bytes were allocated.
        unsafe { at.write_bytes(0, bytes) };
        Ok(Self { context: context.clone(), at, bytes })
    }
}

impl HostMemory for Pinned {
    fn bytes(&self) -> &[u8] {
        // SAFETY: `bytes` bytes were allocated and set to zero at `at`.
        unsafe { std::slice::from_raw_parts(self.at, self.bytes) }
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and this is the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.at, self.bytes) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if self.context.synchronize().is_ok() {
            // SAFETY: allocated by malloc_host and freed once, after all copies. A failure leaves memory behind; there
            // is nobody to tell.
            let _ = unsafe { result::free_host(self.at.cast()) };
        }
    }
}

/// An event.
pub(super) struct Mark {
    pub event: CudaEvent,
    /// The launches that are done when it has passed.
    pub after: Launches,
    pub trail: SharedTrail,
}

/// Both versions of the call have this type.
type ElapsedTime = unsafe extern "C" fn(*mut f32, CUevent, CUevent) -> CUresult;

/// Milliseconds between two events that have passed. Drivers before CUDA 12.8 lack the newer name.
fn elapsed(earlier: &CudaEvent, later: &CudaEvent) -> Result<f32, DriverError> {
    earlier.synchronize()?;
    later.synchronize()?;
    // SAFETY: the library is the driver, which stays loaded; both names have the type above.
    let call = unsafe {
        let library = sys::culib();
        let named = |name: &[u8]| library.get::<ElapsedTime>(name).map(|symbol| *symbol);
        named(b"cuEventElapsedTime_v2\0").or_else(|_| named(b"cuEventElapsedTime\0"))
    };
    let Ok(call) = call else { return Err(DriverError(CUresult::CUDA_ERROR_NOT_FOUND)) };
    let mut milliseconds = 0.0;
    // SAFETY: both events live, and the number is written where it may be.
    unsafe { call(&mut milliseconds, earlier.cu_event(), later.cu_event()) }.result()?;
    Ok(milliseconds)
}

impl Event for Mark {
    fn synchronize(&self) -> Result<()> {
        let waited = self.event.synchronize();
        let mut trail = trail(&self.trail);
        waited.map_err(|error| failed("waiting for the GPU", error, &trail))?;
        trail.passed(&self.after);
        Ok(())
    }
    fn milliseconds_since(&self, earlier: &dyn Event) -> Result<f32> {
        let Some(earlier) = earlier.as_any().downcast_ref::<Self>() else {
            return Err(Error::Bug { place: "gpu", problem: "an event of another device".into() });
        };
        elapsed(&earlier.event, &self.event).map_err(|error| failed("reading a timer", error, &trail(&self.trail)))
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A graph that can be launched, and what it launches.
pub(super) struct Recorded {
    context: Arc<CudaContext>,
    executable: sys::CUgraphExec,
    streams: Vec<Arc<CudaStream>>,
    launches: Vec<Launched>,
    trail: SharedTrail,
}
// SAFETY: a handle that is used by one thread at a time.
unsafe impl Send for Recorded {}

impl Recorded {
    /// Of a graph, which is destroyed: what can be launched has a copy of its own. The context is bound to the thread.
    pub fn new(
        context: &Arc<CudaContext>,
        graph: sys::CUgraph,
        streams: Vec<Arc<CudaStream>>,
        launches: Vec<Launched>,
        trail: &SharedTrail,
    ) -> Result<Self, DriverError> {
        // SAFETY: the caller's graph lives.
        let executable = unsafe { result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0)) };
        // SAFETY: as above, and nothing uses it from here on.
        let destroyed = unsafe { result::graph::destroy(graph) };
        let executable = executable?;
        destroyed?;
        Ok(Self { context: context.clone(), executable, streams, launches, trail: trail.clone() })
    }
}

impl Recording for Recorded {
    fn replay(&self, stream: Stream) -> Result<()> {
        let told = |error| failed("replaying a recording", error, &trail(&self.trail));
        self.context.bind_to_thread().map_err(told)?;
        let Some(on) = self.streams.get(stream.0) else {
            return Err(Error::Device(format!("there is no stream {}", stream.0)));
        };
        // SAFETY: both live as long as this.
        unsafe { result::graph::launch(self.executable, on.cu_stream()) }.map_err(told)?;
        trail(&self.trail).replayed(stream, &self.launches);
        Ok(())
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        if self.context.bind_to_thread().is_ok() {
            // SAFETY: made by `new`, destroyed once. A failure leaves memory behind; there is nobody to tell.
            let _ = unsafe { result::graph::exec_destroy(self.executable) };
        }
    }
}
