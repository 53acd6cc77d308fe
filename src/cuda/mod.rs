//! The engine on an NVIDIA GPU.
//!
//! A network is written down as a [`graph::Graph`] of launches ([`ops`]), its memory is planned ([`placement`]), and a
//! [`program::Program`] runs it, view after view, on whatever a [`driver::Driver`] stands for. The kernels are in
//! `kernels/`. All of it but the driver for real devices is compiled always, and the tests run it on an emulated
//! device, so that one without a GPU sees every kernel work.

pub mod backward;
pub mod branches;
pub mod buffer;
pub mod consistency;
pub mod convolution;
#[cfg(feature = "cuda")]
mod cublas;
#[cfg(feature = "cuda")]
mod cudnn;
mod depth_graph;
#[cfg(feature = "cuda")]
pub mod device;
pub mod driver;
#[cfg(feature = "cuda")]
mod failure;
mod finished;
pub mod folded;
pub mod fusion;
pub mod graph;
#[cfg(feature = "cuda")]
mod handles;
pub mod inference;
pub mod joint;
pub mod layers;
#[cfg(feature = "cuda")]
mod libraries;
pub mod merge;
pub mod narrow;
#[cfg(feature = "cuda")]
mod nvjpeg;
pub mod ops;
mod photos;
pub mod placement;
mod pool;
pub mod program;
#[cfg(feature = "cuda")]
mod ranges;
pub mod refine;
mod rooms;
mod staging;
pub mod storage;
pub mod trained;
pub mod training;

use std::sync::Arc;

#[cfg(not(feature = "cuda"))]
use crate::error::Error;
use crate::error::Result;

/// The GPU of this index.
///
/// # Errors
/// [`crate::Error::Device`] where there is none, its driver is missing or too old, or the program was built without
/// the feature `cuda`.
#[cfg(feature = "cuda")]
pub fn open(index: usize) -> Result<Arc<dyn driver::Driver>> {
    Ok(Arc::new(device::Gpu::open(index)?))
}

/// Without the feature `cuda` there is no GPU to open.
///
/// # Errors
/// [`crate::Error::Device`], always.
#[cfg(not(feature = "cuda"))]
pub fn open(_: usize) -> Result<Arc<dyn driver::Driver>> {
    Err(Error::Device(
        "this build has no CUDA; build it with `cargo build --release --features cuda`, or use --device cpu".into(),
    ))
}

/// How many GPUs there are: none where they cannot be used.
pub fn count() -> usize {
    #[cfg(feature = "cuda")]
    return device::count().unwrap_or(0);
    #[cfg(not(feature = "cuda"))]
    0
}

/// Whether this program was built with the feature `cuda`.
pub const BUILT_IN: bool = cfg!(feature = "cuda");
