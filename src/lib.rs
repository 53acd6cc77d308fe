//! Multi-view stereo: calibrated photos in, dense depth maps and one coloured point cloud out.
//!
//! One pixel's way through the crate: [`scene`] finds the photos and cameras, undistorts and scales them, [`net`] turns
//! a reference view and its source views into depth and confidence with the arithmetic in [`cpu`] or [`cuda`], [`maps`]
//! merges the levels, [`fusion`] checks the maps against each other and makes points, and [`files`] writes them.

pub mod error;

pub mod host;

pub mod files;

pub mod scene;

pub mod maps;

pub mod fusion;

pub mod net;

pub mod cpu;

pub mod cuda;

pub mod manifest;

pub mod evaluation;
pub mod synth;

pub mod draw;

pub mod run;

pub mod train;

pub mod bench;
pub mod doctor;

pub use error::{Error, Result};
