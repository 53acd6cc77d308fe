//! An interpreter of PTX: runs what nvcc makes of `kernels/*.cu`, for tests on machines without a GPU.
//!
//! `text` takes a module's text apart, `decode` makes a kernel (`code`) ready, `machine` launches it, `warp` and
//! `together` run its warps by the rules of `arithmetic`, `memory` checks every access, `figures` counts what it costs.
//! `tests/support/interpreter.rs` makes a device of it on which the engine's programs run, `tests/standin` a driver.
//! docs/PTX.md says what is checked and modelled.

pub mod arithmetic;
pub mod code;
mod decode;
pub mod figures;
pub mod lanes;
pub mod machine;
pub mod memory;
pub mod text;
mod together;
mod warp;
