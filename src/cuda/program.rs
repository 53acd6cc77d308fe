//! A graph in a device's memory, ready to run as often as there are views.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::Arc;

use super::branches::{Aside, asides};
use super::convolution::Pointers;
use super::driver::{Driver, Event, Launch, Recording, Stream};
use super::graph::{Arg, Graph, Kind, Step, Value, Work};
use super::placement::{Home, Placement, place};
use super::staging::Feed;
use super::storage::Pointer;
use crate::error::{Error, Result};
use crate::host::memory::readable;

/// Memory that goes back to its device.
pub struct Owned {
    driver: Arc<dyn Driver>,
    pointer: Pointer,
}

impl Owned {
    /// Allocates; `what` is for the message where there is not enough.
    ///
    /// # Errors
    /// [`Error::Memory`] with what is free.
    pub fn new(driver: &Arc<dyn Driver>, bytes: u64, what: impl FnOnce() -> String) -> Result<Self> {
        let pointer = driver.allocate(bytes.max(1)).map_err(|error| {
            // Only a lack of memory is one: what else a device says must not pass for it.
            let Error::Memory(problem) = error else { return error.within(&what()) };
            let free = driver.memory().map_or_else(|_| "unknown".into(), |(free, _)| readable(free));
            Error::Memory(format!("{}: {problem}; {free} are free on {}", what(), driver.name()))
        })?;
        Ok(Self { driver: driver.clone(), pointer })
    }

    /// Its address.
    pub fn pointer(&self) -> Pointer {
        self.pointer
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.driver.release(self.pointer);
    }
}

/// A graph with its memory. The recording goes before what it uses.
pub struct Program {
    recording: Option<Box<dyn Recording>>,
    driver: Arc<dyn Driver>,
    stream: Stream,
    /// For steps aside; the stream itself where there are none.
    beside: Stream,
    asides: Vec<Aside>,
    graph: Graph,
    placement: Placement,
    pointers: Vec<Pointer>,
    /// By step and argument: where its table of addresses lies.
    tables: BTreeMap<(usize, usize), Pointer>,
    _memory: Vec<Owned>,
    _shared: Vec<Arc<Owned>>,
    next: Next,
}

/// How a program runs the next time, as long as it has no recording.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Step by step: kernels are loaded, and libraries fill their caches.
    Cold,
    /// A recording is made.
    Record,
    /// Step by step, since no recording could be made.
    Steps,
}

impl Program {
    /// Places the graph's values, temporaries sharing one arena over time, and puts constants and first states there.
    ///
    /// # Errors
    /// [`Error::Memory`] with what was planned and what is free; the device's.
    pub fn new(driver: &Arc<dyn Driver>, stream: Stream, graph: Graph) -> Result<Self> {
        let placement = place(&graph)?;
        let planned = || {
            let [both, arena, lasting] =
                [placement.arena + placement.lasting, placement.arena, placement.lasting].map(readable);
            format!("a plan of {both} (arena {arena}, weights and inputs {lasting})")
        };
        let arena = Owned::new(driver, placement.arena, planned)?;
        let lasting = Owned::new(driver, placement.lasting, planned)?;
        Self::within(driver, stream, graph, placement, Arc::new(arena), (Arc::new(lasting), 0))
    }

    /// In memory that others may share: the arena with programs that never run at the same time, and of `lasting` what
    /// begins at its offset is this program's alone.
    ///
    /// # Errors
    /// The device's.
    pub fn within(
        driver: &Arc<dyn Driver>,
        stream: Stream,
        graph: Graph,
        placement: Placement,
        arena: Arc<Owned>,
        (lasting, offset): (Arc<Owned>, u64),
    ) -> Result<Self> {
        let address = |home: &Home| match home {
            Home::Arena(at) => arena.pointer + at,
            Home::Lasting(at) => lasting.pointer + offset + at,
            Home::Unused => 0,
        };
        let pointers = placement.homes.iter().map(address).collect();
        let mut program = Self::placed(driver, stream, graph, placement, pointers, Vec::new())?;
        program._shared = vec![arena, lasting];
        Ok(program)
    }

    /// With every value where the caller has placed it, in memory that the program owns from now on; 0 for values that
    /// the placement leaves out.
    ///
    /// # Errors
    /// The device's.
    pub fn placed(
        driver: &Arc<dyn Driver>,
        stream: Stream,
        mut graph: Graph,
        placement: Placement,
        mut pointers: Vec<Pointer>,
        mut memory: Vec<Owned>,
    ) -> Result<Self> {
        for (info, pointer) in graph.values.iter().zip(&mut pointers) {
            if let Kind::External(outside) = info.kind {
                *pointer = outside;
            }
        }
        for (info, &pointer) in graph.values.iter_mut().zip(&pointers) {
            if let Kind::Constant(bytes) | Kind::State(bytes) = &mut info.kind {
                let bytes = std::mem::take(bytes);
                if pointer != 0 {
                    driver.upload(pointer, &bytes, stream)?;
                }
            }
        }
        let tables = tables(driver, stream, &graph, &pointers, &mut memory)?;
        driver.synchronize(stream)?;
        let asides = asides(&graph);
        let beside = if asides.is_empty() { stream } else { driver.beside(stream)? };
        let driver = driver.clone();
        let _memory = memory;
        Ok(Self {
            driver,
            stream,
            beside,
            asides,
            graph,
            placement,
            pointers,
            tables,
            _memory,
            _shared: Vec::new(),
            recording: None,
            next: Next::Cold,
        })
    }

    /// Its memory.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Its steps.
    pub fn steps(&self) -> &[Step] {
        &self.graph.steps
    }

    /// What is known of a value.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The stream that it runs in.
    pub fn stream(&self) -> Stream {
        self.stream
    }

    /// Where a value lies; for copies from and to other programs.
    pub fn pointer(&self, value: Value) -> Pointer {
        self.pointers[value.0]
    }

    fn expect_bytes(&self, value: Value, bytes: usize) -> Result<()> {
        let info = self.graph.info(value);
        if info.bytes() == bytes as u64 {
            return Ok(());
        }
        let problem = format!("{bytes} bytes for `{}`, which has {}", info.name, info.bytes());
        Err(Error::Bug { place: "device program", problem })
    }

    /// Puts bytes into an input or a state. Values that no step uses are left out.
    ///
    /// # Errors
    /// [`Error::Bug`] where their number is another; the device's.
    pub fn upload(&self, value: Value, bytes: &[u8]) -> Result<()> {
        self.expect_bytes(value, bytes.len())?;
        if self.pointers[value.0] == 0 {
            return Ok(());
        }
        self.driver.upload(self.pointers[value.0], bytes, self.stream)
    }

    /// As [`Program::upload`], together with what else is fed.
    ///
    /// # Errors
    /// [`Error::Bug`] where their number is another.
    pub(super) fn feed(&self, value: Value, bytes: &[u8], feed: &mut Feed) -> Result<()> {
        self.expect_bytes(value, bytes.len())?;
        if self.pointers[value.0] != 0 {
            feed.put(self.pointers[value.0], bytes);
        }
        Ok(())
    }

    /// An output's, a state's or an input's bytes, after all that was queued before.
    ///
    /// # Errors
    /// [`Error::Bug`] for a temporary, whose memory may hold something else by now; the device's.
    pub fn download(&self, value: Value, bytes: &mut [u8]) -> Result<()> {
        self.expect_bytes(value, bytes.len())?;
        let info = self.graph.info(value);
        if info.kind == Kind::Temporary || self.pointers[value.0] == 0 {
            let problem = format!("`{}` is not kept", info.name);
            return Err(Error::Bug { place: "device program", problem });
        }
        self.driver.download(self.pointers[value.0], bytes, self.stream)
    }

    /// As [`Program::download`], as f32 values.
    ///
    /// # Errors
    /// As [`Program::download`].
    pub fn download_f32(&self, value: Value) -> Result<Vec<f32>> {
        use super::storage::Element;
        let info = self.graph.info(value);
        let mut bytes = vec![0u8; info.bytes() as usize];
        let element = info.element;
        self.download(value, &mut bytes)?;
        Ok(match element {
            Element::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            Element::F16 => bytes.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            Element::F64 => {
                bytes.chunks_exact(8).map(|b| f64::from_le_bytes(std::array::from_fn(|i| b[i])) as f32).collect()
            }
            Element::U8 => bytes.iter().map(|&b| f32::from(b)).collect(),
            Element::U32 => {
                bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as f32).collect()
            }
        })
    }

    /// Queues all steps. The first run launches them one by one, which loads kernels and fills libraries' caches; the
    /// second is recorded where the device can, and from then on the recording is replayed: one launch instead of a
    /// hundred.
    ///
    /// # Errors
    /// Where a step fails; the message names it with its shapes and the device.
    pub fn run(&mut self) -> Result<()> {
        if let Some(recording) = &self.recording {
            return recording.replay(self.stream);
        }
        if self.next != Next::Record {
            if self.next == Next::Cold {
                self.next = Next::Record;
            }
            return self.queue();
        }
        let (driver, stream) = (self.driver.clone(), self.stream);
        self.recording = driver.record(stream, &mut || self.queue())?;
        self.next = Next::Steps;
        match &self.recording {
            Some(recording) => recording.replay(stream),
            None => self.queue(),
        }
    }

    /// Waits until all that was queued is done.
    ///
    /// # Errors
    /// What went wrong in it.
    pub fn synchronize(&self) -> Result<()> {
        self.driver.synchronize(self.stream)
    }

    /// Runs all steps with a mark after each, and returns how long each took in milliseconds.
    ///
    /// # Errors
    /// As [`Program::run`].
    pub fn timed(&self) -> Result<Vec<f32>> {
        let mut events = vec![self.driver.event(self.stream)?];
        for step in 0..self.graph.steps.len() {
            self.queue_step(step, self.stream)?;
            events.push(self.driver.event(self.stream)?);
        }
        self.synchronize()?;
        events.windows(2).map(|pair| pair[1].milliseconds_since(&*pair[0])).collect()
    }

    /// All steps, those aside in a stream of their own.
    fn queue(&self) -> Result<()> {
        let apart = self.beside != self.stream;
        let wait_at = |step: usize, done: &mut Vec<(usize, Box<dyn Event>)>| {
            done.extract_if(.., |(join, _)| *join == step).try_for_each(|(_, e)| self.driver.wait(self.stream, &*e))
        };
        let mut asides = self.asides.iter().filter(|_| apart).peekable();
        // Where the ends of those that have begun are waited for.
        let mut done: Vec<(usize, Box<dyn Event>)> = Vec::new();
        for (i, step) in self.graph.steps.iter().enumerate() {
            wait_at(i, &mut done)?;
            if asides.peek().is_some_and(|aside| aside.steps.start == i) {
                self.driver.wait(self.beside, &*self.driver.event(self.stream)?)?;
            }
            self.queue_step(i, if step.aside && apart { self.beside } else { self.stream })?;
            if let Some(aside) = asides.next_if(|aside| aside.steps.end == i + 1) {
                done.push((aside.join, self.driver.event(self.beside)?));
            }
        }
        wait_at(self.graph.steps.len(), &mut done)
    }

    fn queue_step(&self, i: usize, stream: Stream) -> Result<()> {
        let step = &self.graph.steps[i];
        self.driver.range_begin(step.op);
        let queued = self.queue_work(i, step, stream);
        self.driver.range_end();
        queued.map_err(|error| self.located(step, error))
    }

    fn located(&self, step: &Step, error: Error) -> Error {
        let shape = |arg: &Arg| {
            arg.value().map(|v| {
                format!("`{}` {} {}", self.graph.info(v).name, self.graph.shape(v), self.graph.element(v).suffix())
            })
        };
        let values: Vec<String> = step.args.iter().filter_map(shape).collect();
        let at = if step.label.is_empty() { String::new() } else { format!(" at {}", step.label) };
        error.within(&format!("{}{at} on {} with {}", step.op, self.driver.name(), values.join(", ")))
    }

    fn address(&self, arg: &Arg) -> Pointer {
        address(&self.pointers, arg)
    }

    fn queue_work(&self, i: usize, step: &Step, stream: Stream) -> Result<()> {
        match &step.work {
            Work::Kernel { kernel, grid, block, shared } => {
                let mut storage: Vec<Vec<u8>> = Vec::with_capacity(step.args.len());
                for (a, arg) in step.args.iter().enumerate() {
                    storage.push(match arg {
                        Arg::Plain(bytes) => bytes.clone(),
                        Arg::Table(_) => self.tables[&(i, a)].to_le_bytes().to_vec(),
                        arg => self.address(arg).to_le_bytes().to_vec(),
                    });
                }
                // Parameters must be aligned like their types; none needs more than 16 bytes.
                let mut words: Vec<Vec<u128>> = storage
                    .iter()
                    .map(|bytes| {
                        let mut words = vec![0u128; bytes.len().div_ceil(16)];
                        bytemuck::cast_slice_mut::<u128, u8>(&mut words)[..bytes.len()].copy_from_slice(bytes);
                        words
                    })
                    .collect();
                let mut parameters: Vec<*mut c_void> = words.iter_mut().map(|w| w.as_mut_ptr().cast()).collect();
                let sizes: Vec<usize> = storage.iter().map(Vec::len).collect();
                let mut launch = Launch {
                    kernel,
                    grid: *grid,
                    block: *block,
                    shared: *shared,
                    parameters: &mut parameters,
                    sizes: &sizes,
                };
                self.driver.launch(stream, &mut launch)
            }
            Work::Fill(byte) => {
                let bytes = step.args[0].value().map_or(0, |v| self.graph.info(v).bytes());
                self.driver.fill(self.address(&step.args[0]), *byte, bytes, stream)
            }
            Work::Copy(bytes) => {
                let (from, to) = (self.address(&step.args[0]), self.address(&step.args[1]));
                self.driver.copy(to, from, *bytes, stream)
            }
            Work::Convolution(call) => {
                let [x, w, bias, residual, y, workspace] = [0, 1, 2, 3, 4, 5].map(|i| self.address(&step.args[i]));
                let at = Pointers { x, w, bias, residual, y, workspace };
                self.driver.convolve(stream, call, &at)
            }
        }
    }
}

fn address(pointers: &[Pointer], arg: &Arg) -> Pointer {
    match arg {
        Arg::Read(v, offset) | Arg::Write(v, offset) | Arg::Update(v, offset) => {
            // An offset may point before the value's beginning (ops::conv's slabs).
            pointers[v.0].wrapping_add(*offset)
        }
        Arg::Null | Arg::Plain(_) | Arg::Table(_) => 0,
    }
}

/// Puts the tables of addresses into device memory.
fn tables(
    driver: &Arc<dyn Driver>,
    stream: Stream,
    graph: &Graph,
    pointers: &[Pointer],
    memory: &mut Vec<Owned>,
) -> Result<BTreeMap<(usize, usize), Pointer>> {
    let mut tables = BTreeMap::new();
    for (i, step) in graph.steps.iter().enumerate() {
        for (a, arg) in step.args.iter().enumerate() {
            let Arg::Table(args) = arg else { continue };
            let bytes: Vec<u8> = args.iter().flat_map(|arg| address(pointers, arg).to_le_bytes()).collect();
            let owned = Owned::new(driver, bytes.len() as u64, || "a table of addresses".into())?;
            driver.upload(owned.pointer, &bytes, stream)?;
            tables.insert((i, a), owned.pointer);
            memory.push(owned);
        }
    }
    Ok(tables)
}
