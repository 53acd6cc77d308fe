//! The `engine` binary: what was typed goes to the library, an exit code comes back.

use engine::host::allocator::OrEnd;

/// Memory that the system refuses is one line and an exit code.
#[global_allocator]
static ALLOCATOR: OrEnd = OrEnd;

fn main() -> std::process::ExitCode {
    engine::command_line(std::env::args_os()).into()
}
