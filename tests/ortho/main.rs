//! `engine map` through the binary, on runs whose depth maps and photos are exact: a ground that is a formula, with
//! blocks on it, seen from above ([`site`]). Heights, colours and edges are compared with the formula in [`truth`];
//! that the files are what they must be, read by a reader of the tests' own ([`reader`]) and by rasterio, in [`files`];
//! that tiles, threads and memory change nothing, and what becomes of hopeless runs, in [`bounds`].

mod bounds;
mod files;
#[path = "../support/program.rs"]
mod program;
mod reader;
#[path = "../support/scene_files.rs"]
mod scene_files;
mod site;
#[allow(dead_code)] // the tests of meshes use the rest
#[path = "../mesh/solids.rs"]
mod solids;
mod truth;
