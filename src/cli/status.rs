//! `engine status`: how far a planned job is.

use std::path::PathBuf;

use clap::Args;
use engine::Result;
use engine::host::interrupt;
use engine::host::progress::Progress;
use engine::shards::status::status;

use super::options::ReportArgs;
use super::places::{CacheArgs, Places};

/// Tell how far a planned job is: views done, shards that run, failed or are lost, and the time that is left.
///
/// OUT is the folder of `engine plan`. The exit code is 0 when all is done, maps and cloud, and 9 before.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  engine status out
  engine status out --watch
  engine status out --json")]
pub struct StatusArgs {
    /// The folder with the plan
    #[arg(value_name = "OUT")]
    results: PathBuf,
    /// Tell it again whenever something has changed, until all is done
    #[arg(long, help_heading = "Plan")]
    watch: bool,
    #[command(flatten)]
    cache: CacheArgs,
    #[command(flatten)]
    pub report: ReportArgs,
}

impl StatusArgs {
    /// What may be addresses.
    pub fn places(&mut self) -> Places<'_> {
        Places {
            folders: vec![&mut self.results],
            only_records: true,
            cache: self.cache.cache.as_deref(),
            ..Places::default()
        }
    }
}

/// Does it.
pub fn run(args: &StatusArgs, progress: &Progress) -> Result<()> {
    interrupt::install()?;
    status(&args.results, args.watch, progress)
}
