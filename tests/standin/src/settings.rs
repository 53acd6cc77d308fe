//! What a test asks of the stand-in, by environment variables: docs/DRIVER.md has the table.

use std::path::PathBuf;

/// When work runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Not before somebody waits for it.
    Late,
    /// As soon as what it waits for is done.
    Early,
    /// At times that follow from this number.
    Random(u64),
    /// Copies to the device as soon as what they wait for is done, all else late.
    UploadsFirst,
    /// Copies from the device late, all else as soon as what it waits for is done.
    ReadsLast,
    /// Work of the stream that was made first at once, with what it waits for, all else late.
    FirstStream,
}

/// Which of the calls of an entry point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// One, counted from 1.
    Nth(u64),
    /// Every one.
    All,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It returns this code and does nothing.
    Fail(i32),
    /// It is done, and its work fails with this code when it runs.
    FailLater(i32),
    /// It returns success and does nothing: as if the program had forgotten it.
    Skip,
    /// It is done twice.
    Twice,
    /// Right after it, the memory of its first argument is freed.
    FreeUnder,
    /// Right after it, the program's memory that it copies from is overwritten.
    Scribble,
    /// Its work goes into the legacy stream.
    OtherStream,
    /// A launch with so many threads a block.
    Threads(u32),
}

/// One line of ENGINE_STANDIN_FAULTS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The entry point.
    pub entry: String,
    /// Which of its calls.
    pub which: Which,
    /// What becomes of it.
    pub kind: Kind,
}

impl Fault {
    /// `skip cuStreamWaitEvent 2`, `fail cuMemAlloc_v2 3 2`, `threads cuLaunchKernel * 2048`.
    pub fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (kind, entry, which) = (words.first()?, words.get(1)?, words.get(2)?);
        let number = || words.get(3)?.parse::<i32>().ok();
        let kind = match *kind {
            "fail" => Kind::Fail(number()?),
            "fail-later" => Kind::FailLater(number()?),
            "skip" => Kind::Skip,
            "twice" => Kind::Twice,
            "free-under" => Kind::FreeUnder,
            "scribble" => Kind::Scribble,
            "other-stream" => Kind::OtherStream,
            "threads" => Kind::Threads(u32::try_from(number()?).ok()?),
            _ => return None,
        };
        let which = if *which == "*" { Which::All } else { Which::Nth(which.parse().ok()?) };
        Some(Self { entry: (*entry).to_owned(), which, kind })
    }
}

/// All of them.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many devices there are.
    pub devices: usize,
    /// Bytes of each device's memory.
    pub memory: u64,
    /// Its compute capability, 80 for 8.0.
    pub compute: i32,
    /// What cuDriverGetVersion says.
    pub driver: i32,
    /// When work runs.
    pub order: Order,
    /// A library of compiled kernels (tests/emulator) that run in place of the modules' own.
    pub kernels: Option<PathBuf>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// A line for each call goes there.
    pub log: Option<PathBuf>,
    /// Counts and findings go there.
    pub report: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            devices: 1,
            memory: 8 << 30,
            compute: 80,
            driver: 13000,
            order: Order::Late,
            kernels: None,
            faults: Vec::new(),
            log: None,
            report: None,
        }
    }
}

impl Settings {
    /// From the environment.
    ///
    /// # Panics
    /// For a variable that cannot be read: a test would check nothing.
    pub fn from_environment() -> Self {
        let text = |name: &str| std::env::var(format!("ENGINE_STANDIN_{name}")).ok();
        let path = |name: &str| text(name).map(PathBuf::from);
        let number = |name: &str, default: u64| {
            let problem = |text: &str| panic!("ENGINE_STANDIN_{name}={text} is not a number");
            text(name).map_or(default, |text| text.parse().unwrap_or_else(|_| problem(&text)))
        };
        let default = Self::default();
        let order = match text("ORDER").as_deref() {
            None | Some("late") => Order::Late,
            Some("early") => Order::Early,
            Some("uploads-first") => Order::UploadsFirst,
            Some("reads-last") => Order::ReadsLast,
            Some("first-stream") => Order::FirstStream,
            Some(_) => Order::Random(number("ORDER", 0)),
        };
        let faults = text("FAULTS").unwrap_or_default();
        let faults = faults.split(';').filter(|fault| !fault.trim().is_empty());
        let parse = |fault: &str| Fault::parse(fault).unwrap_or_else(|| panic!("ENGINE_STANDIN_FAULTS: `{fault}`"));
        Self {
            devices: number("DEVICES", 1) as usize,
            memory: number("MEMORY", default.memory),
            compute: number("COMPUTE", 80) as i32,
            driver: number("DRIVER", 13000) as i32,
            order,
            kernels: path("KERNELS"),
            faults: faults.map(parse).collect(),
            log: path("LOG"),
            report: path("REPORT"),
        }
    }
}
