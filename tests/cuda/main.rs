//! Every kernel, forward and backward, on the emulated device: against the f64 references and the CPU backend, with the detector watching.

#[path = "../support/emulator.rs"]
mod emulator;
#[allow(dead_code, reason = "shared with tests of more ops")]
#[path = "../support/reference.rs"]
mod reference;

mod backward;
mod detector;
mod image;
mod norm;
mod optimizer;
mod pointwise;
mod reduce;
mod resample;
mod run;
