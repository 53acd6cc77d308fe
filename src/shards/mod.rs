//! One job on many machines: a plan divides a scene's views into shards, each machine makes the maps of one shard, and
//! what they leave in the same folder is merged and fused in the end.
//!
//! No part of it talks to another. A plan ([`plan_file`]) is made once ([`planning`]) and says what every shard is; a
//! scheduler starts processes that are told the number of their shard ([`which`]); each makes the level maps of its
//! views ([`mapping`]), or merges them ([`merging`]), and tells in a file of its own how far it is ([`state`]); the
//! cloud and the mesh may be made tile by tile ([`tiling`], [`mesh_tiling`], what both share in [`tile_work`], and how
//! far it is in [`tile_status`]).
//! What is done is told by the files that are there ([`status`]), so that a shard may be run twice, or on two machines
//! at once, and a lost machine costs the view that it was at.

pub mod files;
pub mod mapping;
pub mod merging;
pub mod mesh_tiling;
pub mod pace;
pub mod plan_file;
pub mod planning;
pub mod state;
pub mod status;
pub mod tile_status;
pub mod tile_work;
pub mod tiling;
pub mod which;
