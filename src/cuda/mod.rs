//! The engine on an NVIDIA GPU.
//!
//! A network is written down as a [`graph::Graph`] of launches ([`ops`]), its memory is planned ([`plan`]), and a [`program::Program`] runs it, view
//! after view, on whatever a [`driver::Driver`] stands for. The kernels are in `kernels/`. All of it but the driver for real devices is compiled
//! always, and the tests run it on an emulated device, so that one without a GPU sees every kernel work.

pub mod buffer;
pub mod consistency;
pub mod convolution;
pub mod driver;
pub mod fusion;
pub mod graph;
pub mod ops;
pub mod plan;
pub mod program;
pub mod pyramid;
