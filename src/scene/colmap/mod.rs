//! COLMAP reconstructions: [`scene`] makes a scene of a model's tables ([`model`]), whose [`entries`] [`binary`] and
//! [`text`] read.
//!
//! Photos are not read here, and nothing is undistorted: a camera with distortion becomes a view with a lens.

mod binary;
mod entries;
mod model;
pub mod scene;
mod text;
