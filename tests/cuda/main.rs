//! Every kernel, forward and backward, on the emulated device: against the f64 references and the CPU backend, with the detector watching.

#[path = "../support/emulator.rs"]
mod emulator;
#[allow(dead_code, reason = "shared with tests of more ops")]
#[path = "../support/reference.rs"]
mod reference;
#[allow(dead_code, reason = "shared with tests of the processor's geometry")]
#[path = "../support/synthetic.rs"]
mod synthetic;

mod backward;
mod consistency;
mod conv;
mod depthwise;
mod detector;
mod fusion;
mod head;
mod image;
mod loss;
mod norm;
mod optimizer;
mod pointwise;
mod reduce;
mod resample;
mod run;
mod sweep;
