//! Training: from random weights, or from a checkpoint, to a network that reconstructs real scenes.
//!
//! One step's way: a [`sample::Dataset`] gives photos, cameras and true depth of a reference view; the network runs on the
//! [tape](crate::tape), the loss's gradient flows back, and an optimizer moves the weights.

pub mod events;
pub mod journal;
pub mod metrics;
pub mod panels;
pub mod sample;
pub mod split_metrics;
