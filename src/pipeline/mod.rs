//! The main job.
pub mod schedule;
