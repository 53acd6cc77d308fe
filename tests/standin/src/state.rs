//! Everything that the stand-in knows: contexts, handles, what is queued.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::thread::ThreadId;
use std::time::Instant;

use super::codes::Code;
use super::report::Report;
use super::settings::{Kind, Settings};
use super::silicon::{Failure, PAGE, Silicon};
use ptx_interpreter::code::Kernel;
use ptx_interpreter::machine::Shape;
use ptx_interpreter::text::Module;

/// An opaque handle.
pub type Handle = u64;

/// A primary context.
pub struct Context {
    pub device: usize,
    pub silicon: Silicon,
    /// How often it was retained and not released.
    pub retained: usize,
    /// What every call returns since something went wrong on the device.
    pub sticky: Option<Code>,
    /// The legacy stream's handle.
    pub legacy: Handle,
    /// Bytes of the pages that it has of its device.
    pub taken: u64,
}

/// Where a copy to the device has its bytes from.
#[derive(Clone)]
pub enum Source {
    /// Pageable memory, read when the call was made.
    Staged(Arc<Vec<u8>>),
    /// Page-locked memory, read when the copy runs.
    Locked(usize, usize),
}

/// A kernel with what it is launched with.
pub struct Prepared {
    pub kernel: Arc<Kernel>,
    pub shape: Shape,
    pub parameters: Vec<Vec<u8>>,
    pub module: Handle,
}

/// How a library does its work.
pub type HostWork = dyn Fn(&mut Silicon) -> Result<(), Failure> + Send + Sync;

/// Work of a stream.
#[derive(Clone)]
pub enum Work {
    Kernel(Arc<Prepared>),
    Upload {
        to: u64,
        from: Source,
    },
    Download {
        to: usize,
        from: u64,
        bytes: u64,
    },
    Copy {
        to: u64,
        from: u64,
        bytes: u64,
    },
    Fill {
        to: u64,
        byte: u8,
        bytes: u64,
    },
    Record {
        event: Handle,
        version: u64,
    },
    /// Not before another stream has come so far.
    Wait {
        stream: Handle,
        position: u64,
    },
    Graph(Arc<Branches>),
    /// A library's work: what it is, the addresses that it uses, and how it is done.
    Host {
        what: &'static str,
        uses: Arc<Vec<u64>>,
        work: Arc<HostWork>,
    },
    /// Goes wrong with this code.
    Fails(Code),
}

/// A recording that is being made.
pub struct Capture {
    /// No other has it.
    pub id: Handle,
    pub thread: ThreadId,
    pub mode: i32,
    pub branches: Branches,
    /// Something was done that is not allowed meanwhile.
    pub invalid: bool,
}

/// The streams that take part in a capture, first the one that it was begun in, and their work. What a piece of it
/// waits for is a branch by its number, and a position in that.
pub type Branches = Vec<(Handle, Vec<Work>)>;

/// A point of a capture, which an event marks.
#[derive(Clone, Copy)]
pub struct Point {
    /// The stream that the capture was begun in, and the capture.
    pub origin: Handle,
    pub capture: Handle,
    pub branch: usize,
    pub position: u64,
}

/// A stream.
pub struct Stream {
    pub context: Handle,
    pub queue: VecDeque<Work>,
    /// Pieces of work that ran so far.
    pub done: u64,
    pub capture: Option<Capture>,
    /// The stream in which a capture was begun that this one has become a part of.
    pub joined: Option<Handle>,
    /// The program has let it go; its work runs all the same.
    pub destroyed: bool,
}

impl Stream {
    /// Pieces of work that were queued so far.
    pub fn issued(&self) -> u64 {
        self.done + self.queue.len() as u64
    }
}

/// An event.
#[derive(Default)]
pub struct Event {
    pub context: Handle,
    /// Recorded so often.
    pub version: u64,
    /// Where the last record lies: stream and position after it.
    pub place: Option<(Handle, u64)>,
    /// Where it is in a capture, if it was recorded in one.
    pub captured: Option<Point>,
    /// When the record of this version ran.
    pub ran: Option<(u64, Instant)>,
    pub timing: bool,
}

/// A kernel of a module.
pub struct Function {
    pub context: Handle,
    pub module: Handle,
    pub kernel: Arc<Kernel>,
    /// Dynamic shared memory that was asked for.
    pub dynamic: u64,
}

/// All of it.
pub struct State {
    pub settings: Settings,
    pub report: Report,
    pub initialised: bool,
    /// By handle.
    pub contexts: HashMap<Handle, Context>,
    pub streams: BTreeMap<Handle, Stream>,
    pub events: HashMap<Handle, Event>,
    pub modules: HashMap<Handle, (Handle, Arc<Module>)>,
    pub functions: HashMap<Handle, Function>,
    /// Context and work of graphs and of graphs that can be launched.
    pub graphs: HashMap<Handle, (Handle, Arc<Branches>)>,
    pub executables: HashMap<Handle, (Handle, Arc<Branches>)>,
    /// Page-locked memory by address: bytes, and its context.
    pub locked: BTreeMap<usize, (usize, Handle)>,
    next: Handle,
    contexts_so_far: u64,
    /// The state of the order of work that follows from a number.
    pub random: u64,
}

thread_local! {
    /// The calling thread's context.
    pub static CURRENT: Cell<Handle> = const { Cell::new(0) };
}

/// The state of the process.
pub fn state() -> MutexGuard<'static, State> {
    static STATE: OnceLock<Mutex<State>> = OnceLock::new();
    let state = STATE.get_or_init(|| Mutex::new(State::new(Settings::from_environment())));
    state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl State {
    /// Before the first call.
    pub fn new(settings: Settings) -> Self {
        let report = Report::new(settings.log.as_ref(), settings.report.as_ref());
        let (contexts, streams, events, modules, functions) = Default::default();
        let (graphs, executables, locked) = Default::default();
        Self {
            settings,
            report,
            initialised: false,
            contexts,
            streams,
            events,
            modules,
            functions,
            graphs,
            executables,
            locked,
            next: 0x1000,
            contexts_so_far: 0,
            random: 0x9e37_79b9_7f4a_7c15,
        }
    }

    /// A handle that was never given out before.
    pub fn handle(&mut self) -> Handle {
        self.next += 16;
        self.next
    }

    /// A new context of a device.
    pub fn open(&mut self, device: usize) -> Handle {
        self.contexts_so_far += 1;
        let (context, legacy) = (self.handle(), self.handle());
        let silicon = Silicon::new(self.contexts_so_far, self.settings.kernels.as_deref());
        self.contexts.insert(context, Context { device, silicon, retained: 0, sticky: None, legacy, taken: 0 });
        self.streams.insert(legacy, Stream::of(context));
        context
    }

    /// The calling thread's context, if it is of use.
    ///
    /// # Errors
    /// Where there is none, it was destroyed, or something went wrong in it.
    pub fn current(&mut self) -> Result<Handle, Code> {
        if !self.initialised {
            return Err(Code::NOT_INITIALIZED);
        }
        let current = CURRENT.get();
        if current == 0 {
            return Err(Code::INVALID_CONTEXT);
        }
        let context = self.contexts.get(&current).ok_or(Code::CONTEXT_IS_DESTROYED)?;
        context.sticky.map_or(Ok(current), Err)
    }

    /// A context's part.
    pub fn context(&mut self, context: Handle) -> Result<&mut Context, Code> {
        self.contexts.get_mut(&context).ok_or(Code::CONTEXT_IS_DESTROYED)
    }

    /// A stream of the current context; 0 and 1 are its legacy stream.
    ///
    /// # Errors
    /// As [`State::current`], and where there is no such stream in it.
    pub fn stream(&mut self, stream: Handle) -> Result<Handle, Code> {
        let current = self.current()?;
        if stream <= 1 {
            return Ok(self.context(current)?.legacy);
        }
        match self.streams.get(&stream) {
            Some(found) if found.destroyed => {
                self.report.finding("a call with a stream that was destroyed".into());
                Err(Code::INVALID_HANDLE)
            }
            Some(found) if found.context == current => Ok(stream),
            Some(_) => {
                self.report.finding("a call with a stream of another context".into());
                Err(Code::INVALID_CONTEXT)
            }
            None => {
                self.report.finding("a call with a stream that never was".into());
                Err(Code::INVALID_HANDLE)
            }
        }
    }

    /// An event of the current context.
    ///
    /// # Errors
    /// As [`State::current`], and where there is no such event in it.
    pub fn event(&mut self, event: Handle) -> Result<&mut Event, Code> {
        let current = self.current()?;
        if !self.events.contains_key(&event) {
            self.report.finding("a call with an event that is not (any more)".into());
        }
        let found = self.events.get_mut(&event).ok_or(Code::INVALID_HANDLE)?;
        if found.context == current { Ok(found) } else { Err(Code::INVALID_CONTEXT) }
    }

    /// Something went wrong on the device.
    pub fn broke(&mut self, context: Handle, (code, what): (Code, String)) {
        self.report.finding(what);
        if let Some(context) = self.contexts.get_mut(&context) {
            context.sticky = Some(code);
        }
    }

    /// A call that may not be made while this thread captures, or any thread in the strictest mode.
    ///
    /// # Errors
    /// Then; the capture is of no use any more.
    pub fn not_while_capturing(&mut self, entry: &str) -> Result<(), Code> {
        let me = std::thread::current().id();
        let captures = self.streams.values_mut().filter_map(|stream| stream.capture.as_mut());
        let mut hit = false;
        for capture in captures.filter(|c| c.mode == 0 || c.mode == 1 && c.thread == me) {
            capture.invalid = true;
            hit = true;
        }
        if hit {
            self.report.finding(format!("{entry} during a capture"));
            return Err(Code::STREAM_CAPTURE_UNSUPPORTED);
        }
        Ok(())
    }

    /// Device memory.
    ///
    /// # Errors
    /// Where the device has not so much.
    pub fn allocate(&mut self, bytes: u64) -> Result<u64, Code> {
        let context = self.current()?;
        if bytes == 0 {
            return Err(Code::INVALID_VALUE);
        }
        let pages = bytes.next_multiple_of(PAGE);
        let memory = self.settings.memory;
        let own = self.context(context)?;
        if own.taken + pages > memory {
            return Err(Code::OUT_OF_MEMORY);
        }
        let address = own.silicon.allocate(bytes).ok_or(Code::OUT_OF_MEMORY)?;
        own.taken += pages;
        self.report.allocated(bytes, pages);
        Ok(address)
    }

    /// Gives device memory back at once: work that is queued and uses it will miss it.
    ///
    /// # Errors
    /// For an address that is not an allocation's.
    pub fn free(&mut self, address: u64) -> Result<(), Code> {
        let context = self.current()?;
        if address == 0 {
            return Ok(());
        }
        let Some((start, bytes)) = self.context(context)?.silicon.around(address).filter(|found| found.0 == address)
        else {
            self.report.finding(format!("freeing {address:#x}, which is no allocation (any more)"));
            return Err(Code::INVALID_VALUE);
        };
        if let Some(user) = self.user_of(start..start + bytes) {
            self.report.finding(format!("freeing {bytes} bytes that {user} still uses"));
        }
        let pages = bytes.next_multiple_of(PAGE);
        let own = self.context(context)?;
        own.silicon.free(address);
        own.taken -= pages;
        self.report.freed(bytes, pages);
        Ok(())
    }

    /// Queued work that has an address in this range.
    fn user_of(&self, range: std::ops::Range<u64>) -> Option<String> {
        let queued = self.streams.values().flat_map(|stream| &stream.queue);
        queued.filter_map(|work| work.user_of(&range)).next()
    }

    /// The fault that this call has, if any.
    pub fn fault(&self, entry: &str, number: u64) -> Option<Kind> {
        use super::settings::Which;
        let hit = |which: Which| which == Which::All || which == Which::Nth(number);
        self.settings.faults.iter().find(|fault| fault.entry == entry && hit(fault.which)).map(|fault| fault.kind)
    }
}

impl Stream {
    /// Empty.
    pub fn of(context: Handle) -> Self {
        Self { context, queue: VecDeque::new(), done: 0, capture: None, joined: None, destroyed: false }
    }
}

impl Work {
    /// What it is, if it has an address in this range.
    pub fn user_of(&self, range: &std::ops::Range<u64>) -> Option<String> {
        let hit = |at: &u64| range.contains(at);
        match self {
            Self::Kernel(prepared) => {
                let words = prepared.parameters.iter().flat_map(|bytes| bytes.chunks_exact(8));
                let mut addresses = words.map(|word| u64::from_le_bytes(std::array::from_fn(|i| word[i])));
                addresses.any(|at| hit(&at)).then(|| format!("`{}`", prepared.kernel.name))
            }
            Self::Upload { to, .. } | Self::Fill { to, .. } => hit(to).then(|| "a copy to it".to_owned()),
            Self::Download { from, .. } => hit(from).then(|| "a copy from it".to_owned()),
            Self::Copy { to, from, .. } => (hit(to) || hit(from)).then(|| "a copy on the device".to_owned()),
            Self::Graph(all) => all.iter().flat_map(|(_, works)| works).find_map(|work| work.user_of(range)),
            Self::Host { what, uses, .. } => uses.iter().any(hit).then(|| (*what).to_owned()),
            Self::Record { .. } | Self::Wait { .. } | Self::Fails(_) => None,
        }
    }

    /// Whether it copies from or to host memory of this range.
    pub fn uses_host(&self, range: &std::ops::Range<usize>) -> bool {
        match self {
            Self::Upload { from: Source::Locked(at, _), .. } | Self::Download { to: at, .. } => range.contains(at),
            Self::Graph(all) => all.iter().flat_map(|(_, works)| works).any(|work| work.uses_host(range)),
            _ => false,
        }
    }
}
