//! Finished depth maps to one coloured cloud, by several methods (SPEC "Filter and fusion"; protocol page E.7 to E.10;
//! docs/FUSION.md has the equations).
//!
//! `settings.rs` has the methods' constants with their defaults, `constants.rs` the table of their options,
//! `presets.rs` the published values, `grid.rs` what was asked for on the command line. Each method has a file,
//! `shared.rs` what several share, and `fuse.rs` calls them. A cloud depends on the order of the views, never on the
//! number of threads.

pub mod constants;
mod disparity;
mod dynamic;
pub mod funnel;
pub mod fuse;
mod graph;
pub mod grid;
pub mod presets;
mod pyramid;
mod reprojection;
pub mod settings;
mod shared;
pub mod view;
