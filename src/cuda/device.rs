//! An NVIDIA GPU through CUDA's driver, which is loaded when the program runs: a build with the feature `cuda` starts
//! on machines without it, too.
//!
//! The driver's calls are made through cudarc's bindings at their lowest level, since memory is planned by
//! [`super::placement`] and order is kept by streams here; nothing is freed or awaited behind the engine's back.

use std::collections::HashMap;
use std::ffi::CString;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use cudarc::driver::sys::{self, CUdevice_attribute_enum as Attribute, CUfunction_attribute_enum as FunctionAttribute};
use cudarc::driver::{CudaContext, CudaStream, DriverError, result};

use super::convolution::{Call, Pointers};
use super::cublas::Cublas;
use super::cudnn::Cudnn;
use super::driver::{Driver, Event, HostMemory, Launch, Recording, Stream};
use super::failure::{self, Launched, Trail, is_fatal};
use super::handles::{Mark, Pinned, Recorded, SharedTrail, trail};
use super::nvjpeg::Nvjpeg;
use super::ranges::Ranges;
use super::storage::{Element, Pointer};
use crate::error::{Error, Result};
use crate::files::jpeg::Elsewhere;

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

/// One GPU. Its parts go in this order: libraries, which have memory of their own in the context, then streams, and the
/// context last. Modules are unloaded before all of them.
pub struct Gpu {
    cudnn: Mutex<Option<Cudnn>>,
    jpeg: OnceLock<Nvjpeg>,
    /// `Some(None)`: looked for and not found.
    cublas: Mutex<Option<Option<Cublas>>>,
    functions: Mutex<HashMap<String, Function>>,
    modules: Vec<Mutex<Module>>,
    streams: Mutex<Vec<Arc<CudaStream>>>,
    /// Of streams, the ones beside them.
    beside: Mutex<HashMap<Stream, Stream>>,
    name: String,
    /// Where nsys or another tool listens.
    ranges: Option<Ranges>,
    trail: SharedTrail,
    /// Whether every launch is awaited.
    blocking: bool,
    context: Arc<CudaContext>,
}

/// An error before anything was launched.
fn failed(what: impl Into<String>) -> impl FnOnce(DriverError) -> Error {
    let what = what.into();
    move |error| failure::failed(&what, error, &Trail::default())
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
        let first = context.new_stream().map_err(failed("making a stream"))?;
        let mut gpu = Self {
            cudnn: Mutex::default(),
            jpeg: OnceLock::new(),
            cublas: Mutex::default(),
            functions: Mutex::default(),
            modules: Vec::new(),
            streams: Mutex::new(vec![first]),
            beside: Mutex::default(),
            name,
            ranges: Ranges::find(),
            trail: SharedTrail::default(),
            blocking: failure::blocking(),
            context,
        };
        // Those that are loaded are unloaded even where one cannot be.
        load_modules(&mut gpu.modules, &gpu.name, (major, minor))?;
        Ok(gpu)
    }

    /// An attribute, for reports.
    ///
    /// # Errors
    /// The driver's.
    pub fn attribute(&self, attribute: Attribute) -> Result<i32> {
        self.context.attribute(attribute).map_err(self.failed("asking a GPU for an attribute"))
    }

    /// As the function of this name, with what was launched before.
    fn failed(&self, what: impl Into<String>) -> impl FnOnce(DriverError) -> Error {
        let what = what.into();
        move |error| failure::failed(&what, error, &trail(&self.trail))
    }

    fn bound(&self) -> Result<()> {
        self.context.bind_to_thread().map_err(self.failed("binding a GPU to a thread"))
    }

    fn on(&self, stream: Stream) -> Result<Arc<CudaStream>> {
        self.bound()?;
        locked(&self.streams)
            .get(stream.0)
            .cloned()
            .ok_or_else(|| Error::Device(format!("there is no stream {}", stream.0)))
    }

    /// nvJPEG, opened when it is first asked for, with the context bound to this thread.
    fn jpeg(&self) -> Result<&Nvjpeg> {
        self.bound()?;
        if let Some(there) = self.jpeg.get() {
            return Ok(there);
        }
        let opened = Nvjpeg::open()?;
        Ok(self.jpeg.get_or_init(|| opened))
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
            let handle = match found {
                Ok(handle) => handle,
                Err(DriverError(sys::CUresult::CUDA_ERROR_NOT_FOUND)) => continue,
                Err(error) => return Err(self.failed(format!("looking for `{kernel}`"))(error)),
            };
            let most = self.attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?;
            // SAFETY: the function was just got.
            let fixed = unsafe {
                result::function::get_function_attribute(handle, FunctionAttribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)
            }
            .map_err(self.failed(format!("asking for the shared memory of `{kernel}`")))?;
            if most - fixed > SHARED_WITHOUT_ASKING as i32 {
                let attribute = FunctionAttribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
                // SAFETY: as above; the size is within what the device allows.
                unsafe { result::function::set_function_attribute(handle, attribute, most - fixed) }
                    .map_err(self.failed(format!("allowing `{kernel}` its shared memory")))?;
            }
            functions.insert(kernel.to_owned(), Function(handle));
            return Ok(Function(handle));
        }
        Err(Error::Device(format!("there is no kernel `{kernel}`")))
    }
}

/// Machine code for this architecture where the program has it, else PTX, which the driver translates (and keeps in
/// its cache).
fn load_modules(modules: &mut Vec<Mutex<Module>>, name: &str, (major, minor): (i32, i32)) -> Result<()> {
    let own = format!("sm_{major}{minor}");
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
    Ok(())
}

impl Driver for Gpu {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn memory(&self) -> Result<(u64, u64)> {
        let (free, total) = self.context.mem_get_info().map_err(self.failed("asking for free memory"))?;
        Ok((free as u64, total as u64))
    }

    fn allocate(&self, bytes: u64) -> Result<Pointer> {
        self.bound()?;
        // SAFETY: a context is bound; the memory is written before it is read, which the plan checks.
        unsafe { result::malloc_sync(bytes as usize) }.map_err(self.failed(format!("allocating {bytes} bytes")))
    }

    fn release(&self, pointer: Pointer) {
        // The driver's manual does not say that freeing waits for work that uses the memory.
        if self.context.synchronize().is_ok() {
            // SAFETY: allocated by `allocate`, released once by its owner, and used by nothing that is queued. A
            // failure leaves memory behind; there is nobody to tell.
            let _ = unsafe { result::free_sync(pointer) };
        }
    }

    fn host_memory(&self, bytes: usize) -> Result<Box<dyn HostMemory>> {
        self.bound()?;
        let made = Pinned::new(&self.context, bytes);
        Ok(Box::new(made.map_err(self.failed(format!("locking {bytes} bytes of memory")))?))
    }

    fn stream(&self) -> Result<Stream> {
        let stream = self.context.new_stream().map_err(self.failed("making a stream"))?;
        let mut streams = locked(&self.streams);
        streams.push(stream);
        Ok(Stream(streams.len() - 1))
    }

    fn beside(&self, stream: Stream) -> Result<Stream> {
        let mut beside = locked(&self.beside);
        if let Some(&found) = beside.get(&stream) {
            return Ok(found);
        }
        let made = self.stream()?;
        beside.insert(stream, made);
        Ok(made)
    }

    fn upload(&self, to: Pointer, bytes: &[u8], stream: Stream) -> Result<()> {
        let stream = self.on(stream)?;
        // SAFETY: the caller's range lies in one allocation. Pageable memory is copied before the call returns.
        unsafe { result::memcpy_htod_async(to, bytes, stream.cu_stream()) }
            .map_err(self.failed(format!("copying {} bytes to the GPU", bytes.len())))
    }

    fn download_pinned(
        &self,
        from: Pointer,
        to: &mut dyn HostMemory,
        bytes: Range<usize>,
        stream: Stream,
    ) -> Result<()> {
        let on = self.on(stream)?;
        let to = &mut to.bytes_mut()[bytes];
        let told = format!("copying {} bytes from the GPU", to.len());
        // SAFETY: the caller's range lies in one allocation; page-locked memory is not let go before the copy is done.
        unsafe { result::memcpy_dtoh_async(to, from, on.cu_stream()) }.map_err(self.failed(told))
    }

    fn download(&self, from: Pointer, bytes: &mut [u8], stream: Stream) -> Result<()> {
        let on = self.on(stream)?;
        // SAFETY: the caller's range lies in one allocation; the copy is awaited before the bytes are let go.
        unsafe { result::memcpy_dtoh_async(bytes, from, on.cu_stream()) }
            .map_err(self.failed(format!("copying {} bytes from the GPU", bytes.len())))?;
        on.synchronize().map_err(self.failed("waiting for a copy"))?;
        trail(&self.trail).done(stream);
        Ok(())
    }

    fn copy(&self, to: Pointer, from: Pointer, bytes: u64, stream: Stream) -> Result<()> {
        let stream = self.on(stream)?;
        // SAFETY: the caller's ranges lie in one allocation each.
        unsafe { result::memcpy_dtod_async(to, from, bytes as usize, stream.cu_stream()) }
            .map_err(self.failed(format!("copying {bytes} bytes on the GPU")))
    }

    fn fill(&self, to: Pointer, byte: u8, bytes: u64, stream: Stream) -> Result<()> {
        let stream = self.on(stream)?;
        // SAFETY: the caller's range lies in one allocation.
        unsafe { result::memset_d8_async(to, byte, bytes as usize, stream.cu_stream()) }
            .map_err(self.failed(format!("setting {bytes} bytes on the GPU")))
    }

    fn launch(&self, stream: Stream, launch: &mut Launch) -> Result<()> {
        let on = self.on(stream)?;
        let function = self.function(launch.kernel)?;
        let Launch { kernel, grid, block, .. } = *launch;
        let ([gx, gy, gz], [bx, by, bz]) = (grid, block);
        let told = || format!("launching `{kernel}` with grid {grid:?} of {block:?}");
        // SAFETY: the function belongs to a loaded module; each parameter points to a value of the type that the
        // kernel takes, which the tests check for every launch on the emulated device.
        unsafe {
            result::launch_kernel(
                function.0,
                (gx, gy, gz),
                (bx, by, bz),
                launch.shared,
                on.cu_stream(),
                launch.parameters,
            )
        }
        .map_err(self.failed(told()))?;
        trail(&self.trail).launched(stream, Launched { kernel: kernel.to_owned(), grid, block });
        if self.blocking {
            self.synchronize(stream)?;
        }
        Ok(())
    }

    fn convolution_workspace(&self, call: &Call) -> Result<Option<u64>> {
        self.bound()?;
        let mut cudnn = locked(&self.cudnn);
        if cudnn.is_none() {
            *cudnn = Some(Cudnn::open()?);
        }
        cudnn.as_mut().map_or(Ok(None), |cudnn| cudnn.workspace(call))
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
        if self.blocking {
            return Ok(None);
        }
        let recorded = self.on(stream)?;
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // Whatever goes wrong but for the GPU itself, the same work can be queued without a recording.
        let unless_fatal = |error: DriverError| match is_fatal(error) {
            true => Err(self.failed("making a recording")(error)),
            false => Ok(None),
        };
        // SAFETY: the stream lives; the capture is ended below whatever the work returns.
        if let Err(error) = unsafe { result::stream::begin_capture(recorded.cu_stream(), mode) } {
            return unless_fatal(error);
        }
        trail(&self.trail).begin();
        let worked = work();
        let launches = trail(&self.trail).end();
        // SAFETY: begun above.
        let graph = match unsafe { result::stream::end_capture(recorded.cu_stream()) } {
            Ok(graph) => graph,
            Err(error) => return unless_fatal(error),
        };
        if worked.is_err() {
            // SAFETY: the graph was just made, and nothing has it. What the work said is heard again without it.
            let _ = unsafe { result::graph::destroy(graph) };
            return Ok(None);
        }
        let streams = locked(&self.streams).clone();
        match Recorded::new(&self.context, graph, streams, launches, &self.trail) {
            Ok(made) => Ok(Some(Box::new(made))),
            Err(error) => unless_fatal(error),
        }
    }

    fn event(&self, stream: Stream) -> Result<Box<dyn Event>> {
        let on = self.on(stream)?;
        let event =
            on.record_event(Some(sys::CUevent_flags::CU_EVENT_DEFAULT)).map_err(self.failed("marking a time"))?;
        let after = trail(&self.trail).marked(stream);
        Ok(Box::new(Mark { event, after, trail: self.trail.clone() }))
    }

    fn wait(&self, stream: Stream, event: &dyn Event) -> Result<()> {
        let Some(mark) = event.as_any().downcast_ref::<Mark>() else {
            return Err(Error::Bug { place: "gpu", problem: "an event of another device".into() });
        };
        self.on(stream)?.wait(&mark.event).map_err(self.failed("waiting for another stream"))?;
        trail(&self.trail).waits(stream, &mark.after);
        Ok(())
    }

    fn synchronize(&self, stream: Stream) -> Result<()> {
        self.on(stream)?.synchronize().map_err(self.failed("waiting for the GPU"))?;
        trail(&self.trail).done(stream);
        Ok(())
    }

    fn settle(&self) -> Result<()> {
        self.context.synchronize().map_err(self.failed("waiting for the GPU"))
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

    fn expect_jpeg(&self) -> Result<()> {
        self.jpeg().map(drop)
    }

    fn decode_jpeg(&self, bytes: &[u8], size: (usize, usize)) -> Result<Elsewhere> {
        self.jpeg()?.decode(&self.context, bytes, size)
    }

    fn about(&self, what: &str) {
        trail(&self.trail).about(what);
    }

    fn range_begin(&self, name: &str) {
        if let Some(ranges) = &self.ranges {
            ranges.push(name);
        }
    }

    fn range_end(&self) {
        if let Some(ranges) = &self.ranges {
            ranges.pop();
        }
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        // Nothing runs any more: programs hold the driver, and what they queued is done or has failed.
        if self.context.synchronize().is_err() {
            return;
        }
        for module in &self.modules {
            // SAFETY: loaded by `load_modules`, unloaded once. A failure leaves memory behind; there is nobody to tell.
            let _ = unsafe { result::module::unload(locked(module).0) };
        }
    }
}
