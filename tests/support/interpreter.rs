//! A device on which the engine's programs run: the interpreter behind the engine's `Driver`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Instant;

use engine::cuda::convolution::{Call, Pointers};
use engine::cuda::driver::{Driver, Event, HostMemory, Launch, Recording, Stream};
use engine::cuda::storage::Pointer;
use engine::{Error, Result};
use ptx_interpreter::code::Kernel;
use ptx_interpreter::figures::Figures;
use ptx_interpreter::machine::{Machine, Shape};
use ptx_interpreter::memory::Area;
use ptx_interpreter::text::Module;

use super::nvcc::{Sums, ptx_of_all};

/// Addresses begin here, and between allocations lies more than a kernel is off by mistake.
const FIRST_ADDRESS: u64 = 0x7f00_0000_0000;
const GAP: u64 = 1 << 16;
const MEMORY: u64 = 8 << 30;

/// Kernels of one or more modules, made ready when they are first launched.
#[derive(Default)]
pub struct Library {
    modules: Vec<Arc<Module>>,
    ready: Mutex<HashMap<String, Arc<Kernel>>>,
    figures: Mutex<BTreeMap<String, Figures>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Library {
    /// From the text of each module.
    ///
    /// # Errors
    /// What is wrong with one.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> std::result::Result<Self, String> {
        let modules = texts.into_iter().map(|text| Module::parse(text).map(Arc::new));
        Ok(Self { modules: modules.collect::<std::result::Result<_, _>>()?, ..Self::default() })
    }

    /// The same kernels, but those that this module has, too.
    ///
    /// # Errors
    /// What is wrong with the module.
    pub fn with(&self, text: &str) -> std::result::Result<Self, String> {
        let own = Module::parse(text)?;
        let other = |module: &&Arc<Module>| module.kernels.iter().all(|kernel| own.kernel(&kernel.name).is_none());
        let mut modules: Vec<Arc<Module>> = self.modules.iter().filter(other).cloned().collect();
        modules.push(Arc::new(own));
        Ok(Self { modules, ..Self::default() })
    }

    /// Names of all kernels.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.modules.iter().flat_map(|module| &module.kernels).map(|kernel| kernel.name.as_str())
    }

    /// A kernel that can be run.
    ///
    /// # Errors
    /// Where there is none of this name, or the interpreter does not know one of its lines.
    pub fn kernel(&self, name: &str) -> std::result::Result<Arc<Kernel>, String> {
        let mut ready = locked(&self.ready);
        if let Some(kernel) = ready.get(name) {
            return Ok(kernel.clone());
        }
        let found = self.modules.iter().find_map(|module| Some((&**module, module.kernel(name)?)));
        let (module, text) = found.ok_or_else(|| format!("there is no kernel `{name}`"))?;
        let kernel = Arc::new(Kernel::decode(module, text)?);
        ready.insert(name.to_owned(), kernel.clone());
        Ok(kernel)
    }

    /// What each kernel asked of the memory so far.
    pub fn figures(&self) -> BTreeMap<String, Figures> {
        locked(&self.figures).clone()
    }

    /// Writes them as a table to the file that ENGINE_PTX_FIGURES names, if it does.
    fn write_figures(&self) {
        let Some(path) = std::env::var_os("ENGINE_PTX_FIGURES") else { return };
        let figures = locked(&self.figures);
        let ready = locked(&self.ready);
        let line = |(name, figures): (&String, &Figures)| {
            let reached = &ready[name].reached;
            let ran = reached.iter().filter(|reached| reached.load(Ordering::Relaxed)).count();
            format!("{name}: {:.0} % of its code, {figures}\n", 100.0 * ran as f64 / reached.len() as f64)
        };
        let lines: Vec<String> = figures.iter().map(line).collect();
        std::fs::write(&path, lines.concat()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// The interpreting device.
pub struct Interpreter {
    library: Arc<Library>,
    machine: Mutex<Machine>,
    next: Mutex<(u64, usize)>,
    launched: Mutex<BTreeSet<String>>,
}

impl Interpreter {
    /// A device with these kernels and no memory yet.
    pub fn new(library: Arc<Library>) -> Self {
        let (machine, launched) = Default::default();
        Self { library, machine, next: Mutex::new((FIRST_ADDRESS, 0)), launched }
    }

    /// Whether nothing that it launched so far computes what a device may compute in another way: approximations, and
    /// products on tensor cores.
    pub fn only_exact(&self) -> bool {
        let exact = |name: &String| self.library.kernel(name).is_ok_and(|kernel| kernel.exact);
        locked(&self.launched).iter().all(exact)
    }

    /// Stops launches that take more instructions than this.
    pub fn with_budget(self, instructions: u64) -> Self {
        locked(&self.machine).budget = instructions;
        self
    }

    /// Works on a range that must lie in one allocation.
    fn inside(&self, at: Pointer, bytes: u64, work: impl FnOnce(&mut Area, usize)) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let mut machine = locked(&self.machine);
        let found = machine.global.find(at);
        let area = found.map(|i| &mut machine.global.areas[i]).filter(|a| at - a.start + bytes <= a.bytes.len() as u64);
        match area {
            Some(area) => {
                let offset = (at - area.start) as usize;
                work(area, offset);
                Ok(())
            }
            None => Err(Error::Device(format!("a copy of {bytes} bytes leaves the buffer at {at:#x}"))),
        }
    }
}

impl Drop for Interpreter {
    fn drop(&mut self) {
        self.library.write_figures();
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

impl Driver for Interpreter {
    fn name(&self) -> String {
        "the interpreted device".into()
    }

    fn memory(&self) -> Result<(u64, u64)> {
        let used: usize = locked(&self.machine).global.areas.iter().map(|area| area.bytes.len()).sum();
        Ok((MEMORY.saturating_sub(used as u64), MEMORY))
    }

    fn allocate(&self, bytes: u64) -> Result<Pointer> {
        if bytes > self.memory()?.0 {
            return Err(Error::Memory("out of memory".into()));
        }
        let mut next = locked(&self.next);
        let start = next.0;
        next.0 = (start + bytes + GAP).next_multiple_of(4096);
        // Addresses only grow, so that the areas stay sorted.
        locked(&self.machine).global.areas.push(Area::new(start, bytes as usize));
        Ok(start)
    }

    fn release(&self, pointer: Pointer) {
        let mut machine = locked(&self.machine);
        let before = machine.global.areas.len();
        machine.global.areas.retain(|area| area.start != pointer);
        if !std::thread::panicking() {
            assert_eq!(machine.global.areas.len() + 1, before, "a buffer was freed twice");
        }
    }

    fn host_memory(&self, bytes: usize) -> Result<Box<dyn HostMemory>> {
        Ok(Box::new(Bytes(vec![0; bytes])))
    }

    fn stream(&self) -> Result<Stream> {
        let mut next = locked(&self.next);
        next.1 += 1;
        Ok(Stream(next.1))
    }

    fn upload(&self, to: Pointer, bytes: &[u8], _: Stream) -> Result<()> {
        self.inside(to, bytes.len() as u64, |area, at| area.put(at, bytes))
    }

    fn download(&self, from: Pointer, bytes: &mut [u8], _: Stream) -> Result<()> {
        let length = bytes.len();
        self.inside(from, length as u64, |area, at| bytes.copy_from_slice(&area.bytes[at..at + length]))
    }

    fn copy(&self, to: Pointer, from: Pointer, bytes: u64, stream: Stream) -> Result<()> {
        let mut between = vec![0; bytes as usize];
        self.download(from, &mut between, stream)?;
        self.upload(to, &between, stream)
    }

    fn fill(&self, to: Pointer, byte: u8, bytes: u64, stream: Stream) -> Result<()> {
        self.upload(to, &vec![byte; bytes as usize], stream)
    }

    fn launch(&self, _: Stream, launch: &mut Launch) -> Result<()> {
        let kernel = self.library.kernel(launch.kernel).map_err(Error::Device)?;
        let pointers = launch.parameters.iter().zip(launch.sizes);
        // SAFETY: the launch says how many bytes lie at each of its pointers.
        let parameters = pointers.map(|(&at, &size)| unsafe { std::slice::from_raw_parts(at.cast::<u8>(), size) });
        let parameters: Vec<&[u8]> = parameters.collect();
        let shape = Shape { grid: launch.grid, block: launch.block, shared: launch.shared };
        let figures = locked(&self.machine).launch(&kernel, shape, &parameters).map_err(Error::Device)?;
        locked(&self.launched).insert(kernel.name.clone());
        *locked(&self.library.figures).entry(kernel.name.clone()).or_default() += figures;
        Ok(())
    }

    fn convolution_workspace(&self, call: &Call) -> Result<Option<u64>> {
        Err(Error::Device(format!("the interpreted device has no cuDNN for {call:?}")))
    }

    fn convolve(&self, _: Stream, call: &Call, _: &Pointers) -> Result<()> {
        Err(Error::Device(format!("the interpreted device has no cuDNN for {call:?}")))
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

/// The engine's kernels, as nvcc compiles them; `None` after a line that says so where there is no nvcc.
pub fn library(sums: Sums) -> Option<Arc<Library>> {
    static FUSED: OnceLock<Option<Arc<Library>>> = OnceLock::new();
    static APART: OnceLock<Option<Arc<Library>>> = OnceLock::new();
    let cell = if sums == Sums::Fused { &FUSED } else { &APART };
    let found = cell.get_or_init(|| {
        let texts = ptx_of_all(sums)?;
        Some(Arc::new(Library::parse(texts.iter().map(String::as_str)).unwrap_or_else(|problem| panic!("{problem}"))))
    });
    found.clone()
}
