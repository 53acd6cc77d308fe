//! The command line: what was typed becomes typed options, one library call does the work, and an error becomes one
//! line and an exit code.
//!
//! `command.rs` has the program's commands, each of which has a file of its name; `options.rs` has what several share.

mod bench;
mod calibrate;
pub mod command;
mod doctor;
mod eval;
mod eval_clouds;
mod eval_depth;
mod export;
mod fuse;
mod infer;
mod info;
mod options;
mod report;
mod synth;
mod train;
mod train_data;
