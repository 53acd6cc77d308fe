//! The real program on the stand-in for CUDA's driver (docs/DRIVER.md): the calls that it makes, in an order that the
//! driver may choose, with mistakes put into them, and what it says when the driver refuses.
//!
//! Without the feature `cuda` there is nothing to run; the tests of the stand-in itself run always.

#[cfg(unix)]
#[allow(dead_code, reason = "a device of its own, of which these tests use the kernels alone")]
#[path = "../support/emulator.rs"]
mod emulator;
#[cfg(unix)]
#[path = "../support/program.rs"]
mod program;
#[cfg(unix)]
#[allow(dead_code, reason = "a library of its own, which has more than these tests call")]
#[path = "../standin/src/lib.rs"]
mod standin;

#[cfg(unix)]
#[path = "../support/turned_scene.rs"]
mod turned_scene;

#[cfg(unix)]
mod calls;
#[cfg(unix)]
mod devices;
#[cfg(unix)]
mod faults;
#[cfg(unix)]
mod memory;
#[cfg(unix)]
mod pipeline;
#[cfg(unix)]
mod refusals;
#[cfg(unix)]
mod runs;
#[cfg(unix)]
mod stand;
