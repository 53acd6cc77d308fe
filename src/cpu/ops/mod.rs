//! The arithmetic of the network, one file an op: its parameters, its shape rule and its CPU code.
//!
//! Ops take and return contiguous channels-last [`Tensor`](crate::net::tensor::Tensor)s and a
//! [`Cpu`](crate::cpu::device::Cpu) to run on. Three are fusions, so that no volume of full resolution is stored that
//! need not be: [`sweep`] (warp, gate, aggregation and the first strided convolution), [`head`] (last upsampling,
//! logits and depth) and convolution with bias, residual and ReLU.

// Register tiles are indexed by pixel and vector, which reads better than zipped iterators.
#![allow(clippy::needless_range_loop)]

pub mod conv;
pub mod conv_backward;
pub mod convex;
pub mod cost_volume;
pub mod depth;
pub mod depth_backward;
pub mod depthwise;
pub mod head;
pub mod narrow;
pub mod ncc;
pub mod norm;
pub mod pixel_statistics;
pub mod pixel_statistics_backward;
pub mod pointwise;
pub mod reduce;
pub mod resample;
pub mod sweep;
pub mod sweep_backward;
pub mod sweep_fused;
pub mod warp;
