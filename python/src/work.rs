//! Work without Python's lock: other threads of the program go on, progress is told, and Ctrl-C stops it.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine::host::interrupt;
use engine::host::progress::{Progress, Style};
use engine::{Error, Result, embedded};
use pyo3::prelude::*;
use serde_json::Value;

use crate::errors::raised;

/// How often signals are looked at.
const PATIENCE: Duration = Duration::from_millis(50);

/// Pieces of work under way in this process. Being asked to stop concerns them all, and is forgotten with the last.
static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

struct UnderWay;

impl UnderWay {
    fn begin() -> Self {
        UNDER_WAY.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if UNDER_WAY.fetch_sub(1, Ordering::SeqCst) == 1 {
            interrupt::forget();
        }
    }
}

/// As [`alone`], with the threads that the process has, or one a processor if it has none yet.
pub fn work<T: Send>(
    py: Python<'_>,
    told: Option<Py<PyAny>>,
    job: impl FnOnce(&Progress) -> Result<T> + Send,
) -> PyResult<T> {
    alone(py, told, |progress| embedded::set_threads(None).and_then(|()| job(progress)))
}

/// Does some work in a thread, with `told` (if it is not `None`) called from this one with each event, a dictionary.
/// An exception that it raises, and Ctrl-C, stop the work; they are raised when it has stopped.
pub fn alone<T: Send>(
    py: Python<'_>,
    told: Option<Py<PyAny>>,
    job: impl FnOnce(&Progress) -> Result<T> + Send,
) -> PyResult<T> {
    let _under_way = UnderWay::begin();
    let listens = told.is_some();
    let (sender, receiver) = channel::<Value>();
    // Only one thread receives; but a reference to it must cross where the lock is let go.
    let receiver = Mutex::new(receiver);
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("engine".into()).spawn_scoped(scope, move || {
            // Lives as long as the work, also where nothing is told.
            let _until_the_end = sender.clone();
            job(&progress(listens, sender))
        });
        let thread = thread.map_err(|e| raised(py, &Error::Memory(format!("no thread for the work: {e}"))))?;
        let mut stopped: Option<PyErr> = None;
        // Ends when the thread has let go of its sender.
        loop {
            let event = py.detach(|| match receiver.lock() {
                Ok(receiver) => receiver.recv_timeout(PATIENCE),
                Err(_) => Err(RecvTimeoutError::Disconnected),
            });
            let seen = match (event, &told) {
                (Err(RecvTimeoutError::Disconnected), _) if thread.is_finished() => break,
                (Err(RecvTimeoutError::Disconnected), _) => {
                    py.detach(|| std::thread::sleep(Duration::from_millis(1)));
                    py.check_signals()
                }
                (Ok(event), Some(told)) if stopped.is_none() => {
                    dictionary(py, &event).and_then(|event| told.call1(py, (event,))).map(drop)
                }
                _ => py.check_signals(),
            };
            if let Err(error) = seen
                && stopped.is_none()
            {
                stopped = Some(error);
                interrupt::ask_to_stop();
            }
        }
        let done = thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        match stopped {
            Some(error) => Err(error),
            None => done.map_err(|error| raised(py, &error)),
        }
    })
}

fn progress(listens: bool, sender: Sender<Value>) -> Progress {
    if !listens {
        return Progress::new(Style::Quiet);
    }
    let sender = Mutex::new(sender);
    // Nobody listens any more when the work was stopped: no reason to fail.
    Progress::to(Arc::new(move |event| {
        if let Ok(sender) = sender.lock() {
            let _ = sender.send(event.clone());
        }
    }))
}

/// JSON as Python's own objects.
pub fn dictionary(py: Python<'_>, value: &Value) -> PyResult<Py<PyAny>> {
    Ok(py.import("json")?.call_method1("loads", (value.to_string(),))?.unbind())
}
