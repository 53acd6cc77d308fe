//! A finished run of a scene that was seen from above as maps: a digital surface model and a true orthophoto.
//!
//! [`mapping`] does it as it was told ([`options`]). The [`frame`] says where up is, and has the grid of cells. Depth
//! maps are filtered as for a mesh and put aside. Views say how high each cell is ([`heights`]), small [`gaps`] are
//! closed, and what each view [sees](sight) of that surface tells the [`colours`]. Rasters lie on disk in [`tiles`]; a
//! [`plan`] says how many are in memory at once. [`geotiff`] writes them. docs/MAP.md tells how good they are.

pub mod colours;
pub mod frame;
pub mod gaps;
pub mod geotiff;
pub mod heights;
pub mod mapping;
pub mod options;
pub mod plan;
pub mod sight;
pub mod tiles;
