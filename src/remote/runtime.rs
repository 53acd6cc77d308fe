//! One thread that does what is asked of stores: the library for them is asynchronous, the rest of the program is not.

use std::future::Future;
use std::sync::OnceLock;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle};

use crate::error::{Error, Result};
use crate::host::interrupt;
use crate::host::memory_limits::{expect_room_for_threads, no_thread};

/// How long an answer is waited for once the user has asked to stop.
const PATIENCE: Duration = Duration::from_secs(10);

static RUNTIME: OnceLock<Handle> = OnceLock::new();

/// The thread, which is started at the first call.
///
/// # Errors
/// The system has no room for a thread.
pub fn handle() -> Result<&'static Handle> {
    if let Some(handle) = RUNTIME.get() {
        return Ok(handle);
    }
    const CALLED: &str = "the thread that reaches object stores";
    expect_room_for_threads(1)?;
    let runtime = Builder::new_current_thread().enable_all().build().map_err(|e| no_thread(CALLED, &e))?;
    let handle = runtime.handle().clone();
    let run = move || runtime.block_on(std::future::pending::<()>());
    std::thread::Builder::new().name("object stores".into()).spawn(run).map_err(|e| no_thread(CALLED, &e))?;
    // Two threads at the first call: each has a runtime that works, and one of them is used from then on.
    Ok(RUNTIME.get_or_init(|| handle))
}

/// Waits for what a task comes to.
///
/// # Errors
/// [`Error::Interrupted`], where the user asked to stop some time ago; a task that has ended without a result.
pub fn wait<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> Result<T> {
    let (give, take) = sync_channel(1);
    let task = handle()?.spawn(async move {
        // Whoever asked may have gone.
        let _ = give.send(task.await);
    });
    let mut asked_to_stop: Option<Instant> = None;
    loop {
        match take.recv_timeout(Duration::from_millis(200)) {
            Ok(value) => return Ok(value),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::Bug { place: "object stores", problem: "a task has ended without a result".into() });
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        if interrupt::is_asked_to_stop() && asked_to_stop.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
            task.abort();
            return Err(Error::Interrupted);
        }
    }
}
