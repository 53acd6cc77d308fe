//! The processor as an executor of the network: for inference ([`network`], [`infer`]) and for training ([`train`]).
//!
//! Below the executors: the ops, each with its gradient beside it ([`ops`]), written once over an instruction set
//! ([`simd`]); the pool of buffers ([`device`]); the tape that training records on ([`tape`]). Nothing here knows a
//! scene's files, and no result depends on the number of threads.

pub mod bands;
pub mod device;
pub mod infer;
pub mod memory;
pub mod network;
pub mod ops;
pub mod simd;
pub mod tape;
pub mod train;
pub mod weights;
