//! The command line: what was typed becomes typed options, one library call does the work, and an error becomes one
//! line and an exit code.
//!
//! `command.rs` has the program's commands, each of which has a file of its name; `options.rs` has what several share.
//! Options also come from the environment and from a file: `layers.rs` puts them together.

mod bench;
mod calibrate;
pub mod command;
mod config;
mod doctor;
pub mod embedded;
mod eval;
mod eval_clouds;
mod eval_depth;
mod export;
mod fuse;
mod given;
mod infer;
mod info;
mod layers;
mod machine;
mod map;
mod merge;
mod mesh;
mod option_file;
mod option_names;
mod options;
mod places;
mod plan;
mod planned;
mod quality;
mod report;
mod shell;
mod status;
mod synth;
mod train;
mod train_data;
mod view;
