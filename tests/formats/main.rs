//! Foreign camera formats: the same scene in every format gives the same cameras, damaged files give one line, and many
//! cameras are read in time that grows with their number.

mod beside;
mod damaged;
#[path = "../support/depth_files.rs"]
mod depth_files;
mod depths;
mod faces;
#[path = "../support/format_files.rs"]
mod format_files;
#[path = "../support/format_opf.rs"]
mod format_opf;
#[path = "../support/format_trees.rs"]
mod format_trees;
mod georeferences;
mod known;
mod lenses;
mod opf;
mod plain;
mod rigs;
#[path = "../support/room.rs"]
mod room;
#[path = "../support/scene_files.rs"]
mod scene_files;
mod structured;
mod truth;
mod unread;
mod variants;
mod whole;
