//! An NVIDIA GPU through CUDA's driver, which is loaded when the program runs: a build with the feature `cuda` starts
//! on machines without it, too.
//!
//! The driver's calls are made through cudarc's bindings at their lowest level, since memory is planned by
//! [`super::placement`] and order is kept by streams here; nothing is freed or awaited behind the engine's back.

use std::any::Any;
use std::collections::HashMap;
use std::ffi::CString;
use std::sync::{Arc, Mutex, MutexGuard};

use cudarc::driver::sys::{self, CUdevice_attribute_enum as Attribute, CUfunction_attribute_enum as FunctionAttribute};
use cudarc::driver::{CudaContext, CudaEvent, CudaStream, DriverError, result};

use super::convolution::{Call, Pointers};
use super::cublas::Cublas;
use super::cudnn::Cudnn;
use super::driver::{Driver, Event, HostMemory, Launch, Recording, Stream};
use super::storage::{Element, Pointer};
use crate::error::{Error, Result};

include!(concat!(env!("OUT_DIR"), "/modules.rs"));

/// Dynamic shared memory above this must be asked for, kernel by kernel.
const SHARED_WITHOUT_ASKING: u32 = 48 << 10;

/// A kernel of a loaded module.
#[derive(Clone, Copy)]
struct Function(sys::CUfunction);
// SAFETY: a handle that the driver may be given from any thread.
unsafe impl Send for Function {}

/// A loaded module.
struct Module(sys::CUmodule);
// SAFETY: as above.
unsafe impl Send for Module {}

/// One GPU.
pub struct Gpu {
    context: Arc<CudaContext>,
    name: String,
    streams: Mutex<Vec<Arc<CudaStream>>>,
    modules: Vec<Mutex<Module>>,
    functions: Mutex<HashMap<String, Function>>,
    cudnn: Mutex<Option<Cudnn>>,
    /// `Some(None)`: looked for and not found.
    cublas: Mutex<Option<Option<Cublas>>>,
    /// Whether the library that passes ranges on to nsys is there.
    ranges: bool,
}

fn failed(what: impl Into<String>) -> impl FnOnce(DriverError) -> Error {
    let what = what.into();
    move |error| {
        let text = error.error_string().map_or_else(|_| format!("{error:?}"), |s| s.to_string_lossy().into_owned());
        Error::Device(format!("{what}: {text}"))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Why no GPU can be used, or how many there are.
///
/// # Errors
/// Without CUDA's driver, or where it reports an error.
pub fn count() -> Result<usize> {
    // SAFETY: tries to load the library, whose initialisers have no requirements.
    if !unsafe { sys::is_culib_present() } {
        return Err(Error::Device(
            "no CUDA driver (libcuda.so.1) on this machine; install NVIDIA's driver, or use --device cpu".into(),
        ));
    }
    result::init().map_err(failed("starting CUDA's driver"))?;
    let count = CudaContext::device_count().map_err(failed("counting GPUs"))?;
    Ok(usize::try_from(count).unwrap_or(0))
}

impl Gpu {
    /// The GPU of this index, with the kernels loaded.
    ///
    /// # Errors
    /// [`Error::Device`] where there is none of this index, or its driver is too old for the kernels.
    pub fn open(index: usize) -> Result<Self> {
        let count = count()?;
        if index >= count {
            let problem = format!("there is no GPU {index}: {count} found");
            return Err(Error::Device(problem + "; nvidia-smi lists them, counting from 0"));
        }
        let context = CudaContext::new(index).map_err(failed(format!("opening GPU {index}")))?;
        let name = context.name().map_err(failed("asking a GPU for its name"))?;
        let (major, minor) = context.compute_capability().map_err(failed("asking a GPU for its architecture"))?;
        let modules = load_modules(&name, (major, minor))?;
        let first = context.new_stream().map_err(failed("making a stream"))?;
        Ok(Self {
            context,
            name,
            streams: Mutex::new(vec![first]),
            modules,
            functions: Mutex::default(),
            cudnn: Mutex::default(),
            cublas: Mutex::default(),
            // SAFETY: as in `count`.
            ranges: unsafe { cudarc::nvtx::sys::is_culib_present() },
        })
    }

    /// An attribute, for reports.
    ///
    /// # Errors
    /// The driver's.
    pub fn attribute(&self, attribute: Attribute) -> Result<i32> {
        self.context.attribute(attribute).map_err(failed("asking a GPU for an attribute"))
    }

    fn bound(&self) -> Result<()> {
        self.context.bind_to_thread().map_err(failed("binding a GPU to a thread"))
    }

    fn on(&self, stream: Stream) -> Result<Arc<CudaStream>> {
        self.bound()?;
        locked(&self.streams)
            .get(stream.0)
            .cloned()
            .ok_or_else(|| Error::Device(format!("there is no stream {}", stream.0)))
    }

    fn function(&self, kernel: &str) -> Result<Function> {
        let mut functions = locked(&self.functions);
        if let Some(function) = functions.get(kernel) {
            return Ok(*function);
        }
        let name = CString::new(kernel).map_err(|e| Error::Device(format!("`{kernel}`: {e}")))?;
        for module in &self.modules {
            // SAFETY: the module is loaded for as long as the GPU is open.
            let found = unsafe { result::module::get_function(locked(module).0, name.clone()) };
            let Ok(handle) = found else { continue };
            let most = self.attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?;
            // SAFETY: the function was just got.
            let fixed = unsafe {
                result::function::get_function_attribute(handle, FunctionAttribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)
            }
            .map_err(failed(format!("asking for the shared memory of `{kernel}`")))?;
            if most - fixed > SHARED_WITHOUT_ASKING as i32 {
                let attribute = FunctionAttribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
                // SAFETY: as above; the size is within what the device allows.
                unsafe { result::function::set_function_attribute(handle, attribute, most - fixed) }
                    .map_err(failed(format!("allowing `{kernel}` its shared memory")))?;
            }
            functions.insert(kernel.to_owned(), Function(handle));
            return Ok(Function(handle));
        }
        Err(Error::Device(format!("there is no kernel `{kernel}`")))
    }
}

/// Machine code for this architecture where the program has it, else PTX, which the driver translates (and keeps in
/// its cache).
fn load_modules(name: &str, (major, minor): (i32, i32)) -> Result<Vec<Mutex<Module>>> {
    let own = format!("sm_{major}{minor}");
    let mut modules = Vec::new();
    let mut stems: Vec<&str> = MODULES.iter().map(|(stem, _, _)| *stem).collect();
    stems.dedup();
    for stem in stems {
        let of_stem = || MODULES.iter().filter(|(s, _, _)| *s == stem);
        let ptx_for = |arch: &str| arch.strip_prefix("compute_").and_then(|v| v.parse::<i32>().ok());
        let exact = of_stem().find(|(_, arch, _)| *arch == own);
        let newest = of_stem()
            .filter(|(_, arch, _)| ptx_for(arch).is_some_and(|v| v <= major * 10 + minor))
            .max_by_key(|(_, arch, _)| ptx_for(arch));
        let Some((_, arch, image)) = exact.or(newest) else {
            let problem = format!("this build has no kernels for {name} ({own}); build with ENGINE_CUDA_ARCHS={own}");
            return Err(Error::Device(problem));
        };
        // PTX is text that ends with a zero.
        let mut image = image.to_vec();
        image.push(0);
        // SAFETY: the image is one that nvcc wrote, ended by a zero, and lives through the call.
        let module = unsafe { result::module::load_data(image.as_ptr().cast()) }.map_err(failed(format!(
            "loading the kernels `{stem}` ({arch}) on {name}; drivers of CUDA 11.0 and newer read those for \
             compute_80, all others need the driver of nvcc's release"
        )))?;
        modules.push(Mutex::new(Module(module)));
    }
    Ok(modules)
}

/// Page-locked memory.
struct Pinned {
    context: Arc<CudaContext>,
    at: *mut u8,
    bytes: usize,
}
// SAFETY: plain memory with one owner.
unsafe impl Send for Pinned {}

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
        if self.context.bind_to_thread().is_ok() {
            // SAFETY: allocated by malloc_host and freed once. A failure leaves memory behind; there is nobody to tell.
            let _ = unsafe { result::free_host(self.at.cast()) };
        }
    }
}

struct Mark(CudaEvent);

impl Event for Mark {
    fn milliseconds_since(&self, earlier: &dyn Event) -> Result<f32> {
        let Some(earlier) = earlier.as_any().downcast_ref::<Self>() else {
            return Err(Error::Bug { place: "gpu", problem: "an event of another device".into() });
        };
        earlier.0.elapsed_ms(&self.0).map_err(failed("reading a timer"))
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct Recorded {
    context: Arc<CudaContext>,
    graph: sys::CUgraph,
    executable: sys::CUgraphExec,
    streams: Vec<Arc<CudaStream>>,
}
// SAFETY: handles that are used by one thread at a time.
unsafe impl Send for Recorded {}

impl Recording for Recorded {
    fn replay(&self, stream: Stream) -> Result<()> {
        self.context.bind_to_thread().map_err(failed("binding a GPU to a thread"))?;
        let Some(stream) = self.streams.get(stream.0) else {
            return Err(Error::Device(format!("there is no stream {}", stream.0)));
        };
        // SAFETY: both live as long as this.
        unsafe { result::graph::launch(self.executable, stream.cu_stream()) }.map_err(failed("replaying a graph"))
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        if self.context.bind_to_thread().is_ok() {
            // SAFETY: made by `record`, destroyed once. A failure leaves memory behind; there is nobody to tell.
            let _ = unsafe { result::graph::exec_destroy(self.executable) };
            // SAFETY: as above.
            let _ = unsafe { result::graph::destroy(self.graph) };
        }
    }
}

impl Driver for Gpu {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn memory(&self) -> Result<(u64, u64)> {
        let (free, total) = self.context.mem_get_info().map_err(failed("asking for free memory"))?;
        Ok((free as u64, total as u64))
    }

    fn allocate(&self, bytes: u64) -> Result<Pointer> {
        self.bound()?;
        // SAFETY: a context is bound; the memory is written before it is read, which the plan checks.
        unsafe { result::malloc_sync(bytes as usize) }.map_err(failed(format!("allocating {bytes} bytes")))
    }

    fn release(&self, pointer: Pointer) {
        if self.bound().is_ok() {
            // SAFETY: allocated by `allocate` and released once by its owner; the driver waits for work on it. A
            // failure leaves memory behind; there is nobody to tell.
            let _ = unsafe { result::free_sync(pointer) };
        }
    }

    fn host_memory(&self, bytes: usize) -> Result<Box<dyn HostMemory>> {
        self.bound()?;
        // SAFETY: a context is bound. Flags 0: memory that the processor reads as fast as any other.
        let at = unsafe { result::malloc_host(bytes.max(1), 0) }
            .map_err(failed(format!("locking {bytes} bytes of memory")))?;
        let at: *mut u8 = at.cast();
        // SAFETY: that many bytes were allocated.
        unsafe { at.write_bytes(0, bytes) };
        Ok(Box::new(Pinned { context: self.context.clone(), at, bytes }))
    }

    fn stream(&self) -> Result<Stream> {
        let stream = self.context.new_stream().map_err(failed("making a stream"))?;
        let mut streams = locked(&self.streams);
        streams.push(stream);
        Ok(Stream(streams.len() - 1))
    }

    fn upload(&self, to: Pointer, bytes: &[u8], stream: Stream) -> Result<()> {
        let stream = self.on(stream)?;
        // SAFETY: the caller's range lies in one allocation. Pageable memory is copied before the call returns.
        unsafe { result::memcpy_htod_async(to, bytes, stream.cu_stream()) }
            .map_err(failed(format!("copying {} bytes to the GPU", bytes.len())))
    }

    fn upload_pinned(&self, to: Pointer, from: &dyn HostMemory, bytes: usize, stream: Stream) -> Result<()> {
        self.upload(to, &from.bytes()[..bytes], stream)
    }

    fn download(&self, from: Pointer, bytes: &mut [u8], stream: Stream) -> Result<()> {
        let stream = self.on(stream)?;
        // SAFETY: the caller's range lies in one allocation; the copy is awaited before the bytes are let go.
        unsafe { result::memcpy_dtoh_async(bytes, from, stream.cu_stream()) }
            .map_err(failed(format!("copying {} bytes from the GPU", bytes.len())))?;
        stream.synchronize().map_err(failed("waiting for a copy"))
    }

    fn copy(&self, to: Pointer, from: Pointer, bytes: u64, stream: Stream) -> Result<()> {
        let stream = self.on(stream)?;
        // SAFETY: the caller's ranges lie in one allocation each.
        unsafe { result::memcpy_dtod_async(to, from, bytes as usize, stream.cu_stream()) }
            .map_err(failed(format!("copying {bytes} bytes on the GPU")))
    }

    fn fill(&self, to: Pointer, byte: u8, bytes: u64, stream: Stream) -> Result<()> {
        let stream = self.on(stream)?;
        // SAFETY: the caller's range lies in one allocation.
        unsafe { result::memset_d8_async(to, byte, bytes as usize, stream.cu_stream()) }
            .map_err(failed(format!("setting {bytes} bytes on the GPU")))
    }

    fn launch(&self, stream: Stream, launch: &mut Launch) -> Result<()> {
        let stream = self.on(stream)?;
        let function = self.function(launch.kernel)?;
        let ([gx, gy, gz], [bx, by, bz]) = (launch.grid, launch.block);
        // SAFETY: the function belongs to a loaded module; each parameter points to a value of the type that the
        // kernel takes, which the tests check for every launch on the emulated device.
        let launched = unsafe {
            result::launch_kernel(
                function.0,
                (gx, gy, gz),
                (bx, by, bz),
                launch.shared,
                stream.cu_stream(),
                launch.parameters,
            )
        };
        launched
            .map_err(failed(format!("launching `{}` with grid {:?} of {:?}", launch.kernel, launch.grid, launch.block)))
    }

    fn convolution_workspace(&self, call: &Call) -> Result<u64> {
        self.bound()?;
        let mut cudnn = locked(&self.cudnn);
        if cudnn.is_none() {
            *cudnn = Some(Cudnn::open()?);
        }
        cudnn.as_mut().map_or(Ok(0), |cudnn| cudnn.workspace(call))
    }

    fn convolve(&self, stream: Stream, call: &Call, at: &Pointers) -> Result<()> {
        let stream = self.on(stream)?;
        let mut cudnn = locked(&self.cudnn);
        if cudnn.is_none() {
            *cudnn = Some(Cudnn::open()?);
        }
        cudnn.as_mut().map_or(Ok(()), |cudnn| cudnn.convolve(stream.cu_stream(), call, at))
    }

    fn record(&self, stream: Stream, work: &mut dyn FnMut() -> Result<()>) -> Result<Option<Box<dyn Recording>>> {
        let recorded = self.on(stream)?;
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream lives; the capture is ended below whatever the work returns.
        unsafe { result::stream::begin_capture(recorded.cu_stream(), mode) }
            .map_err(failed("beginning a recording"))?;
        let worked = work();
        // SAFETY: begun above.
        let graph = unsafe { result::stream::end_capture(recorded.cu_stream()) }.map_err(failed("ending a recording"));
        worked?;
        let graph = graph?;
        // SAFETY: the graph was just made.
        let executable = unsafe { result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0)) }
            .map_err(failed("preparing a recording"))?;
        let streams = locked(&self.streams).clone();
        Ok(Some(Box::new(Recorded { context: self.context.clone(), graph, executable, streams })))
    }

    fn event(&self, stream: Stream) -> Result<Box<dyn Event>> {
        let stream = self.on(stream)?;
        let event =
            stream.record_event(Some(sys::CUevent_flags::CU_EVENT_DEFAULT)).map_err(failed("marking a time"))?;
        Ok(Box::new(Mark(event)))
    }

    fn wait(&self, stream: Stream, event: &dyn Event) -> Result<()> {
        let Some(mark) = event.as_any().downcast_ref::<Mark>() else {
            return Err(Error::Bug { place: "gpu", problem: "an event of another device".into() });
        };
        self.on(stream)?.wait(&mark.0).map_err(failed("waiting for another stream"))
    }

    fn synchronize(&self, stream: Stream) -> Result<()> {
        self.on(stream)?.synchronize().map_err(failed("waiting for the GPU"))
    }

    fn gemm_seconds(&self, n: usize, element: Element) -> Result<Option<f64>> {
        let mut cublas = locked(&self.cublas);
        if cublas.is_none() {
            self.bound()?;
            *cublas = Some(Cublas::open()?);
        }
        match cublas.as_ref() {
            Some(Some(cublas)) => cublas.gemm_seconds(self, &self.on(Stream::FIRST)?, n, element),
            _ => Ok(None),
        }
    }

    fn range_begin(&self, name: &str) {
        if self.ranges {
            cudarc::nvtx::result::range_push(name);
        }
    }

    fn range_end(&self) {
        if self.ranges {
            cudarc::nvtx::result::range_pop();
        }
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        if self.bound().is_err() {
            return;
        }
        for module in &self.modules {
            // SAFETY: loaded by `load_modules`, unloaded once, and nothing runs any more: programs hold the driver. A
            // failure leaves memory behind; there is nobody to tell.
            let _ = unsafe { result::module::unload(locked(module).0) };
        }
    }
}
