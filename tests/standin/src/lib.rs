//! A stand-in for CUDA's driver (`libcuda.so.1`), for tests on machines without a GPU: the program loads it by the path
//! by which it loads the driver, and its kernels run on the interpreter of PTX (docs/DRIVER.md).
//!
//! It is as unkind as the driver may be. Work runs when somebody waits for it, or at random; page-locked memory is read
//! when the copy runs; memory that is freed is gone at once; a capture refuses what the driver refuses; every handle is
//! checked against the current context. What a program should not do is written to a report, whether or not the driver
//! would return an error.
//!
//! `settings` reads what a test wants, `state` holds contexts, streams and memory, `queue` decides when work runs,
//! `silicon` runs it, `entry` is what all entry points have in common, and the `*_calls` are the entry points. They
//! have the names and types of the driver's interface. `cudnn_calls`, `cublas_calls` and `nvjpeg_calls` are libraries
//! beside it, `nvtx` a profiler.

pub mod codes;
mod compiled;
mod entry;
mod queue;
mod report;
mod settings;
mod silicon;
mod state;

/// Defines an entry point: what it is called with, and what it does to the state.
macro_rules! entry {
    ($(#[$doc:meta])* $name:ident($($argument:ident: $type:ty),*), |$state:pat_param, $fault:pat_param| $body:expr) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// As the driver's interface says of its pointers.
        #[unsafe(no_mangle)]
        #[allow(non_snake_case, clippy::too_many_arguments, reason = "the driver's")]
        pub unsafe extern "C" fn $name($($argument: $type),*) -> std::ffi::c_int {
            let told = || {
                let list: &[String] = &[$(format!("{:?}", $argument)),*];
                list.join(", ")
            };
            super::entry::call(stringify!($name), told, |$state, $fault| $body)
        }
    };
}

pub mod cublas_calls;
pub mod cudnn_calls;
pub mod device_calls;
pub mod graph_calls;
pub mod kernel_calls;
pub mod memory_calls;
pub mod nvjpeg_calls;
mod nvtx;
pub mod stream_calls;
