//! What happens when the system refuses memory in the middle of the work: one line on standard error and the exit code
//! for memory, instead of the abort that Rust has for it.
//!
//! The program's allocator is the system's with this end. Nothing else runs then: no destructor, no other thread, no
//! file is closed. That is sound because every file of results has its name only once it is whole, records are written
//! last, and the kernel takes back a folder's lock; so the same command goes on later from what is there. Who can do
//! without the memory asks inside [`may_fail`].

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::error::Error;
use crate::host::memory_limits::{Readable, ResourceLimits};

/// The system's allocator, whose refusals end the process. For the program; a library leaves that to others.
pub struct OrEnd;

thread_local! {
    /// Whether this thread can do without what it asks for. It needs no destructor and no first use: both could
    /// allocate.
    static MAY_FAIL: Cell<bool> = const { Cell::new(false) };
}

/// Asks for memory whose refusal is an ordinary error, such as `Vec::try_reserve` gives.
pub fn may_fail<T>(ask: impl FnOnce() -> T) -> T {
    /// Puts the mark back also where `ask` panics.
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            MAY_FAIL.set(self.0);
        }
    }
    let _before = Before(MAY_FAIL.replace(true));
    ask()
}

// SAFETY: every call goes to the system's allocator with the arguments as they are, and its result comes back as it is.
unsafe impl GlobalAlloc for OrEnd {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps `GlobalAlloc::alloc`'s conditions, which are the same here.
        given(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`.
        given(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: `block` came from this allocator, hence from the system's, with this layout.
        given(unsafe { System.realloc(block, layout, size) }, size)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: `block` came from this allocator, hence from the system's, with this layout.
        unsafe { System.dealloc(block, layout) }
    }
}

/// What the system gave; ends the process where that is nothing and the thread needs it.
fn given(block: *mut u8, bytes: usize) -> *mut u8 {
    if block.is_null() && !MAY_FAIL.try_with(Cell::get).unwrap_or(false) {
        end(bytes);
    }
    block
}

/// A line that is put together without memory from the allocator.
struct Line {
    bytes: [u8; 512],
    length: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.bytes[self.length..];
        let fits = text.len().min(room.len());
        room[..fits].copy_from_slice(&text.as_bytes()[..fits]);
        self.length += fits;
        Ok(())
    }
}

/// What is said at the end.
fn last_line(asked: u64, held: Option<u64>, limits: ResourceLimits) -> Line {
    let mut line = Line { bytes: [0; 512], length: 0 };
    // Writing into a `Line` cannot fail.
    let _ = write!(line, "error: memory: the system refused {} more", Readable(asked));
    if let Some(held) = held {
        let _ = write!(line, " beside the {} that are held", Readable(held));
    }
    if let Some(limit) = limits.address_space {
        let _ = write!(line, ", under a limit on address space (ulimit -v {})", limit / 1024);
    }
    if let Some(limit) = limits.data {
        let _ = write!(line, ", under a limit on data (ulimit -d {})", limit / 1024);
    }
    let _ = line.write_str(
        "; expected room for it: ask for less (smaller photos or maps, fewer --threads), close other programs or raise \
         the limit, and run the same command again; finished files stay\n",
    );
    line
}

fn end(bytes: usize) {
    /// The number of standard error in C, on Windows, too.
    const STANDARD_ERROR: libc::c_int = 2;
    static ENDING: AtomicBool = AtomicBool::new(false);
    if ENDING.swap(true, Ordering::SeqCst) {
        // Another thread is saying it. The process ends before this one gets any further.
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    }
    let line = last_line(bytes as u64, resident(), ResourceLimits::of_this_process());
    // Its type is another one on Windows; a line is shorter than the smallest of them holds.
    let length = line.length as _;
    // SAFETY: the pointer and the length are those of a part of an array that lives on; _exit takes a number.
    unsafe {
        libc::write(STANDARD_ERROR, line.bytes.as_ptr().cast(), length);
        libc::_exit(i32::from(Error::Memory(String::new()).exit_code()));
    }
}

/// Memory that the process holds: the second number in /proc/self/statm, in pages.
#[cfg(unix)]
fn resident() -> Option<u64> {
    let mut text = [0u8; 128];
    // SAFETY: the path ends in a zero byte; the buffer is as long as is said; the descriptor is this function's own.
    let (length, page) = unsafe {
        let file = libc::open(c"/proc/self/statm".as_ptr(), libc::O_RDONLY);
        if file < 0 {
            return None;
        }
        let length = libc::read(file, text.as_mut_ptr().cast(), text.len());
        libc::close(file);
        (length, libc::sysconf(libc::_SC_PAGESIZE))
    };
    let text = std::str::from_utf8(text.get(..usize::try_from(length).ok()?)?).ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    pages.checked_mul(u64::try_from(page).ok()?)
}

/// Elsewhere it is not told without asking for more.
#[cfg(not(unix))]
fn resident() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_says_what_was_asked_for_and_what_limits_it() {
        let said = |held, limits| {
            let line = last_line(1_500_000_000, held, limits);
            String::from_utf8(line.bytes[..line.length].to_vec()).unwrap()
        };
        let none = ResourceLimits::default();
        let advice = "; expected room for it: ask for less (smaller photos or maps, fewer --threads), close other \
                      programs or raise the limit, and run the same command again; finished files stay\n";
        assert_eq!(said(None, none), format!("error: memory: the system refused 1.50 GB more{advice}"));
        let both = ResourceLimits { address_space: Some(1 << 30), data: Some(1 << 20) };
        assert_eq!(
            said(Some(7_000_000), both),
            format!(
                "error: memory: the system refused 1.50 GB more beside the 7 MB that are held, under a limit on \
                 address space (ulimit -v 1048576), under a limit on data (ulimit -d 1024){advice}"
            )
        );
    }

    #[test]
    fn a_line_that_is_too_long_is_cut() {
        let mut line = Line { bytes: [0; 512], length: 500 };
        line.write_str("0123456789abcdef").unwrap();
        assert_eq!((line.length, &line.bytes[500..]), (512, &b"0123456789ab"[..]));
    }

    #[test]
    fn who_can_do_without_memory_is_told_so_and_the_mark_goes_again() {
        // More than any address space holds.
        let most = Layout::from_size_align(isize::MAX as usize - 4096, 1).unwrap();
        // SAFETY: the layout's size is not 0; nothing was given that could be given back.
        let block = may_fail(|| unsafe { OrEnd.alloc(most) });
        assert!(block.is_null());
        assert!(!MAY_FAIL.get());
        assert!(std::panic::catch_unwind(|| may_fail(|| panic!("on purpose"))).is_err());
        assert!(!MAY_FAIL.get());
        may_fail(|| may_fail(|| ()));
        assert!(!MAY_FAIL.get());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_holds_memory() {
        assert!(resident().is_some_and(|bytes| bytes > 1 << 20));
    }
}
