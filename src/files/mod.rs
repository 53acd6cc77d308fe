//! Bytes in and out: images, maps (PFM, COLMAP's), PLY clouds, MAT files, the folder that a run writes into, and
//! copies of folders that lie elsewhere.
//!
//! Nothing here knows a scene, a camera or a network. Every reader checks the sizes in a header against the file
//! before it takes memory; every writer leaves a whole file or none ([`atomic`]).

pub mod atomic;
pub mod cloud_points;
mod colmap_map;
pub mod depth_file;
pub mod depth_maps;
mod e57_points;
pub mod folder;
pub mod hash;
#[cfg(feature = "heif")]
mod heif;
pub mod image;
pub mod input;
pub mod jpeg;
#[cfg(feature = "jxl")]
mod jxl;
pub mod known_hashes;
mod las_points;
pub mod lock;
pub mod map;
pub mod mat;
pub mod mirror;
pub mod names;
pub mod npy;
pub mod pfm;
pub mod photo_format;
pub mod ply;
pub mod ply_cloud;
pub mod ply_points;
pub mod ply_storage;
pub mod point_file;
pub mod scratch;
pub mod subfolders;
pub mod together;
