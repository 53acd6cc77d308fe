//! The interpreter of PTX that the tests of kernels use, without the engine's device around it.

#[path = "../../support/ptx/arithmetic.rs"]
pub mod arithmetic;
#[path = "../../support/ptx/code.rs"]
pub mod code;
#[path = "../../support/ptx/decode.rs"]
mod decode;
#[path = "../../support/ptx/figures.rs"]
pub mod figures;
#[path = "../../support/ptx/lanes.rs"]
pub mod lanes;
#[path = "../../support/ptx/machine.rs"]
pub mod machine;
#[path = "../../support/ptx/memory.rs"]
pub mod memory;
#[path = "../../support/ptx/text.rs"]
pub mod text;
#[path = "../../support/ptx/together.rs"]
mod together;
#[path = "../../support/ptx/warp.rs"]
mod warp;
