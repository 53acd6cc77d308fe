//! JPEG photos decoded on the GPU by nvJPEG. cudarc has no bindings of it: the few entry points that are needed are
//! looked up by name, with the types of `nvjpeg.h` (12.4 and 13.3).
//!
//! A GPU's decoder may round otherwise than the processor's, so it is used only where somebody asks for it.

use std::ffi::{c_int, c_uchar, c_void};
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::{CudaContext, CudaStream, DriverError, result};
use libloading::Library;

use super::failure::{self, Trail};
use super::libraries::{self, NVJPEG};
use super::storage::Pointer;
use crate::error::{Error, Result};
use crate::files::jpeg::Elsewhere;

type Status = c_int;
type Handle = *mut c_void;

/// `NVJPEG_STATUS_*` that are no reason to end a run: the processor decodes such a file, or tells what is wrong in it.
const BAD_JPEG: Status = 3;
const NOT_SUPPORTED: Status = 4;
const ALLOCATOR_FAILURE: Status = 5;
const NOT_IMPLEMENTED: Status = 9;
const INCOMPLETE: Status = 10;

/// `NVJPEG_BACKEND_DEFAULT`.
const DEFAULT_BACKEND: c_int = 0;
/// `NVJPEG_FLAGS_UPSAMPLING_WITH_INTERPOLATION`: colour that is stored at half the size is interpolated, as the
/// processor's decoder does.
const INTERPOLATED: u32 = 1 << 5;
/// `NVJPEG_OUTPUT_RGBI`.
const INTERLEAVED: c_int = 5;
/// `NVJPEG_MAX_COMPONENT`.
const CHANNELS: usize = 4;

/// `nvjpegImage_t`.
#[repr(C)]
struct Image {
    channel: [*mut c_uchar; CHANNELS],
    pitch: [usize; CHANNELS],
}

/// The entry points.
struct Calls {
    create: unsafe extern "C" fn(c_int, *mut c_void, *mut c_void, u32, *mut Handle) -> Status,
    destroy: unsafe extern "C" fn(Handle) -> Status,
    new_state: unsafe extern "C" fn(Handle, *mut Handle) -> Status,
    destroy_state: unsafe extern "C" fn(Handle) -> Status,
    decode: unsafe extern "C" fn(Handle, Handle, *const c_uchar, usize, c_int, *mut Image, *mut c_void) -> Status,
}

impl Calls {
    fn of(library: &Library) -> Result<Self, libloading::Error> {
        // SAFETY: the types are those of nvjpeg.h, and the library stays loaded as long as they are used.
        unsafe {
            Ok(Self {
                create: *library.get(b"nvjpegCreateEx\0")?,
                destroy: *library.get(b"nvjpegDestroy\0")?,
                new_state: *library.get(b"nvjpegJpegStateCreate\0")?,
                destroy_state: *library.get(b"nvjpegJpegStateDestroy\0")?,
                decode: *library.get(b"nvjpegDecode\0")?,
            })
        }
    }
}

/// What one thread decodes with.
struct Worker {
    state: Handle,
    stream: Arc<CudaStream>,
    /// Device memory for a decoded photo, and its bytes.
    memory: Option<(Pointer, usize)>,
}

/// The library.
pub(super) struct Nvjpeg {
    calls: Calls,
    handle: Handle,
    /// Those that nobody decodes with now.
    idle: Mutex<Vec<Worker>>,
    _library: Library,
}
// SAFETY: nvJPEG's handle may be used by several threads at once; a state and its stream by one, who has taken it.
unsafe impl Send for Nvjpeg {}
// SAFETY: as above.
unsafe impl Sync for Nvjpeg {}

fn failed(what: &str, status: Status) -> Error {
    Error::Device(format!("nvJPEG, {what}: status {status}"))
}

fn of_driver(what: &str) -> impl FnOnce(DriverError) -> Error {
    move |error| failure::failed(what, error, &Trail::default())
}

fn expect(what: &str, status: Status) -> Result<()> {
    if status == 0 { Ok(()) } else { Err(failed(what, status)) }
}

impl Nvjpeg {
    /// Opens the library; a context must be bound.
    ///
    /// # Errors
    /// [`Error::Device`] where there is none, and where it was looked for.
    pub fn open() -> Result<Self> {
        let missing = |problem: String| {
            Error::Device(format!(
                "nvJPEG: {problem}; install it (pip install nvidia-nvjpeg), or name its folder in ENGINE_CUDA_LIBS, or \
                 leave out --jpeg nvjpeg"
            ))
        };
        let library = libraries::library(NVJPEG).map_err(missing)?;
        let calls = Calls::of(&library).map_err(|error| missing(error.to_string()))?;
        let (mut handle, none) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: without allocators the library takes its own.
        expect("opening it", unsafe { (calls.create)(DEFAULT_BACKEND, none, none, INTERPOLATED, &raw mut handle) })?;
        Ok(Self { calls, handle, idle: Mutex::default(), _library: library })
    }

    /// Decodes a file of this size; the context must be bound to the thread.
    ///
    /// # Errors
    /// The device's, and the library's where the device is of no more use.
    pub fn decode(&self, context: &Arc<CudaContext>, bytes: &[u8], size: (usize, usize)) -> Result<Elsewhere> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = idle().pop();
        let mut worker = taken.map_or_else(|| self.worker(context), Ok)?;
        let decoded = self.decode_with(&mut worker, bytes, size);
        // What it was at is done or was refused.
        idle().push(worker);
        decoded
    }

    fn worker(&self, context: &Arc<CudaContext>) -> Result<Worker> {
        let stream = context.new_stream().map_err(of_driver("making a stream for nvJPEG"))?;
        let mut state = std::ptr::null_mut();
        // SAFETY: the handle lives as long as its states.
        expect("making a decoder", unsafe { (self.calls.new_state)(self.handle, &raw mut state) })?;
        Ok(Worker { state, stream, memory: None })
    }

    fn decode_with(&self, worker: &mut Worker, bytes: &[u8], (width, height): (usize, usize)) -> Result<Elsewhere> {
        let pitch = 3 * width;
        let Some(at) = worker.memory_for(pitch * height) else {
            return Ok(Elsewhere::Left("the GPU has no memory for nvJPEG".into()));
        };
        let mut image = Image { channel: [std::ptr::null_mut(); CHANNELS], pitch: [0; CHANNELS] };
        (image.channel[0], image.pitch[0]) = (at as *mut c_uchar, pitch);
        let stream = worker.stream.cu_stream();
        // SAFETY: the bytes live through the call, which reads them before it returns; the memory holds all rows.
        let status = unsafe {
            let (from, length) = (bytes.as_ptr(), bytes.len());
            (self.calls.decode)(self.handle, worker.state, from, length, INTERLEAVED, &raw mut image, stream.cast())
        };
        let left = match status {
            0 => None,
            NOT_SUPPORTED | NOT_IMPLEMENTED => Some("nvJPEG does not take this kind of JPEG"),
            BAD_JPEG | INCOMPLETE => Some("nvJPEG takes the file for damaged"),
            ALLOCATOR_FAILURE => Some("the GPU has no memory for nvJPEG"),
            other => return Err(failed("decoding a photo", other)),
        };
        if let Some(why) = left {
            return Ok(Elsewhere::Left(why.into()));
        }
        let mut pixels = vec![0; pitch * height];
        // SAFETY: as many bytes as were decoded; the copy is awaited before they are looked at.
        unsafe { result::memcpy_dtoh_async(&mut pixels, at, stream) }.map_err(of_driver("copying a decoded photo"))?;
        worker.stream.synchronize().map_err(of_driver("waiting for a decoded photo"))?;
        Ok(Elsewhere::Pixels(pixels))
    }
}

impl Worker {
    /// Memory for so many bytes; `None` where the device has none.
    fn memory_for(&mut self, bytes: usize) -> Option<Pointer> {
        if let Some((at, there)) = self.memory
            && there >= bytes
        {
            return Some(at);
        }
        self.release();
        // SAFETY: a context is bound; the memory is written by the decoder before it is read.
        let at = unsafe { result::malloc_sync(bytes) }.ok()?;
        self.memory = Some((at, bytes));
        Some(at)
    }

    fn release(&mut self) {
        if let Some((at, _)) = self.memory.take() {
            // SAFETY: allocated above, released once; every use of it was awaited. A failure leaves memory behind;
            // there is nobody to tell.
            let _ = unsafe { result::free_sync(at) };
        }
    }
}

impl Drop for Nvjpeg {
    fn drop(&mut self) {
        for worker in self.idle.get_mut().unwrap_or_else(PoisonError::into_inner) {
            worker.release();
            // SAFETY: made by the library, destroyed once, before the handle.
            let _ = unsafe { (self.calls.destroy_state)(worker.state) };
        }
        // SAFETY: as above.
        let _ = unsafe { (self.calls.destroy)(self.handle) };
    }
}
