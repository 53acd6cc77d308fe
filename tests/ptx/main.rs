//! The interpreter of PTX itself: its arithmetic, what it finds, and that mistakes put into the engine's kernels do not
//! get past it. `tests/cuda` runs every kernel on it (ENGINE_TEST_DEVICE=ptx).

#[allow(dead_code, reason = "shared with tests that run the engine's programs on it")]
#[path = "../support/interpreter.rs"]
mod interpreter;
#[path = "../support/nvcc.rs"]
mod nvcc;

mod arithmetic;
mod findings;
mod kernels;
mod small;
mod versions;
