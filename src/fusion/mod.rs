//! Finished depth maps to one coloured cloud, by several methods (SPEC "Filter and fusion"; protocol page E.7 to E.10;
//! docs/FUSION.md has the equations).
//!
//! `settings.rs` has the methods' constants with their defaults, `constants.rs` the table of their options,
//! `presets.rs` the published values, `grid.rs` what was asked for on the command line. Each method has a file,
//! `shared.rs` what several share, and `fuse.rs` calls them; `spilled.rs` does so for maps on disk, which the methods
//! do not tell from those in memory (`store.rs`). `tiled.rs` makes the points of a box in space (`tile.rs`) alone.
//! `guard.rs` drops points of the default method that other views speak against, `colour.rs` colours the others,
//! `cloud.rs` keeps the points and knows what they explain, `thin.rs` thins a cloud, and `origin.rs` keeps numbers
//! small where the scene is far away. A cloud depends on the order of the views, never on the number of threads.

pub(crate) mod block;
pub(crate) mod cloud;
mod colour;
pub mod constants;
mod disparity;
mod dynamic;
pub mod funnel;
pub mod fuse;
mod graph;
pub mod grid;
pub(crate) mod guard;
pub mod origin;
pub mod presets;
mod pyramid;
mod reprojection;
pub mod settings;
pub(crate) mod shared;
pub mod spilled;
pub(crate) mod store;
pub mod thin;
pub mod tile;
pub mod tiled;
pub mod view;
