//! The machine and the terminal: memory that is free and taken, progress, Ctrl-C, where the time went, and numbers by
//! chance that are the same on every machine.
//!
//! Nothing here knows what the program is for.

pub mod interrupt;
pub mod memory;
pub mod progress;
pub mod random;
pub mod trace;
