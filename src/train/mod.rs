//! Training: from random weights, or from a checkpoint, to a network that reconstructs real scenes.
//!
//! A [`sample::Dataset`] gives photos, cameras and true depth of a reference view; the network runs on the
//! [tape](crate::cpu::tape), the loss's gradient flows back, and an optimizer moves the weights ([`run`]). The same
//! options, data and seed give the same weights, whether a run was stopped in between or not. The network itself and
//! its operations are below, in [`crate::net`] and [`crate::cpu`].

pub mod augment;
pub mod calibrate;
mod colour;
pub mod dtu;
pub mod events;
pub mod exchange;
mod folder;
pub mod frame;
pub mod journal;
mod logistic;
pub mod memory;
pub mod mix;
pub mod optimizer;
pub mod options;
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
mod teachers;
pub mod team;
pub mod validation;
