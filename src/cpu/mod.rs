//! The processor: tensors, SIMD kernels, the ops of the network forward and backward, and the tape that training
//! records on.
//!
//! Nothing here knows a scene or a file. Kernels are written once, generic over [`simd::Isa`].

pub mod ops;
pub mod simd;
pub mod tape;
pub mod tensor;
