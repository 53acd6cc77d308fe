//! Stopping a run: the first Ctrl-C (or SIGTERM) lets the map in progress finish, the second ends the process at
//! once, but never in the middle of writing a file.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use crate::error::{Error, Result};
use crate::host::memory_limits::{expect_room_for_threads, no_thread};
use crate::host::progress::print_error_line;

static STOP: AtomicBool = AtomicBool::new(false);
/// Shared by all who write a file; exclusive for the end of the process.
static WRITING: RwLock<()> = RwLock::new(());

/// Installs the signal handler; to be called once, by the program.
///
/// # Errors
/// The system's reason where handlers cannot be installed.
pub fn install() -> Result<()> {
    expect_room_for_threads(1)?;
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::SeqCst) {
            // Whoever writes holds the lock until its file has its final name, so no temporary file stays behind.
            let _guard = WRITING.write().unwrap_or_else(PoisonError::into_inner);
            std::process::exit(i32::from(Error::Interrupted.exit_code()));
        }
        // Standard error may be closed; a panic here would end the thread that listens for the second signal.
        print_error_line("stopping after the work in progress (press again to stop at once)");
    })
    .map_err(|e| match e {
        // The thread that waits for signals.
        ctrlc::Error::System(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::OutOfMemory) => {
            no_thread("the thread that waits for Ctrl-C", &e)
        }
        e => Error::input("signal handler", e.to_string(), "a system that delivers SIGINT"),
    })
}

/// Asks all work in this process to stop, as Ctrl-C does: for programs that have the engine as a library, and signal
/// handlers of their own.
pub fn ask_to_stop() {
    STOP.store(true, Ordering::SeqCst);
}

/// Takes that back. To be called when no work is under way any more.
pub fn forget() {
    STOP.store(false, Ordering::SeqCst);
}

/// Whether the user has asked to stop.
///
/// # Errors
/// [`Error::Interrupted`] if so.
pub fn check() -> Result<()> {
    if is_asked_to_stop() { Err(Error::Interrupted) } else { Ok(()) }
}

/// As [`check`], for loops inside what gives no error: they leave the rest of their work undone, and whoever called
/// checks before using what they give. Once asked, it stays so until [`forget`].
pub fn is_asked_to_stop() -> bool {
    STOP.load(Ordering::SeqCst)
}

/// To be held while an output file is being written.
pub fn writing() -> RwLockReadGuard<'static, ()> {
    WRITING.read().unwrap_or_else(PoisonError::into_inner)
}
