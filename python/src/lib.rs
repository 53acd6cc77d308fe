//! The module `engine_mvs._engine`: the engine's functions for the Python package beside it, which has the types, the
//! documentation and the checks of arrays.
//!
//! Work runs in a thread of its own without Python's lock ([`work`]); errors become exceptions with the program's own
//! text ([`errors`]).

mod arrays;
mod clouds;
mod errors;
mod network;
mod runs;
mod scene;
mod work;

use std::ffi::OsString;

use engine::host::allocator::OrEnd;
use pyo3::prelude::*;

/// As in the program: memory that the system refuses is one line and an exit code.
#[global_allocator]
static ALLOCATOR: OrEnd = OrEnd;

/// Runs the program with these words, the first of which is its name, and gives its exit code.
#[pyfunction]
fn command_line(py: Python<'_>, words: Vec<OsString>) -> u8 {
    py.detach(|| engine::command_line(words))
}

/// Starts this many threads for all work of the process.
#[pyfunction]
#[pyo3(signature = (threads=None))]
fn set_threads(py: Python<'_>, threads: Option<usize>) -> PyResult<()> {
    py.detach(|| engine::embedded::set_threads(threads)).map_err(|e| errors::raised(py, &e))
}

#[pymodule]
fn _engine(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_function(wrap_pyfunction!(command_line, module)?)?;
    module.add_function(wrap_pyfunction!(set_threads, module)?)?;
    module.add_function(wrap_pyfunction!(runs::infer, module)?)?;
    module.add_function(wrap_pyfunction!(runs::infer_scene, module)?)?;
    module.add_function(wrap_pyfunction!(clouds::fuse, module)?)?;
    module.add_function(wrap_pyfunction!(clouds::write_ply, module)?)?;
    module.add_function(wrap_pyfunction!(clouds::evaluate, module)?)?;
    module.add_function(wrap_pyfunction!(clouds::evaluate_cloud, module)?)?;
    module.add_function(wrap_pyfunction!(scene::read_scene, module)?)?;
    module.add_class::<scene::SceneFiles>()?;
    module.add_class::<network::Network>()?;
    module.add_class::<network::Features>()?;
    Ok(())
}
