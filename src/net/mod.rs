//! BS-MVSNet, whatever computes it: what the network is ([`model`]), what it needs of an executor ([`layers`]), its
//! configuration, its tensors by name and the files that they come in.
//!
//! Nothing here computes: executors ([`crate::cpu`], [`crate::cuda`]) stand above and run the model. The contract is
//! the PyTorch definition in `tools/reference/bs_mvsnet.py`; names of layers and tensors are its names.

pub mod backend;
pub mod confidence;
pub mod config;
pub mod layers;
pub mod model;
pub mod narrow;
pub mod outline;
pub mod parameters;
pub mod stage;
pub mod tensor;
pub mod weights;
