//! The main job: a scene's photos to depth maps and a point cloud, and finished depth maps to a point cloud.
//!
//! Photos without cameras get them from COLMAP first ([`calibration`]).
//!
//! [`infer`] goes from stage to stage: what it is told ([`options`]) becomes a plan before a photo is decoded
//! ([`plan`]), which must fit into memory ([`memory`]); the network makes the maps of every level of every view
//! ([`depth`]), on one device or on several, in an order that reuses features ([`schedule`]) and keeps beside each what
//! made it, so that a stopped run goes on ([`resume`]) and a finished one is recognised ([`finished`]); then levels are
//! merged ([`merging`]), maps written ([`write`](mod@write)), and views fused ([`cloud`]), on the processor or where
//! the maps were made ([`device`]), one by one where they do not fit into memory ([`fusion_memory`]), and all is told
//! ([`report`]). [`fuse`] does the last of it with maps that are there ([`fuse_views`]), [`fuse_grid`] with many
//! settings. A cloud may be made in parts, too: space is cut ([`tile_plan`]), a tile reads the views that it needs
//! ([`tile_views`], [`tiles`]), and the parts ([`tile_part`], [`tile_files`]) become one cloud ([`joining`]). How maps
//! are merged and fused stands in rooms of their own.

mod ahead;
pub mod calibration;
pub mod cloud;
pub mod depth;
pub mod device;
pub mod finished;
pub mod fuse;
pub mod fuse_grid;
pub mod fuse_views;
pub mod fusion_memory;
pub mod infer;
mod jobs;
pub mod joining;
mod lane;
pub mod memory;
pub mod merging;
pub mod opening;
pub mod options;
pub mod plan;
pub mod products;
pub mod report;
pub mod resume;
pub mod schedule;
pub mod tile_files;
pub mod tile_part;
pub mod tile_plan;
pub mod tile_views;
pub mod tiles;
pub mod write;
mod writing;
