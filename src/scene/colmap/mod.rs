//! COLMAP reconstructions: [`scene`] makes a scene of a model's tables (`model.rs`), whose `entries.rs` `binary.rs` and
//! `text.rs` read;
//! [`camera_models`] knows what the parameters of its cameras mean.
//!
//! Photos are not read here, and nothing is undistorted: a camera with distortion becomes a view with a lens.

mod binary;
pub mod camera_models;
mod entries;
mod model;
pub mod scene;
mod text;
