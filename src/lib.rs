//! Multi-view stereo: calibrated photos in, dense depth maps and one coloured point cloud out.
//!
//! One pixel's way through the crate: [`scene`] finds the photos and cameras (read by [`formats`]), [`photo`]
//! undistorts and scales them, [`net`] turns a reference view and its source views into depth and confidence
//! with the arithmetic in [`ops`], [`pyramid`] merges the levels, [`fusion`] checks the maps against each other
//! and makes points, and [`formats::ply`] writes them.

pub mod error;

pub mod camera;
pub mod lens;
pub mod map;
pub mod photo;
pub mod scene;

pub mod formats;

pub mod simd;
pub mod tape;
pub mod tensor;
pub mod trace;

pub mod ops;

pub mod net;

pub mod cuda;

pub mod canvas;
pub mod consistency;
pub mod fusion;
pub mod normals;
pub mod preview;
pub mod pyramid;

pub mod bench;
pub mod doctor;
pub mod evaluation;
pub mod finished_run;
pub mod interrupt;
pub mod manifest;
pub mod memory;
pub mod output;
pub mod pipeline;
pub mod progress;
pub mod synth;
pub mod train;

pub use error::{Error, Result};
