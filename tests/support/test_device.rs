//! The device that tests run graphs on: the emulated one, or a GPU where ENGINE_TEST_DEVICE=cuda says so
//! (tools/gpu_check.sh does).
//!
//! The test binary must have `mod emulator` beside it.
#![allow(dead_code)] // every test binary takes its own part

use std::sync::{Arc, OnceLock};

use engine::cuda::driver::Driver;

use super::emulator::{Build, emulator};

/// Whether a GPU is meant.
pub fn on_gpu() -> bool {
    std::env::var("ENGINE_TEST_DEVICE").is_ok_and(|device| device == "cuda")
}

/// The device, or `None` after a line that says what was skipped; under ENGINE_REQUIRE_CUDA and
/// ENGINE_REQUIRE_EMULATOR that is a failure.
pub fn test_device(build: Build) -> Option<Arc<dyn Driver>> {
    if on_gpu() { gpu() } else { emulator(build) }
}

/// The first GPU.
pub fn gpu() -> Option<Arc<dyn Driver>> {
    static GPU: OnceLock<Option<Arc<dyn Driver>>> = OnceLock::new();
    let device = GPU.get_or_init(|| match engine::cuda::open(0) {
        Ok(device) => Some(device),
        Err(error) => {
            assert!(std::env::var_os("ENGINE_REQUIRE_CUDA").is_none(), "{error}, and ENGINE_REQUIRE_CUDA is set");
            eprintln!("skipped: no CUDA device ({error})");
            None
        }
    });
    device.clone()
}
