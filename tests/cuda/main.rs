//! Every kernel, forward and backward, on the emulated device: against the f64 references and the CPU backend, with the detector watching.

#[path = "../support/emulator.rs"]
mod emulator;
#[allow(dead_code, reason = "shared with tests of more ops")]
#[path = "../support/reference.rs"]
mod reference;

mod conv;
mod depthwise;
mod detector;
mod head;
mod loss;
mod pointwise;
mod run;
mod small;
mod sweep;
