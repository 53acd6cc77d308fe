//! What a run will need of memory, and whether there is as much; how much there is tells
//! [`crate::host::memory_limits`].

use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::host::memory_limits::{Readable, Room, room};

/// What [`set_budget`] was told; 0: nothing.
static BUDGET: AtomicU64 = AtomicU64::new(0);

/// Says how much one file may come to in memory from now on, in bytes; `None`: as [`budget`] finds it.
pub fn set_budget(bytes: Option<u64>) {
    BUDGET.store(bytes.unwrap_or(0), Ordering::Relaxed);
}

/// How much one file may come to in memory, in bytes. Half of what is available is left for what is made of it.
pub fn budget() -> u64 {
    match BUDGET.load(Ordering::Relaxed) {
        0 => room(None).bytes / 2,
        bytes => bytes,
    }
}

/// Refuses a file that comes to more than there is room for, before it is unpacked: what is packed may grow a
/// thousandfold.
///
/// # Errors
/// [`Error::Memory`], naming the file.
pub fn expect_room(file: &Path, bytes: u64) -> Result<()> {
    let room = budget();
    if bytes <= room {
        return Ok(());
    }
    Err(Error::Memory(format!(
        "{} comes to {} in memory, and one file may take {}; expected a smaller file, or a machine with more memory",
        file.display(),
        readable(bytes),
        readable(room)
    )))
}

/// The most memory that this process has held so far, in bytes, where the system tells.
pub fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Lets [`peak`] begin again from what is held now, where the system can do that.
pub fn restart_peak() {
    // Linux: 5 resets the high-water mark (proc_pid_clear_refs). Without it the mark is that of the whole process so
    // far.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// `1.23 GB`, `45 MB`: decimal units, as the options take them.
pub fn readable(bytes: u64) -> String {
    Readable(bytes).to_string()
}

/// What one run will hold in memory: stages that follow each other, whose parts are held together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MemoryNeed {
    /// The run's stages, in order.
    pub stages: Vec<StageMemory>,
}

/// What one stage holds at its worst moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageMemory {
    /// The stage's name.
    pub stage: Cow<'static, str>,
    /// What is held.
    pub parts: Vec<Part>,
}

/// Something that is held in memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// What it is.
    pub what: Cow<'static, str>,
    /// How large it is.
    pub bytes: u64,
}

impl Part {
    /// `bytes` of `what`.
    pub fn new(what: &'static str, bytes: u64) -> Self {
        Self { what: what.into(), bytes }
    }
}

impl StageMemory {
    /// A stage that holds `parts`.
    pub fn new(stage: &'static str, parts: Vec<Part>) -> Self {
        Self { stage: stage.into(), parts }
    }

    /// Bytes of all parts together.
    pub fn total(&self) -> u64 {
        self.parts.iter().fold(0, |sum, part| sum.saturating_add(part.bytes))
    }
}

impl MemoryNeed {
    /// Bytes that the largest stage needs.
    pub fn peak(&self) -> u64 {
        self.stages.iter().map(StageMemory::total).max().unwrap_or(0)
    }
}

impl fmt::Display for MemoryNeed {
    /// One line for each stage and an indented one for each of its parts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, stage) in self.stages.iter().enumerate() {
            let line_break = if i > 0 { "\n" } else { "" };
            write!(f, "{line_break}{}: {}", stage.stage, readable(stage.total()))?;
            for Part { what, bytes } in &stage.parts {
                write!(f, "\n  {:>9}  {what}", readable(*bytes))?;
            }
        }
        Ok(())
    }
}

/// An option and the values that could be given to it instead, from the best to the worst.
pub struct Alternative<'a> {
    /// The option's name, with its dashes.
    pub option: &'static str,
    /// Values to try, best first.
    pub values: Vec<usize>,
    /// Bytes that the run would need with a value.
    pub need: Box<dyn Fn(usize) -> u64 + 'a>,
}

/// Refuses a run that does not fit. `otherwise` is the advice where no alternative fits.
///
/// # Errors
/// [`Error::Memory`] with, for each alternative, the best value that would fit.
pub fn refuse_if_too_large(
    need: &MemoryNeed,
    there: &Room,
    alternatives: &[Alternative],
    otherwise: &str,
) -> Result<()> {
    let peak = need.peak();
    if peak <= there.bytes {
        return Ok(());
    }
    let fits: Vec<String> = alternatives
        .iter()
        .filter_map(|a| {
            let value = a.values.iter().find(|&&v| (a.need)(v) <= there.bytes)?;
            Some(format!("{} {value}", a.option))
        })
        .collect();
    let advice =
        if fits.is_empty() { otherwise.to_owned() } else { format!("any one of these would fit: {}", fits.join(", ")) };
    Err(Error::Memory(format!(
        "this run needs {}, and {} are available{}; {advice} ({})",
        readable(peak),
        readable(there.bytes),
        there.limit,
        there.limit.advice()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::memory_limits::Limit;

    fn need(bytes: u64) -> MemoryNeed {
        let stage = |stage, bytes| StageMemory::new(stage, vec![Part::new("a", bytes / 2), Part::new("b", bytes / 2)]);
        MemoryNeed { stages: vec![stage("depth", bytes), stage("fusion", bytes / 4)] }
    }

    fn of(bytes: u64) -> Room {
        Room { bytes, limit: Limit::System }
    }

    #[test]
    fn the_largest_stage_counts() {
        assert_eq!(need(4_000_000_000).peak(), 4_000_000_000);
        assert!(refuse_if_too_large(&need(4_000_000_000), &of(4_000_000_000), &[], "").is_ok());
    }

    #[test]
    fn a_refusal_names_the_best_value_that_fits() {
        let alternative = |option, bytes: u64| Alternative {
            option,
            values: vec![192, 128, 96, 64],
            need: Box::new(move |v| bytes * v as u64),
        };
        let message = refuse_if_too_large(
            &need(4_000_000_000),
            &of(2_500_000_000),
            &[
                alternative("--max-side", 19_000_000),
                alternative("--planes", 26_000_000),
                alternative("--none", 1 << 40),
            ],
            "nothing",
        )
        .unwrap_err()
        .to_string();
        assert_eq!(
            message,
            "memory: this run needs 4.00 GB, and 2.50 GB are available; any one of these would fit: --max-side 128, \
             --planes 96 (--memory GB overrides what is taken as available)"
        );
    }

    #[test]
    fn sizes_read_in_decimal_units() {
        assert_eq!(readable(999_499), "999 kB");
        assert_eq!(readable(45_000_000), "45 MB");
        assert_eq!(readable(1_234_000_000), "1.23 GB");
    }

    #[test]
    fn this_process_uses_memory() {
        if cfg!(target_os = "linux") {
            assert!(peak().unwrap() > 1 << 20);
            let held = vec![1u8; 256 << 20];
            let with = peak().unwrap();
            assert!(std::hint::black_box(&held).len() as u64 <= with);
            drop(held);
            restart_peak();
            assert!(peak().unwrap() < with, "the mark has fallen with the memory that was given back");
        }
    }
}
