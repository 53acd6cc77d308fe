//! The `engine` binary: parse, run, exit code.

mod cli;

use clap::Parser;
use cli::command::{self, Cli};
use engine::host::allocator::OrEnd;

/// Memory that the system refuses is one line and an exit code.
#[global_allocator]
static ALLOCATOR: OrEnd = OrEnd;

fn main() -> std::process::ExitCode {
    command::run(Cli::parse())
}
