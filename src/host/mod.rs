//! The machine and the terminal: memory that is free, taken and refused, progress, Ctrl-C, where the time went,
//! numbers by chance that are the same on every machine, and what copies are called.
//!
//! Nothing here knows what the program is for.

pub mod allocator;
pub mod collective;
mod control_groups;
pub mod copies;
pub mod disk;
pub mod interrupt;
pub mod memory;
pub mod memory_limits;
pub mod mpi;
pub mod progress;
pub mod random;
pub mod terminal;
pub mod trace;
