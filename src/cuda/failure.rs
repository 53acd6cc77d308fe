//! What CUDA's driver says when it refuses or when something went wrong on the GPU, in the engine's words.
//!
//! The driver reports what happens in a kernel with whatever call comes later, and with every call from then on: the
//! context is of no more use. So the driver's calls do not know what failed. The launches since the GPU was last waited
//! for are kept here, and the message names them. With `ENGINE_CUDA_BLOCKING=1` (or CUDA's own
//! `CUDA_LAUNCH_BLOCKING=1`) every launch is awaited, and it is exactly one.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::sync::Arc;

use cudarc::driver::DriverError;
use cudarc::driver::sys::cudaError_enum as Code;

use super::driver::Stream;
use crate::error::Error;

/// Launches that are kept: more than a view of any network has.
const MOST: usize = 4096;
/// Kernels that a message names.
const NAMED: usize = 6;

/// A launch, as messages tell it.
#[derive(Clone, Debug)]
pub(super) struct Launched {
    /// The kernel.
    pub kernel: String,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
}

/// By stream: so many of all launches, of which those in this stream are meant.
pub(super) type Launches = BTreeMap<Stream, u64>;

/// A launch that may not be done yet.
struct Pending {
    stream: Stream,
    /// How many there were before it.
    number: u64,
    launched: Launched,
    /// What it is for.
    about: Arc<str>,
}

/// What was launched since the GPU was last waited for.
#[derive(Default)]
pub(super) struct Trail {
    launches: VecDeque<Pending>,
    /// What launches are for from now on.
    about: Arc<str>,
    /// Launches of a recording that is being made.
    recording: Option<Vec<Launched>>,
    /// How many there were.
    count: u64,
    /// By stream: the launches that its next work comes after.
    waited: BTreeMap<Stream, Launches>,
}

impl Trail {
    /// A launch was queued.
    pub fn launched(&mut self, stream: Stream, launched: Launched) {
        match &mut self.recording {
            Some(recording) => recording.push(launched),
            None => self.add(stream, launched),
        }
    }

    fn add(&mut self, stream: Stream, launched: Launched) {
        if self.launches.len() >= MOST {
            self.launches.pop_front();
        }
        self.launches.push_back(Pending { stream, number: self.count, launched, about: self.about.clone() });
        self.count += 1;
    }

    /// What comes is for this.
    pub fn about(&mut self, what: &str) {
        self.about = what.into();
    }

    /// A recording begins.
    pub fn begin(&mut self) {
        self.recording = Some(Vec::new());
    }

    /// It ends; what is in it.
    pub fn end(&mut self) -> Vec<Launched> {
        self.recording.take().unwrap_or_default()
    }

    /// A recording was queued.
    pub fn replayed(&mut self, stream: Stream, launches: &[Launched]) {
        launches.iter().for_each(|launched| self.add(stream, launched.clone()));
    }

    /// All that a stream had is done.
    pub fn done(&mut self, stream: Stream) {
        let after = self.marked(stream);
        self.passed(&after);
    }

    /// The launches that are done when a stream has come to where it is now.
    pub fn marked(&self, stream: Stream) -> Launches {
        let mut after = self.waited.get(&stream).cloned().unwrap_or_default();
        after.insert(stream, self.count);
        after
    }

    /// A stream waits for what comes after these launches.
    pub fn waits(&mut self, stream: Stream, after: &Launches) {
        let waited = self.waited.entry(stream).or_default();
        for (&other, &count) in after {
            let most = waited.entry(other).or_default();
            *most = (*most).max(count);
        }
    }

    /// These launches are done.
    pub fn passed(&mut self, after: &Launches) {
        self.launches.retain(|pending| after.get(&pending.stream).is_none_or(|&count| pending.number >= count));
    }

    /// What the launches were for: whatever the processor has come to, it is one of these.
    fn purposes(&self) -> String {
        let mut all: Vec<&str> = Vec::new();
        for Pending { about, .. } in &self.launches {
            if !about.is_empty() && !all.contains(&&**about) {
                all.push(about);
            }
        }
        if all.is_empty() { String::new() } else { format!(" for {}", all.join(" or ")) }
    }

    /// Where it was, for people.
    fn place(&self) -> String {
        let mut text = String::new();
        match self.launches.len() {
            0 => text += ", and no kernel was launched since the GPU was last waited for",
            1 => {
                let Launched { kernel, grid, block } = &self.launches[0].launched;
                let _ = write!(text, ", in `{kernel}` with grid {grid:?} of {block:?} threads{}", self.purposes());
            }
            count => {
                let mut kernels: Vec<&str> = Vec::new();
                for Pending { launched, .. } in self.launches.iter().rev() {
                    if !kernels.contains(&launched.kernel.as_str()) {
                        kernels.push(&launched.kernel);
                    }
                }
                let _ = write!(
                    text,
                    ", noticed late: it was in one of {count} launches{}, the last first: ",
                    self.purposes()
                );
                let named: Vec<String> = kernels.iter().take(NAMED).map(|name| format!("`{name}`")).collect();
                text += &named.join(", ");
                if kernels.len() > NAMED {
                    let _ = write!(text, " and {} more kernels", kernels.len() - NAMED);
                }
                text += "; ENGINE_CUDA_BLOCKING=1 names the launch";
            }
        }
        text
    }
}

/// Whether a context is of no more use after this error.
pub(super) fn is_fatal(error: DriverError) -> bool {
    let fatal = [
        Code::CUDA_ERROR_ECC_UNCORRECTABLE,
        Code::CUDA_ERROR_ILLEGAL_ADDRESS,
        Code::CUDA_ERROR_LAUNCH_TIMEOUT,
        Code::CUDA_ERROR_ASSERT,
        Code::CUDA_ERROR_HARDWARE_STACK_ERROR,
        Code::CUDA_ERROR_ILLEGAL_INSTRUCTION,
        Code::CUDA_ERROR_MISALIGNED_ADDRESS,
        Code::CUDA_ERROR_INVALID_ADDRESS_SPACE,
        Code::CUDA_ERROR_INVALID_PC,
        Code::CUDA_ERROR_LAUNCH_FAILED,
    ];
    fatal.contains(&error.0)
}

/// The driver's own words for a code.
fn described(error: DriverError) -> String {
    error.error_string().map_or_else(|_| format!("{:?}", error.0), |text| text.to_string_lossy().into_owned())
}

/// An error of the driver while `what` was done: [`Error::Memory`] for a lack of memory, which the run may do without;
/// with the launches that may have caused it where the GPU itself failed.
pub(super) fn failed(what: &str, error: DriverError, trail: &Trail) -> Error {
    let said = described(error);
    if error.0 == Code::CUDA_ERROR_OUT_OF_MEMORY {
        return Error::Memory(format!("{what}: {said}"));
    }
    if !is_fatal(error) {
        return Error::Device(format!("{what}: {said}"));
    }
    Error::Device(format!(
        "{what}: {said}{}; run the same command under `compute-sanitizer` to see the thread and the address",
        trail.place()
    ))
}

/// Whether every launch is to be awaited.
pub(super) fn blocking() -> bool {
    ["ENGINE_CUDA_BLOCKING", "CUDA_LAUNCH_BLOCKING"]
        .iter()
        .any(|name| std::env::var(name).is_ok_and(|value| !value.is_empty() && value != "0"))
}
