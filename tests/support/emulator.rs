//! A device that is this processor: the kernels of `kernels/` compiled as C++ (tests/emulator), and a driver for them.
//!
//! Two builds: the fast one, for whole networks, and the checked one, which finds races, accesses out of bounds and
//! reads of memory that nobody wrote. They are compiled by the first test that wants them into the tests' folder, once
//! for one state of the sources.

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use engine::cuda::convolution::{Call, Pointers};
use engine::cuda::driver::{Driver, Event, HostMemory, Launch, Recording, Stream};
use engine::cuda::storage::Pointer;
use engine::{Error, Result};
use libloading::Library;
use sha2::{Digest, Sha256};

/// Which build of the kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// Optimised, on all processors.
    Fast,
    /// With the detector, on one.
    Checked,
}

/// Says that tests were left out, or fails where they must not be.
pub fn skipped(why: &str) {
    assert!(std::env::var_os("ENGINE_REQUIRE_EMULATOR").is_none(), "{why}, and ENGINE_REQUIRE_EMULATOR is set");
    eprintln!("skipped: {why}");
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn files(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| extensions.iter().any(|x| e == *x)))
        .collect();
    files.sort();
    files
}

fn compiler() -> String {
    std::env::var("CXX").unwrap_or_else(|_| "c++".into())
}

fn flags(build: Build) -> Vec<&'static str> {
    let mut flags = vec!["-std=c++20", "-fPIC", "-g1", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"];
    // Pragmas are for nvcc; the kernels' unused parameters would be found by it, too.
    flags.extend(["-Wno-unknown-pragmas", "-Wno-unused-function"]);
    if cfg!(target_arch = "x86_64") {
        // f16 conversions in hardware; every processor of the last ten years has them.
        flags.extend(["-mf16c", "-mavx2"]);
    }
    match build {
        Build::Fast => flags.extend(["-O2", "-fno-math-errno", "-fno-trapping-math"]),
        Build::Checked => flags.extend(["-O1", "-DENGINE_CHECKED"]),
    }
    flags
}

/// The library of a build, compiled unless that was done for the same sources before; `None` without a C++ compiler.
pub fn compile(build: Build) -> Option<PathBuf> {
    let kernels = files(&folder("kernels"), &["cu"]);
    let emulator = files(&folder("tests/emulator"), &["cpp"]);
    let headers = files(&folder("kernels"), &["cuh"]).into_iter().chain(files(&folder("tests/emulator"), &["h"]));
    let extra = files(&folder("tests/emulator"), &["cu"]);
    let flags = flags(build);
    let version = Command::new(compiler()).arg("--version").output().ok()?;
    let common = {
        let mut hash = Sha256::new();
        flags.iter().for_each(|f| hash.update(f));
        hash.update(&version.stdout);
        headers.for_each(|path| hash.update(std::fs::read(path).unwrap()));
        hash
    };
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("emulator");
    std::fs::create_dir_all(&out).unwrap();
    let lock = std::fs::File::create(out.join("lock")).unwrap();
    lock.lock().unwrap();
    // One object for each source, so that a change of one kernel file compiles that one.
    let named = |hash: Sha256| hash.finalize().iter().take(10).map(|b| format!("{b:02x}")).collect::<String>();
    let mut library = common.clone();
    let mut objects = Vec::new();
    let mut missing = Vec::new();
    for source in kernels.iter().chain(&extra).chain(&emulator) {
        let text = std::fs::read(source).unwrap();
        let mut hash = common.clone();
        hash.update(&text);
        hash.update(source.file_name().unwrap().as_encoded_bytes());
        library.update(&text);
        let object = out.join(format!("{}-{}.o", source.file_stem().unwrap().display(), named(hash)));
        if !object.exists() {
            missing.push((source.clone(), object.clone()));
        }
        objects.push(object);
    }
    let library = out.join(format!("kernels-{build:?}-{}.so", named(library)));
    if library.exists() {
        return Some(library);
    }
    let next = Mutex::new(missing.into_iter());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from).min(8) {
            scope.spawn(|| {
                loop {
                    let Some((source, object)) = next.lock().unwrap().next() else { break };
                    let mut command = Command::new(compiler());
                    command.args(&flags).arg("-I").arg(folder("tests/emulator")).arg("-I").arg(folder("kernels"));
                    if build == Build::Checked && source.extension().is_some_and(|e| e == "cu") {
                        // Only for its calls before each access: the sanitizer's library is not linked.
                        command.arg("-fsanitize=thread");
                    }
                    let part = object.with_extension("part");
                    run(command.arg("-x").arg("c++").arg("-c").arg(&source).arg("-o").arg(&part));
                    std::fs::rename(part, object).unwrap();
                }
            });
        }
    });
    let part = library.with_extension("part");
    run(Command::new(compiler()).args(["-shared", "-pthread", "-Wl,-z,defs", "-o"]).arg(&part).args(&objects));
    std::fs::rename(part, &library).unwrap();
    Some(library)
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
}

type LaunchFunction = unsafe extern "C" fn(*const u32, *const u32, usize, *mut *mut c_void) -> c_int;
type CountFunction = unsafe extern "C" fn() -> usize;
type SizeFunction = unsafe extern "C" fn(usize) -> usize;

#[derive(Clone)]
struct Entry {
    launch: LaunchFunction,
    sizes: Vec<usize>,
}

/// The emulated device.
pub struct Emulator {
    build: Build,
    path: PathBuf,
    library: Library,
    entries: Mutex<HashMap<String, Entry>>,
    sizes: Mutex<HashMap<Pointer, u64>>,
    /// One thing after another: the detector counts launches and looks up buffers.
    one: Mutex<()>,
    streams: Mutex<usize>,
}

/// The emulator of a build, shared by the tests of a binary; `None` (and a line that says so) where it cannot be built.
pub fn emulator(build: Build) -> Option<Arc<dyn Driver>> {
    device(build).map(|device| -> Arc<dyn Driver> { device })
}

/// As [`emulator`], for calls that only it has.
pub fn device(build: Build) -> Option<Arc<Emulator>> {
    static FAST: OnceLock<Option<Arc<Emulator>>> = OnceLock::new();
    static CHECKED: OnceLock<Option<Arc<Emulator>>> = OnceLock::new();
    let cell = match build {
        Build::Fast => &FAST,
        Build::Checked => &CHECKED,
    };
    let device = cell.get_or_init(|| {
        let path = compile(build)?;
        // SAFETY: the library was made above from this repository's sources; it has no initialisers with requirements.
        let library = unsafe { Library::new(&path) }.unwrap();
        let (entries, sizes, one, streams) = Default::default();
        Some(Arc::new(Emulator { build, path, library, entries, sizes, one, streams }))
    });
    if device.is_none() {
        skipped(&format!("no C++ compiler ({}) for the emulated device", compiler()));
    }
    device.clone()
}

impl Emulator {
    fn symbol<T: Copy>(&self, name: &str) -> Option<T> {
        // SAFETY: the callers name functions of tests/emulator with their types there.
        unsafe { self.library.get::<T>(name.as_bytes()) }.ok().map(|symbol| *symbol)
    }

    fn entry(&self, kernel: &str) -> Result<Entry> {
        let mut entries = self.entries.lock().unwrap();
        if let Some(entry) = entries.get(kernel) {
            return Ok(entry.clone());
        }
        let missing = || Error::Device(format!("there is no kernel `{kernel}`"));
        let launch = self.symbol::<LaunchFunction>(&format!("launch_{kernel}")).ok_or_else(missing)?;
        let count = self.symbol::<CountFunction>(&format!("parameter_count_{kernel}")).ok_or_else(missing)?;
        let size = self.symbol::<SizeFunction>(&format!("parameter_size_{kernel}")).ok_or_else(missing)?;
        // SAFETY: both take no pointers, and the index is below the count.
        let sizes = unsafe { (0..count()).map(|i| size(i)).collect() };
        let entry = Entry { launch, sizes };
        entries.insert(kernel.to_owned(), entry.clone());
        Ok(entry)
    }

    /// What the detector found since the last call, with source lines; empty in the fast build.
    pub fn report(&self) -> String {
        let report: unsafe extern "C" fn() -> *const c_char = self.symbol("emulator_report").unwrap();
        // SAFETY: the function returns a string that lives until its next call, which `one` keeps from happening
        // meanwhile.
        let text = unsafe { CStr::from_ptr(report()) }.to_string_lossy().into_owned();
        text.lines().map(|line| self.with_source(line) + "\n").collect()
    }

    /// A report's line begins with a code address: replaced by file and line where `addr2line` is there to tell.
    fn with_source(&self, line: &str) -> String {
        let Some((address, rest)) = line.split_once(' ') else { return line.to_owned() };
        let base = std::fs::read_to_string("/proc/self/maps").ok().and_then(|maps| {
            let name = self.path.to_str()?.to_owned();
            let line = maps.lines().find(|l| l.ends_with(&name))?.to_owned();
            u64::from_str_radix(line.split('-').next()?, 16).ok()
        });
        let at = u64::from_str_radix(address.trim_start_matches("0x"), 16).ok();
        let (Some(base), Some(at)) = (base, at) else { return rest.to_owned() };
        let output = Command::new("addr2line").arg("-e").arg(&self.path).arg(format!("{:#x}", at - base - 1)).output();
        let place = output.map_or_else(|_| String::new(), |o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
        format!("{place}: {rest}")
    }

    fn one(&self) -> std::sync::MutexGuard<'_, ()> {
        self.one.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn expect_inside(&self, pointer: Pointer, bytes: u64) -> Result<()> {
        let sizes = self.sizes.lock().unwrap();
        let inside = |(&start, &size): (&Pointer, &u64)| pointer >= start && pointer + bytes <= start + size;
        if sizes.iter().any(inside) {
            return Ok(());
        }
        Err(Error::Device(format!("a copy of {bytes} bytes leaves the buffer at {pointer:#x}")))
    }
}

struct Bytes(Vec<u8>);

impl HostMemory for Bytes {
    fn bytes(&self) -> &[u8] {
        &self.0
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

struct Moment(Instant);

impl Event for Moment {
    fn synchronize(&self) -> Result<()> {
        Ok(())
    }
    fn milliseconds_since(&self, earlier: &dyn Event) -> Result<f32> {
        let earlier = earlier.as_any().downcast_ref::<Self>().unwrap();
        Ok((self.0 - earlier.0).as_secs_f32() * 1e3)
    }
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

impl Driver for Emulator {
    fn name(&self) -> String {
        "the emulated device".into()
    }

    fn memory(&self) -> Result<(u64, u64)> {
        let used: u64 = self.sizes.lock().unwrap().values().sum();
        Ok(((8 << 30) - used.min(8 << 30), 8 << 30))
    }

    fn allocate(&self, bytes: u64) -> Result<Pointer> {
        let allocate: unsafe extern "C" fn(usize) -> *mut c_void = self.symbol("emulator_allocate").unwrap();
        if bytes > self.memory()?.0 {
            return Err(Error::Memory("out of memory".into()));
        }
        let _one = self.one();
        // SAFETY: no conditions.
        let pointer = unsafe { allocate(bytes as usize) } as Pointer;
        if pointer == 0 {
            return Err(Error::Device("out of addresses".into()));
        }
        self.sizes.lock().unwrap().insert(pointer, bytes);
        Ok(pointer)
    }

    fn release(&self, pointer: Pointer) {
        let free: unsafe extern "C" fn(*mut c_void) -> c_int = self.symbol("emulator_free").unwrap();
        self.sizes.lock().unwrap().remove(&pointer);
        let one = self.one();
        // SAFETY: a pointer that it does not know is refused.
        let intact = unsafe { free(pointer as *mut c_void) };
        drop(one);
        if !std::thread::panicking() {
            assert_eq!(intact, 1, "something was written behind the end of a buffer, or it was freed twice");
        }
    }

    fn host_memory(&self, bytes: usize) -> Result<Box<dyn HostMemory>> {
        Ok(Box::new(Bytes(vec![0; bytes])))
    }

    fn stream(&self) -> Result<Stream> {
        let mut streams = self.streams.lock().unwrap();
        *streams += 1;
        Ok(Stream(*streams))
    }

    fn upload(&self, to: Pointer, bytes: &[u8], _: Stream) -> Result<()> {
        self.expect_inside(to, bytes.len() as u64)?;
        let upload: unsafe extern "C" fn(*mut c_void, *const c_void, usize) = self.symbol("emulator_upload").unwrap();
        let _one = self.one();
        // SAFETY: the range lies in one allocation.
        unsafe { upload(to as *mut c_void, bytes.as_ptr().cast(), bytes.len()) };
        Ok(())
    }

    fn download(&self, from: Pointer, bytes: &mut [u8], _: Stream) -> Result<()> {
        self.expect_inside(from, bytes.len() as u64)?;
        // SAFETY: the range lies in one allocation, which is readable memory.
        unsafe { std::ptr::copy_nonoverlapping(from as *const u8, bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    fn copy(&self, to: Pointer, from: Pointer, bytes: u64, stream: Stream) -> Result<()> {
        let mut between = vec![0; bytes as usize];
        self.download(from, &mut between, stream)?;
        self.upload(to, &between, stream)
    }

    fn fill(&self, to: Pointer, byte: u8, bytes: u64, _: Stream) -> Result<()> {
        self.expect_inside(to, bytes)?;
        let fill: unsafe extern "C" fn(*mut c_void, c_int, usize) = self.symbol("emulator_fill").unwrap();
        let _one = self.one();
        // SAFETY: the range lies in one allocation.
        unsafe { fill(to as *mut c_void, c_int::from(byte), bytes as usize) };
        Ok(())
    }

    fn launch(&self, _: Stream, launch: &mut Launch) -> Result<()> {
        let entry = self.entry(launch.kernel)?;
        if launch.sizes != entry.sizes {
            let problem =
                format!("`{}` takes parameters of {:?} bytes, not {:?}", launch.kernel, entry.sizes, launch.sizes);
            return Err(Error::Device(problem));
        }
        let one = self.one();
        let (grid, block) = (launch.grid.as_ptr(), launch.block.as_ptr());
        // SAFETY: the parameters have the sizes that the kernel takes; what their pointers point to is the kernel's
        // business.
        let status = unsafe { (entry.launch)(grid, block, launch.shared as usize, launch.parameters.as_mut_ptr()) };
        if status != 0 {
            let (grid, block) = (launch.grid, launch.block);
            let problem = format!("`{}`: a device would refuse grid {grid:?} of {block:?} threads", launch.kernel);
            return Err(Error::Device(problem));
        }
        if self.build == Build::Checked {
            let report = self.report();
            drop(one);
            if !report.is_empty() {
                return Err(Error::Device(format!("the detector found\n{report}")));
            }
        }
        Ok(())
    }

    fn convolution_workspace(&self, call: &Call) -> Result<Option<u64>> {
        Err(Error::Device(format!("the emulated device has no cuDNN for {call:?}")))
    }

    fn convolve(&self, _: Stream, call: &Call, _: &Pointers) -> Result<()> {
        Err(Error::Device(format!("the emulated device has no cuDNN for {call:?}")))
    }

    fn record(&self, _: Stream, _: &mut dyn FnMut() -> Result<()>) -> Result<Option<Box<dyn Recording>>> {
        Ok(None)
    }

    fn event(&self, _: Stream) -> Result<Box<dyn Event>> {
        Ok(Box::new(Moment(Instant::now())))
    }

    fn wait(&self, _: Stream, _: &dyn Event) -> Result<()> {
        Ok(())
    }

    fn synchronize(&self, _: Stream) -> Result<()> {
        Ok(())
    }

    fn range_begin(&self, _: &str) {}

    fn range_end(&self) {}
}
