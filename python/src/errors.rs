//! Errors as exceptions: the classes are Python's own (`engine_mvs/_errors.py`), the text is the program's.

use engine::Error;
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;

/// The exception of an error.
pub fn raised(py: Python<'_>, error: &Error) -> PyErr {
    let class = match error {
        Error::Interrupted => return PyKeyboardInterrupt::new_err(error.to_string()),
        Error::Sample { problem, .. } => return raised(py, problem),
        Error::Input { .. } | Error::Weights { .. } | Error::Shape { .. } => "InputError",
        Error::Io { .. } => "FileError",
        Error::Memory(_) => "MemoryNeedError",
        Error::Nothing(_) => "NothingError",
        Error::Device(_) => "DeviceError",
        Error::NotFinite(_) | Error::Pending(_) | Error::Bug { .. } => "EngineError",
        // Only jobs of several processes have them, and such a job is no Python program.
        Error::InRank { .. } | Error::ToldByRank0 { .. } => "EngineError",
    };
    let made = || {
        let class = py.import("engine_mvs._errors")?.getattr(class)?;
        Ok::<_, PyErr>(PyErr::from_value(class.call1((error.to_string(), error.exit_code()))?))
    };
    made().unwrap_or_else(|failed| failed)
}
