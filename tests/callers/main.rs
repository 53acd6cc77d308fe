//! Whoever calls the engine otherwise than by typing all options: files and variables with options ([`options`]),
//! shells and `man` ([`shells`]), programs that have photos in memory ([`photos`]).

mod options;
mod photos;
#[path = "../support/plane_scene.rs"]
mod plane_scene;
#[path = "../support/program.rs"]
mod program;
#[path = "../support/scene_files.rs"]
mod scene_files;
mod shells;
