//! The device that tests run graphs on: the emulated one; where ENGINE_TEST_DEVICE=cuda says so (tools/gpu_check.sh
//! does) a GPU; with ENGINE_TEST_DEVICE=ptx the interpreter of what nvcc made, and with ptx-apart the same, compiled so
//! that every operation rounds, as the emulator's do.
//!
//! The test binary must have `mod emulator` beside it.
#![allow(dead_code)] // every test binary takes its own part

#[path = "interpreter.rs"]
pub mod interpreter;
#[path = "nvcc.rs"]
pub mod nvcc;

use std::cell::RefCell;
use std::sync::{Arc, OnceLock};

use engine::cuda::driver::Driver;
use interpreter::{Interpreter, Library, library};
use nvcc::Sums;

use super::emulator::{Build, emulator};

fn wanted(device: &str) -> bool {
    std::env::var("ENGINE_TEST_DEVICE").is_ok_and(|wanted| wanted == device)
}

/// Whether a GPU is meant.
pub fn on_gpu() -> bool {
    wanted("cuda")
}

/// Whether the interpreter is meant, and how its kernels are compiled.
pub fn on_interpreter() -> Option<Sums> {
    let sums = if wanted("ptx-apart") { Sums::Apart } else { Sums::Fused };
    (sums == Sums::Apart || wanted("ptx")).then_some(sums)
}

/// The device, or `None` after a line that says what was skipped; under ENGINE_REQUIRE_CUDA, ENGINE_REQUIRE_EMULATOR
/// and ENGINE_REQUIRE_NVCC that is a failure.
pub fn test_device(build: Build) -> Option<Arc<dyn Driver>> {
    if let Some(faulty) = INSTEAD.with_borrow(Clone::clone) {
        return Some(Arc::new(Interpreter::new(faulty)));
    }
    match on_interpreter() {
        Some(sums) => Some(Arc::new(Interpreter::new(library(sums)?))),
        None if on_gpu() => gpu(),
        None => emulator(build),
    }
}

thread_local! {
    static INSTEAD: RefCell<Option<Arc<Library>>> = const { RefCell::new(None) };
}

/// Lets this thread's tests run on the interpreter with these kernels while `work` lasts, even if it panics.
pub fn with_kernels<T>(library: Arc<Library>, work: impl FnOnce() -> T) -> T {
    struct Back;
    impl Drop for Back {
        fn drop(&mut self) {
            INSTEAD.set(None);
        }
    }
    let _back = Back;
    INSTEAD.set(Some(library));
    work()
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
