//! Training: from random weights, or from a checkpoint, to a network that reconstructs real scenes.
//!
//! One step's way: a [`sample::Dataset`] gives photos, cameras and true depth of a reference view; the network runs on
//! the [tape](crate::cpu::tape), the loss's gradient flows back, and an optimizer moves the weights.

pub mod augment;
mod colour;
pub mod dtu;
pub mod events;
pub mod frame;
pub mod journal;
pub mod mix;
pub mod optimizer;
pub mod panels;
pub mod prefetch;
pub mod run;
pub mod sample;
pub mod scenes;
pub mod schedule;
pub mod split_metrics;
pub mod state;
pub mod step;
pub mod synthetic;
pub mod validation;
