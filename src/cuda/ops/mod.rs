//! The ops on a device: each file checks shapes, appends the launches of the kernel file of the same name to a graph, and notes its gradients.

pub mod conv;
pub mod conv_gradient;
pub mod depthwise;
pub mod head;
pub mod image;
pub mod loss;
pub mod norm;
pub mod pointwise;
pub mod reduce;
pub mod resample;
pub mod sweep;
