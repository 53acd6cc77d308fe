//! Every kernel, forward and backward, on the emulated device: against the f64 references and the CPU backend, with
//! the detector watching.

#[allow(dead_code, reason = "shared with tests of whole networks")]
#[path = "../support/emulator.rs"]
mod emulator;
#[path = "../support/painted_plane.rs"]
mod painted_plane;
#[allow(dead_code, reason = "shared with tests of more ops")]
#[path = "../support/reference.rs"]
mod reference;
#[path = "../support/reference_sweep.rs"]
mod reference_sweep;
#[allow(dead_code, reason = "shared with tests of the processor's geometry")]
#[path = "../support/synthetic.rs"]
mod synthetic;
#[path = "../support/test_device.rs"]
mod test_device;

mod backward;
mod consistency;
mod conv;
mod depthwise;
mod detector;
mod faults;
mod fusion;
mod head;
mod image;
mod joint;
mod loss;
mod narrow;
mod narrow_gradient;
mod norm;
mod optimizer;
mod pointwise;
mod reduce;
mod refine;
mod resample;
mod run;
mod sweep;

/// The same tests once more on what nvcc makes of the kernels, through this binary with another device.
#[test]
fn the_same_on_the_interpreter() {
    let elsewhere = test_device::on_gpu() || test_device::on_interpreter().is_some();
    if elsewhere || test_device::nvcc::nvcc().is_none() {
        return;
    }
    let me = std::env::current_exe().unwrap();
    let mut command = std::process::Command::new(me);
    // The faults have devices of their own.
    let output = command.args(["--skip", "faults::"]).env("ENGINE_TEST_DEVICE", "ptx").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// What every run says where there is no GPU: the same tests run on one, through this binary with another device.
#[test]
fn the_same_on_a_gpu() {
    if test_device::on_gpu() || test_device::on_interpreter().is_some() || test_device::gpu().is_none() {
        return;
    }
    let me = std::env::current_exe().unwrap();
    let mut command = std::process::Command::new(me);
    let output = command.args(["--test-threads", "1"]).env("ENGINE_TEST_DEVICE", "cuda").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
