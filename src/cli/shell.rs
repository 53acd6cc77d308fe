//! What shells and `man` want to know of the commands: both are made from the same description as `--help`.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;
use engine::files::atomic::write_whole;
use engine::host::progress::print_line;
use engine::{Error, Result};

/// Print a script that completes commands and options in a shell.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  engine completions bash > ~/.local/share/bash-completion/completions/engine
  engine completions zsh > ~/.zfunc/_engine
  engine completions fish > ~/.config/fish/completions/engine.fish")]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Write manual pages, one for each command.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  engine man ~/.local/share/man/man1 && man engine-infer")]
pub struct ManArgs {
    /// Folder for the pages, created if missing
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Prints the script.
pub fn completions(args: &CompletionsArgs, mut program: Command) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut program, "engine", &mut script);
    // `print_line` ends it with a line break of its own.
    print_line(String::from_utf8_lossy(&script).trim_end());
    Ok(())
}

/// Writes the pages.
pub fn man(args: &ManArgs, mut root: Command) -> Result<()> {
    std::fs::create_dir_all(&args.folder).map_err(Error::io("create the folder of manual pages", &args.folder))?;
    root.build();
    let mut written = Vec::new();
    pages(&root, &args.folder, &mut written)?;
    print_line(&format!("{} pages in {}", written.len(), args.folder.display()));
    Ok(())
}

/// The page of a command, then those of the commands below it.
fn pages(command: &Command, folder: &Path, written: &mut Vec<PathBuf>) -> Result<()> {
    if command.get_name() == "help" {
        return Ok(());
    }
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let path = folder.join(format!("{name}.1"));
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page).map_err(Error::io("make the manual page", &path))?;
    write_whole(&path, "write the manual page", |file| file.write_all(&page))?;
    written.push(path);
    command.get_subcommands().try_for_each(|below| pages(below, folder, written))
}
