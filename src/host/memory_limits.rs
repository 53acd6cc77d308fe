//! How much memory this process may still take, by whichever limit leaves the least of it: what the system has
//! available, the control groups that the process is in (containers, Slurm steps, systemd slices), and its own resource
//! limits (`ulimit`, `prlimit`).
//!
//! Files that are missing, unreadable or hold no number say nothing; the other limits stay.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result, counted};
use crate::host::control_groups;

/// Address space that a plan leaves alone where address space is limited: unlike memory it is taken by what is only
/// reserved. Threads that start after the plan reserve 2 MiB of stack each (the decoder, the one that waits for Ctrl-C,
/// the loaders of training), and the allocator rounds up and keeps gaps between its blocks.
const RESERVE: u64 = 32 << 20;

/// Memory that may still be taken, and what leaves no more than that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// In bytes.
    pub bytes: u64,
    /// Which limit it is.
    pub limit: Limit,
}

/// Bytes in decimal units, as the options take them: `1.23 GB`, `45 MB`. It asks for no memory.
pub struct Readable(pub u64);

impl fmt::Display for Readable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0 as f64;
        match self.0 {
            0..1_000_000 => write!(f, "{:.0} kB", bytes / 1e3),
            1_000_000..1_000_000_000 => write!(f, "{:.0} MB", bytes / 1e6),
            _ => write!(f, "{:.2} GB", bytes / 1e9),
        }
    }
}

/// What limits memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Limit {
    /// What the system has available.
    System,
    /// `--memory`.
    Option,
    /// A control group, by the file that holds its limit.
    Group(PathBuf),
    /// The address space of the process: `ulimit -v`, in bytes.
    AddressSpace(u64),
    /// The data of the process: `ulimit -d`, in bytes.
    Data(u64),
}

impl fmt::Display for Limit {
    /// For a message that has said how much is available: which limit that is, and nothing where it is only what the
    /// machine has or what was asked for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kib = |bytes: &u64| bytes / 1024;
        match self {
            Self::System | Self::Option => Ok(()),
            Self::Group(file) => write!(f, ", which the control group's limit in {} leaves", file.display()),
            Self::AddressSpace(bytes) => {
                write!(f, ", which the limit on address space (ulimit -v {}) leaves", kib(bytes))
            }
            Self::Data(bytes) => write!(f, ", which the limit on data (ulimit -d {}) leaves", kib(bytes)),
        }
    }
}

impl Limit {
    /// What to do about it, beside asking for less.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::System => "--memory GB overrides what is taken as available",
            Self::Option => "--memory GB says what is available",
            Self::Group(_) => "or a larger limit of the control group: the container's or the job's memory",
            Self::AddressSpace(_) => "or a larger ulimit -v",
            Self::Data(_) => "or a larger ulimit -d",
        }
    }
}

/// The resource limits of the process in bytes, where it has any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResourceLimits {
    /// On address space.
    pub address_space: Option<u64>,
    /// On data.
    pub data: Option<u64>,
}

impl ResourceLimits {
    /// Of this process.
    #[cfg(unix)]
    pub fn of_this_process() -> Self {
        let limit = |which| {
            let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
            // SAFETY: getrlimit writes one rlimit through a pointer to one that lives until it returns.
            let asked = unsafe { libc::getrlimit(which, &raw mut limit) };
            (asked == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
        };
        Self { address_space: limit(libc::RLIMIT_AS), data: limit(libc::RLIMIT_DATA) }
    }

    /// Elsewhere there are none.
    #[cfg(not(unix))]
    pub fn of_this_process() -> Self {
        Self::default()
    }
}

/// The room that is left: by `asked`, which replaces what the system says, and by the limits of the process and its
/// groups, which hold whatever is asked for.
pub fn room(asked: Option<u64>) -> Room {
    let first = match asked {
        Some(bytes) => Room { bytes, limit: Limit::Option },
        None => Room { bytes: system_available(), limit: Limit::System },
    };
    first.least(hard_limits(Path::new("/"), ResourceLimits::of_this_process()))
}

/// The stack of a thread: what Rust gives to threads by default.
pub const STACK_BYTES: usize = 2 << 20;
/// What a thread reserves: its stack with the guard page, the stack for its signals, and its first blocks.
const THREAD_BYTES: u64 = STACK_BYTES as u64 + (256 << 10);

/// Whether threads can be started that find room for their first steps: one that does not dies there. Asked only where
/// address space or data are limited, since untouched stacks take no other memory.
///
/// # Errors
/// [`Error::Memory`].
pub fn expect_room_for_threads(count: usize) -> Result<()> {
    let need = count as u64 * THREAD_BYTES;
    let is_reserved = |room: &Room| matches!(room.limit, Limit::AddressSpace(_) | Limit::Data(_));
    let rooms = hard_limits(Path::new("/"), ResourceLimits::of_this_process());
    match rooms.into_iter().filter(is_reserved).min_by_key(|room| room.bytes) {
        Some(there) if there.bytes < need => Err(Error::Memory(format!(
            "{} {} {}, and {} are available{}; fewer --threads would help ({})",
            counted(count, "thread"),
            if count == 1 { "needs" } else { "need" },
            Readable(need),
            Readable(there.bytes),
            there.limit,
            there.limit.advice()
        ))),
        _ => Ok(()),
    }
}

/// A thread that could not be started. Systems refuse threads for want of memory: of the process, of its control group,
/// or of numbers for threads.
pub fn no_thread(what: &str, reason: &dyn fmt::Display) -> Error {
    let limit = room(None).limit;
    Error::Memory(format!(
        "{what}: the system has no room to start them: {reason}{limit}; fewer --threads would help, or a larger limit \
         (ulimit -u, ulimit -v, the control group's pids.max)"
    ))
}

/// What limited address space is spared: the allocator's arenas, of which each thread would reserve 64 MiB. To be asked
/// for before the first thread starts.
pub fn save_address_space() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if ResourceLimits::of_this_process() != ResourceLimits::default() {
        // SAFETY: mallopt takes two numbers; no other thread is there yet.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    }
}

impl Room {
    /// The least of this and others; of equal ones the first.
    fn least(self, others: Vec<Self>) -> Self {
        others.into_iter().fold(self, |least, next| if next.bytes < least.bytes { next } else { least })
    }
}

/// What the system could give to a process that nothing else limits.
fn system_available() -> u64 {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    if system.total_memory() == 0 { available_by_the_kernel() } else { system.available_memory() }
}

/// The same where /proc is not mounted: what is free, and at least half of all. The kernel does not tell there how much
/// of the rest is a cache that it would give up, and of a machine that has run for a while that is most.
#[cfg(target_os = "linux")]
fn available_by_the_kernel() -> u64 {
    // SAFETY: a struct of numbers, for which zeros are values.
    let mut told: libc::sysinfo = unsafe { std::mem::zeroed() };
    // SAFETY: sysinfo writes one struct through a pointer to one that lives until it returns.
    if unsafe { libc::sysinfo(&raw mut told) } != 0 {
        return 0;
    }
    // Units are of 32 or 64 bits, as the system is.
    let bytes = |units: libc::c_ulong| u64::try_from(u128::from(units) * u128::from(told.mem_unit)).unwrap_or(u64::MAX);
    bytes(told.freeram).saturating_add(bytes(told.bufferram)).max(bytes(told.totalram) / 2)
}

/// Elsewhere nothing depends on a file system.
#[cfg(not(target_os = "linux"))]
fn available_by_the_kernel() -> u64 {
    0
}

/// What the limits of the process and of its groups leave. `root` is the file system's.
fn hard_limits(root: &Path, limits: ResourceLimits) -> Vec<Room> {
    let of_group = |(bytes, file)| Room { bytes, limit: Limit::Group(file) };
    let mut rooms: Vec<Room> = control_groups::left(root).into_iter().map(of_group).collect();
    let held = Held::read(root);
    if let (Some(limit), Some(held)) = (limits.address_space, held) {
        let bytes = limit.saturating_sub(held.address_space).saturating_sub(RESERVE);
        rooms.push(Room { bytes, limit: Limit::AddressSpace(limit) });
    }
    if let (Some(limit), Some(held)) = (limits.data, held) {
        let bytes = limit.saturating_sub(held.data).saturating_sub(RESERVE);
        rooms.push(Room { bytes, limit: Limit::Data(limit) });
    }
    rooms
}

/// What the process has mapped.
#[derive(Clone, Copy)]
struct Held {
    address_space: u64,
    data: u64,
}

impl Held {
    /// Fields 1 and 6 of /proc/self/statm, in pages (proc_pid_statm).
    fn read(root: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(root.join("proc/self/statm")).ok()?;
        let pages: Vec<u64> = text.split_whitespace().map_while(|word| word.parse().ok()).collect();
        let bytes = |field: usize| pages.get(field).map(|pages| pages.saturating_mul(page_size()));
        Some(Self { address_space: bytes(0)?, data: bytes(5)? })
    }
}

#[cfg(unix)]
fn page_size() -> u64 {
    // SAFETY: sysconf takes no pointer.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

#[cfg(not(unix))]
fn page_size() -> u64 {
    4096
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::control_groups::tests::{V2, root};

    const MIB: u64 = 1 << 20;

    #[test]
    fn resource_limits_count_what_is_mapped_and_the_least_limit_of_all_is_named() {
        let page = page_size();
        let statm = format!("{} 9 9 9 0 {} 0\n", 200 * MIB / page, 100 * MIB / page);
        let root = root(&[
            ("proc/self/statm", &statm),
            ("proc/self/cgroup", "0::/\n"),
            ("proc/self/mountinfo", V2),
            ("sys/fs/cgroup/memory.current", "0\n"),
            ("sys/fs/cgroup/memory.max", &(700 * MIB).to_string()),
        ]);
        let limits = |address_space: u64, data: u64| ResourceLimits {
            address_space: Some(address_space * MIB),
            data: Some(data * MIB),
        };
        let system = |bytes| Room { bytes, limit: Limit::System };
        let least = |limits| system(800 * MIB).least(hard_limits(root.path(), limits));
        assert_eq!(least(limits(500, 900)).bytes, 500 * MIB - 200 * MIB - RESERVE);
        assert_eq!(least(limits(500, 900)).limit, Limit::AddressSpace(500 * MIB));
        assert_eq!(least(limits(900, 300)).bytes, 300 * MIB - 100 * MIB - RESERVE);
        assert_eq!(least(limits(900, 300)).limit, Limit::Data(300 * MIB));
        assert_eq!(
            least(limits(5000, 5000)),
            Room { bytes: 700 * MIB, limit: Limit::Group(root.path().join("sys/fs/cgroup/memory.max")) }
        );
        assert_eq!(system(1).least(hard_limits(root.path(), limits(5000, 5000))), system(1));
        assert_eq!(least(limits(100, 900)).bytes, 0, "more is mapped than is allowed");
    }

    #[test]
    fn this_process_is_limited_by_what_is_asked_for() {
        assert_eq!(room(Some(7)), Room { bytes: 7, limit: Limit::Option });
        assert!(room(None).bytes > 1 << 20);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn without_proc_the_kernel_is_asked() {
        let mut system = sysinfo::System::new();
        system.refresh_memory();
        // The kernel counts in pages of its own; /proc/meminfo in KiB.
        let all = system.total_memory();
        let told = available_by_the_kernel();
        assert!((all / 2 - MIB..=all + MIB).contains(&told), "{told} of {all}");
    }

    #[test]
    fn each_limit_is_named_with_what_to_do() {
        let said = |limit: Limit| format!("{limit}; {}", limit.advice());
        assert_eq!(said(Limit::System), "; --memory GB overrides what is taken as available");
        assert_eq!(said(Limit::Option), "; --memory GB says what is available");
        assert_eq!(
            said(Limit::AddressSpace(512 * MIB)),
            ", which the limit on address space (ulimit -v 524288) leaves; or a larger ulimit -v"
        );
        assert_eq!(said(Limit::Data(MIB)), ", which the limit on data (ulimit -d 1024) leaves; or a larger ulimit -d");
        assert_eq!(
            said(Limit::Group("/sys/fs/cgroup/a/memory.max".into())),
            ", which the control group's limit in /sys/fs/cgroup/a/memory.max leaves; or a larger limit of the control \
             group: the container's or the job's memory"
        );
    }
}
