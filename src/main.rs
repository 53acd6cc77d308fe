//! The `engine` binary: parse, run, exit code.

mod cli;

use clap::Parser;
use cli::command::{self, Cli};

fn main() -> std::process::ExitCode {
    command::run(Cli::parse())
}
