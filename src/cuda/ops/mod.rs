//! The ops on a device: each file checks shapes, appends the launches of the kernel file of the same name to a graph, and notes its gradients.

pub mod head;
pub mod loss;
pub mod pointwise;
pub mod sweep;
